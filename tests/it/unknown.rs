//! What the mirror cannot foresee: commands under another name, PostgreSQL's death under load.

use std::time::Duration;

use support::compare::Sides;
use support::load::RandomLoad;
use support::{Postgres, Redis, Tandem, TandemOptions, Value, seed};

fn options(redis: &Redis, postgres: &Postgres) -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(redis)
        .postgres(postgres)
        .mode("dual_write")
        .allow("is not understood")
}

fn counter(tandem: &Tandem, name: &str) -> u64 {
    tandem.status()[name].parse().expect("a number")
}

/// A renamed command is in the stream under its new name, which only Redis knows.
#[test]
fn keys_of_an_unknown_command_are_read_again() {
    let redis = Redis::options().with("rename-command", "HSET hsetx").start();
    let postgres = Postgres::start();
    let tandem = options(&redis, &postgres).start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    for n in 0..50 {
        let field = format!("field:{n}");
        assert_eq!(client.call(["HSETX", "hash", &field, "v"]), Value::Int(1));
    }
    for line in ["MULTI", "HSETX other a 1", "INCR n", "HSETX other b 2", "HDEL other a", "EXEC"] {
        let reply = client.run(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    assert_eq!(client.run("DEL gone"), Value::Int(0));
    assert_eq!(client.run("HSETX gone a 1"), Value::Int(1));
    assert_eq!(client.run("DEL gone"), Value::Int(1));
    Sides::new(&redis, &postgres).assert_equal();
    assert_eq!(postgres.sql("SELECT count(*) FROM tandem.hashes"), "51");
    assert!(counter(&tandem, "mirror_unknown_commands") > 0);
    assert!(tandem.log().contains("\"hsetx\""), "{}", tandem.log());
}

/// SIGKILL for PostgreSQL while it takes changes of every type.
#[test]
fn random_load_survives_the_death_of_postgres() {
    let seed = seed(31);
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres)
        .set("strategy", "ack_timeout_ms", 500)
        // PostgreSQL goes away on purpose.
        .allow("ostgre")
        .allow("acknowledged by Redis")
        .start();
    tandem.wait_streaming();
    let port = tandem.port();
    std::thread::scope(|scope| {
        scope.spawn(|| RandomLoad::new(port, seed, Duration::from_secs(8)).run());
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(1500));
            postgres.kill9();
            postgres.restart();
        }
    });
    Sides::new(&redis, &postgres).assert_equal();
    let full: u64 = counter(&tandem, "mirror_full_syncs");
    assert_eq!(full, 1, "what PostgreSQL missed is in the log");
}
