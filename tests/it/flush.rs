//! A FLUSHALL or FLUSHDB: what clients send through the proxy counts, of others the configuration says so.

use std::time::Duration;

use support::compare::Sides;
use support::{Client, Postgres, Redis, Tandem, Value, encode, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

struct Trio {
    tandem: Tandem,
    redis: Redis,
    postgres: Postgres,
}

impl Trio {
    fn start(flush: &str) -> Trio {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .redis(&redis)
            .postgres(&postgres)
            .mode("dual_write")
            .set("mirror", "flush", flush)
            .start();
        tandem.wait_holding(true);
        Trio { tandem, redis, postgres }
    }

    fn rows(&self) -> String {
        self.postgres.sql("SELECT count(*) FROM tandem.keys")
    }

    fn flushes(&self) -> String {
        self.tandem.status()["mirror_foreign_flushes"].clone()
    }
}

fn fill(client: &mut Client, keys: usize) {
    let mut set = vec!["MSET".to_owned()];
    set.extend((0..keys).flat_map(|n| [format!("k:{n}"), n.to_string()]));
    assert_eq!(client.call(&set), Value::ok());
    client.run("HSET hash a 1 b 2");
    client.run("SET counter 41");
}

#[test]
fn a_clients_flush_counts_in_every_form() {
    let trio = Trio::start("ignore");
    let mut client = trio.tandem.client();
    let mut other = trio.tandem.client();
    let forms: [&[&str]; 8] = [
        &["FLUSHALL"],
        &["flushdb"],
        &["FlushAll ASYNC"],
        &["FLUSHDB SYNC"],
        &["MULTI", "FLUSHALL", "EXEC"],
        &["WATCH k:1", "FLUSHDB", "UNWATCH"],
        &["SELECT 3", "FLUSHALL", "SELECT 0"],
        &["CLIENT REPLY SKIP", "FLUSHALL", "PING"],
    ];
    for commands in forms {
        fill(&mut client, 10);
        assert_eq!(trio.rows(), "12");
        // One piece: a transaction that is all there takes another way than one that waits.
        let bytes: Vec<u8> = commands.iter().flat_map(|c| encode(c.split_whitespace())).collect();
        client.send(&bytes).expect("sent");
        let silent = commands[0].starts_with("CLIENT");
        for _ in 0..if silent { 1 } else { commands.len() } {
            let reply = client.receive().expect("a reply");
            assert!(!reply.is_error(), "{commands:?}: {reply:?}");
        }
        other.run("SET other 1");
        assert_eq!(other.run("DBSIZE"), Value::Int(1), "{commands:?}");
        assert_eq!(trio.rows(), "1", "{commands:?}");
        other.run("DEL other");
    }
    fill(&mut client, 10);
    for command in ["MULTI", "FLUSHALL", "EXEC"] {
        assert!(!client.run(command).is_error());
    }
    assert_eq!((trio.rows(), trio.flushes()), ("0".into(), "0".into()));
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}

#[test]
fn a_flush_past_the_proxy_is_applied_and_said() {
    let mut trio = Trio::start("apply");
    trio.tandem.allow("was flushed past the proxies");
    let mut client = trio.tandem.client();
    fill(&mut client, 10);
    trio.redis.client().run("FLUSHALL");
    wait_for("PostgreSQL to be flushed", LIMIT, || trio.rows() == "0");
    assert_eq!(trio.flushes(), "1");
    assert!(trio.tandem.warnings().iter().any(|line| line.contains("PostgreSQL is flushed too")));
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}

#[test]
fn a_flush_past_the_proxy_is_ignored_and_redis_is_filled_again() {
    const KEYS: usize = 3000;
    let mut trio = Trio::start("ignore");
    trio.tandem.allow("was flushed past the proxies");
    let mut client = trio.tandem.client();
    fill(&mut client, KEYS);
    client.run("SELECT 2");
    client.run("SET in:another db");
    client.run("SELECT 0");
    let mut direct = trio.redis.client();
    for (round, command) in ["FLUSHALL", "flushdb"].into_iter().enumerate() {
        // What is written right behind the flush, before the proxy can know of it, is not lost either.
        let mut bytes = encode([command]);
        bytes.extend(encode(["HSET", "hash", "c", "3"]));
        bytes.extend(encode(["SET", "k:1", "new"]));
        // A delete of what is not there would leave no trace in the stream.
        bytes.extend(encode(["SET", "k:2", "short"]));
        bytes.extend(encode(["DEL", "k:2"]));
        direct.send(&bytes).expect("sent");
        (0..5).for_each(|_| drop(direct.receive().expect("a reply")));
        wait_for("the flush to be seen", LIMIT, || trio.flushes() == (round + 1).to_string());
        assert_eq!(client.run("INCR counter"), Value::Int(42 + round as i64));
        assert_eq!(client.run("GET k:7"), Value::bulk("7"));
        wait_for("Redis to be filled", LIMIT, || trio.tandem.status()["redis_keys"] == "whole");
        assert_eq!(direct.run("HGET hash a"), Value::bulk("1"));
        assert_eq!(direct.run("HGET hash c"), Value::bulk("3"));
        assert_eq!(direct.run("GET k:1"), Value::bulk("new"));
        assert_eq!(direct.run("EXISTS k:2"), Value::Int(0));
        assert_eq!(direct.run("DBSIZE"), Value::Int(KEYS as i64 + 1));
        assert_eq!(trio.rows(), (KEYS + 2).to_string());
        Sides::new(&trio.redis, &trio.postgres).assert_equal();
    }
}

/// The proxy dies while Redis is being filled; a flush that it has not seen yet waits in the stream.
#[test]
fn a_flush_while_the_proxy_is_away_is_ignored_too() {
    let mut trio = Trio::start("ignore");
    trio.tandem.allow("");
    fill(&mut trio.tandem.client(), 500);
    trio.tandem.kill9();
    trio.redis.client().run("FLUSHALL");
    trio.tandem.restart();
    trio.tandem.wait_streaming();
    wait_for("Redis to be filled", LIMIT, || {
        let status = trio.tandem.status();
        status["mirror_foreign_flushes"] == "1" && status["redis_keys"] == "whole"
    });
    assert_eq!(trio.redis.client().run("DBSIZE"), Value::Int(502));
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}
