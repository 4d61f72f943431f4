//! What the mirror cannot foresee: commands under another name, values of a module, PostgreSQL's death under load.

use std::process::Command;
use std::time::Duration;

use support::compare::Sides;
use support::load::RandomLoad;
use support::{Postgres, Redis, Scratch, Tandem, TandemOptions, Value, seed, wait_for};

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

#[test]
fn values_of_a_module_are_kept_as_they_are() {
    let scratch = Scratch::new("module");
    let module = scratch.path().join("unknown_type.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/unknown_type.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
        .arg(&module)
        .arg(source)
        .output()
        .expect("cc: apt install gcc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut redis = Redis::options().with("loadmodule", &module.display().to_string()).start();
    let postgres = Postgres::start();
    let mut direct = redis.client();
    direct.run("TT.SET early 5");
    direct.run("PEXPIRE early 3600000");
    let mut tandem = options(&redis, &postgres).start();
    tandem.wait_streaming();
    let sides = Sides::new(&redis, &postgres);
    sides.assert_equal();
    let mut client = tandem.client();
    for line in [
        "TT.SET late 7",
        "TT.ADD early 1",
        "RENAME late later",
        "TT.SET short 1",
        "DEL short",
        "SET plain 1",
        "TT.SET plain 2",
        "TT.SET changed 3",
        "SET changed 4",
    ] {
        let reply = client.run(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    let Value::Bulk(dump) = client.run("DUMP early") else { panic!("DUMP answers a bulk string") };
    assert_eq!(client.call([&b"RESTORE"[..], b"again", b"0", &dump]), Value::ok());
    sides.assert_equal();
    assert_eq!(postgres.sql("SELECT count(*) FROM tandem.opaque"), "4");

    // From PostgreSQL back into a Redis that has lost everything.
    tandem.allow("");
    redis.kill9();
    redis.wipe_disk();
    redis.restart();
    wait_for("the values to come back", Duration::from_secs(30), || {
        redis.client().run("TT.GET again") == Value::Int(6)
    });
    assert_eq!(redis.client().run("TT.GET later"), Value::Int(7));
    // A delete past the proxy may be undone while Redis is brought up, and the comparison begins with one.
    tandem.wait_status("lead", "redis");
    sides.assert_equal();
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
