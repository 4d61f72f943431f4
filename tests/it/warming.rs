//! Redis comes back empty, PostgreSQL has everything: clients are answered rightly while it is filled.

use std::time::{Duration, Instant};

use support::{Client, Postgres, Redis, Tandem, Value, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const KEYS: usize = 20_000;

fn fill(client: &mut Client) {
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(1000) {
        let mut set = vec!["MSET".to_owned()];
        set.extend(chunk.iter().flat_map(|n| [format!("k:{n}"), n.to_string()]));
        assert_eq!(client.call(&set), Value::ok());
    }
    client.run("HSET h a 1 b 2");
    client.run("SET gone 1");
    client.run("FUNCTION FLUSH");
}

/// Until it is answered: right behind the end of Redis there are errors.
fn answered(tandem: &Tandem, client: &mut Client, command: &str) -> Value {
    let start = Instant::now();
    loop {
        let reply = client.run(command);
        if !reply.is_error() {
            return reply;
        }
        assert!(start.elapsed() < LIMIT, "{command}: {reply:?}\n{}", tandem.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn clients_are_served_rightly_while_redis_is_filled() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .allow("")
        .start();
    tandem.wait_holding(true);
    let mut client = tandem.client();
    fill(&mut client);
    assert_eq!(client.run("DEL gone"), Value::Int(1));
    redis.kill9();
    redis.wipe_disk();
    redis.restart();
    // From the first answer on.
    assert_eq!(answered(&tandem, &mut client, "GET k:19999"), Value::bulk("19999"));
    assert_eq!(answered(&tandem, &mut client, "INCR k:7"), Value::Int(8));
    assert_eq!(answered(&tandem, &mut client, "HINCRBY h a 5"), Value::Int(6));
    assert_eq!(answered(&tandem, &mut client, "DEL k:8"), Value::Int(1));
    assert_eq!(answered(&tandem, &mut client, "SET k:9 other"), Value::ok());
    assert_eq!(answered(&tandem, &mut client, "GET gone"), Value::Nil);
    for n in (100..KEYS).step_by(997) {
        let value = answered(&tandem, &mut client, &format!("GET k:{n}"));
        assert_eq!(value, Value::bulk(n.to_string()));
    }
    wait_for("Redis to be filled", LIMIT, || {
        let status = tandem.status();
        status["redis_keys"] == "whole" && status["lead"] == "redis"
    });
    let direct = |command: &str| redis.client().run(command);
    assert_eq!(direct("DBSIZE"), Value::Int(KEYS as i64));
    assert_eq!(direct("GET k:7"), Value::bulk("8"));
    assert_eq!((direct("GET k:8"), direct("GET k:9")), (Value::Nil, Value::bulk("other")));
    let sides = support::compare::Sides::new(&redis, &postgres);
    sides.assert_equal();
}

/// The proxy meets an empty Redis at its start.
#[test]
fn the_first_command_of_a_proxy_before_an_empty_redis_is_answered_rightly() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).postgres(&postgres);
    let mut tandem = options.mode("cache_first").allow("").start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    fill(&mut client);
    drop(client);
    support::compare::Sides::new(&redis, &postgres).assert_equal();
    tandem.stop(LIMIT);
    redis.kill9();
    redis.wipe_disk();
    redis.restart();
    tandem.spawn();
    wait_for("the port", LIMIT, || tandem.answers());
    let mut client = tandem.client();
    assert_eq!(answered(&tandem, &mut client, "INCR k:100"), Value::Int(101));
    assert_eq!(answered(&tandem, &mut client, "GET k:19000"), Value::bulk("19000"));
    wait_for("Redis to be filled", LIMIT, || tandem.status()["redis_keys"] == "whole");
    support::compare::Sides::new(&redis, &postgres).assert_equal();
}
