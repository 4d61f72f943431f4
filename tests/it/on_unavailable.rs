//! `on_unavailable = "refuse"`: what PostgreSQL cannot commit does not reach Redis.

use std::time::Duration;

use support::compare::Sides;
use support::{Client, Postgres, Redis, Tandem, Value, encode, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const TIMEOUT_MS: i64 = 1000;

fn start(redis: &Redis, postgres: &Postgres) -> Tandem {
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(redis)
        .postgres(postgres)
        .mode("dual_write")
        .set("strategy", "ack_timeout_ms", TIMEOUT_MS)
        .set("strategy", "on_unavailable", "refuse")
        .allow("")
        .start();
    tandem.wait_holding(true);
    tandem
}

fn is_refused(reply: &Value) -> bool {
    format!("{reply:?}").contains("on_unavailable")
}

fn wait_refused(client: &mut Client) {
    wait_for("writes to be refused", LIMIT, || is_refused(&client.run("SET probe 1")));
}

#[test]
fn writes_are_refused_and_reads_are_answered_until_postgres_is_back() {
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    let mut early = tandem.client();
    assert_eq!(client.run("SET k 1"), Value::ok());
    for command in ["MULTI", "INCR k"] {
        assert!(!early.run(command).is_error());
    }
    postgres.kill9();
    wait_refused(&mut client);
    redis.client().run("DEL probe");
    let before = redis.client().run("DEBUG DIGEST");
    for command in [
        "INCR k",
        "EVAL return(redis.call('incr',KEYS[1])) 1 k",
        "BLPOP queue 1",
        "RPUSH queue a",
        "FLUSHALL",
        "unknown.write k",
    ] {
        let reply = client.run(command);
        assert!(is_refused(&reply), "{command}: {reply:?}");
    }
    // A transaction that waits, one that comes whole, one that began before.
    for command in ["MULTI", "INCR k"] {
        assert!(!client.run(command).is_error());
    }
    assert!(is_refused(&client.run("EXEC")));
    let whole: Vec<u8> = ["MULTI", "INCR k", "EXEC"]
        .iter()
        .flat_map(|c| encode([*c].iter().flat_map(|c| c.split(' '))))
        .collect();
    client.send(&whole).expect("sent");
    let replies: Vec<Value> = (0..3).map(|_| client.receive().expect("a reply")).collect();
    assert!(!replies[1].is_error() && is_refused(&replies[2]), "{replies:?}");
    assert!(is_refused(&early.run("EXEC")));
    assert_eq!(client.run("GET k"), Value::bulk("1"));
    for command in ["MULTI", "GET k", "EXEC"] {
        assert!(!client.run(command).is_error(), "{command}");
    }
    assert_eq!(redis.client().run("DEBUG DIGEST"), before, "nothing has reached Redis");
    postgres.restart();
    wait_for("writes to be taken again", LIMIT, || !client.run("INCR after").is_error());
    assert_eq!(client.run("INCR k"), Value::Int(2));
    Sides::new(&redis, &postgres).assert_equal();
}

/// A write that has reached Redis when PostgreSQL stops answering: nobody says that it is safe.
#[test]
fn a_reply_that_waits_too_long_is_an_unknown_outcome() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    assert_eq!(client.run("SET k 1"), Value::ok());
    postgres.pause();
    let reply = client.run("INCR k");
    assert!(format!("{reply:?}").contains("UNKNOWNOUTCOME PostgreSQL"), "{reply:?}");
    wait_refused(&mut client);
    assert_eq!(client.run("GET k"), Value::bulk("2"));
    postgres.resume();
    wait_for("writes to be taken again", LIMIT, || !client.run("SET probe 2").is_error());
    assert_eq!(client.run("INCR k"), Value::Int(3));
    Sides::new(&redis, &postgres).assert_equal();
}
