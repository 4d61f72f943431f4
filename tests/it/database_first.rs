//! `database_first`: PostgreSQL leads, and a Redis follows.

use std::time::Duration;

use support::compare::{Differences, Sides};
use support::{Client, Postgres, Redis, Tandem, TandemOptions, Value, wait_for};

use crate::served::lockstep;

const LIMIT: Duration = Duration::from_secs(30);

fn options(redis: &Redis, postgres: &Postgres) -> TandemOptions {
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).postgres(postgres);
    options.mode("database_first").allow("is away").allow("is not reachable")
}

fn start(redis: &Redis, postgres: &Postgres) -> Tandem {
    let tandem = options(redis, postgres).start();
    wait_ready(&tandem);
    tandem
}

fn wait_ready(tandem: &Tandem) {
    tandem.wait_status("mode", "database_first");
}

fn wait_whole(tandem: &Tandem) {
    tandem.wait_status("follower_state", "whole");
}

fn assert_equal(redis: &Redis, postgres: &Postgres) -> usize {
    let sides = Sides::new(redis, postgres);
    let differences = sides.differences().expect("readable");
    assert!(differences.is_empty(), "Redis and PostgreSQL differ:\n{differences}");
    differences.keys
}

#[test]
fn replies_are_those_of_redis_and_redis_follows() {
    let (reference, redis, postgres) = (Redis::start(), Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    lockstep(&mut reference.client(), &mut tandem.client());
    wait_whole(&tandem);
    assert_equal(&redis, &postgres);
    let keyspace = |redis| Sides::new(redis, &postgres).redis_keyspace().expect("readable");
    let differences = Differences::between(&keyspace(&reference), &keyspace(&redis));
    assert!(differences.is_empty(), "the reference and Redis differ:\n{differences}");
    assert!(!tandem.log().contains("Redis did not take a change"), "{}", tandem.log());
}

/// Everything of which the deltas say less than the value.
#[test]
fn what_only_whole_values_tell_reaches_redis() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    let commands = "RPUSH l 1 2 3 4 5 6|LSET l 2 x|LINSERT l BEFORE 5 y|LREM l 0 4|RENAME l m\
        |LPUSH m 0|LPOP m|RPOP m|RPUSH m 9|LTRIM m 1 -1|XADD s 1-1 a 1|XADD s 2-1 a 2\
        |XGROUP CREATE s g 0|XREADGROUP GROUP g c COUNT 1 STREAMS s >|XDEL s 1-1\
        |XADD s 3-1 a 3|XREADGROUP GROUP g d COUNT 1 STREAMS s >|XACK s g 3-1|XADD s 4-1 b 4\
        |XREADGROUP GROUP g c STREAMS s >|XTRIM s MAXLEN 2|XGROUP CREATE s h $|XGROUP DESTROY s h\
        |XADD back 9-1 a 1|XDEL back 9-1|XSETID back 3-1|XADD back 4-1 a 1\
        |HSET h a 1 b 2|HDEL h a|PEXPIRE h 100000000|HSET h c 3|PERSIST h|HSET h d 4\
        |ZADD z 1.5 a -inf b +inf c 1e300 d 0.1 e|ZREM z a|SADD t 1 2 3|SREM t 2|SET k v EX 100000\
        |APPEND k w|COPY k k2|MOVE k 2|SWAPDB 2 3|SET gone 1|DEL gone|PFADD p 1 2 3";
    for command in commands.split('|') {
        let reply = client.run(command.trim());
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
    let library = "#!lua name=f\nredis.register_function('f', function() return 1 end)";
    assert_eq!(client.call(["FUNCTION", "LOAD", library]), Value::bulk("f"));
    wait_whole(&tandem);
    assert!(assert_equal(&redis, &postgres) >= 9);
    assert_eq!(redis.client().run("FCALL f 0"), Value::Int(1));
}

#[test]
fn what_redis_had_is_taken_over_first() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut direct = redis.client();
    for n in 0..1000 {
        direct.call(["HSET", &format!("apikey:{n}"), "name", "x"]);
    }
    let mut tandem = start(&redis, &postgres);
    assert_eq!(tandem.client().run("HGET apikey:7 name"), Value::bulk("x"));
    assert_eq!(tandem.client().run("DEL apikey:8"), Value::Int(1));
    wait_whole(&tandem);
    assert_eq!(assert_equal(&redis, &postgres), 999);
    // Stopped in good order, Redis is known to have everything.
    tandem.stop(LIMIT);
    tandem.restart();
    wait_whole(&tandem);
    assert!(!tandem.log().contains("Redis is emptied"), "{}", tandem.log());
    assert_eq!(assert_equal(&redis, &postgres), 999);
}

#[test]
fn reads_go_on_from_redis_while_postgres_is_away() {
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres).allow("").start();
    wait_ready(&tandem);
    let mut client = tandem.client();
    for n in 0..100 {
        assert_eq!(client.run(&format!("SET k:{n} {n}")), Value::ok());
    }
    postgres.stop();
    // What is in memory is right until somebody else could write.
    wait_for("the outage to be noticed", LIMIT, || tandem.status()["mode"] == "reads_only");
    wait_for("Redis to answer", LIMIT, || client.run("GET k:99") == Value::bulk("99"));
    let refused = client.run("SET k:1 other");
    assert!(format!("{refused:?}").contains("READONLY PostgreSQL is away"), "{refused:?}");
    client.run("MULTI");
    client.run("GET k:2");
    assert_eq!(client.run("EXEC"), Value::Array(vec![Value::bulk("2")]));
    client.run("MULTI");
    assert!(client.run("SET k:2 x").is_error());
    assert!(format!("{:?}", client.run("EXEC")).contains("EXECABORT"));
    let many: Vec<Vec<String>> = (0..100).map(|n| vec!["GET".into(), format!("k:{n}")]).collect();
    let values: Vec<Value> = client.pipeline(many);
    assert!(values.iter().enumerate().all(|(n, value)| *value == Value::bulk(n.to_string())));
    postgres.restart();
    wait_for("PostgreSQL to serve", LIMIT, || client.run("SET k:1 other") == Value::ok());
    assert_eq!(client.run("GET k:1"), Value::bulk("other"));
    wait_whole(&tandem);
    assert_equal(&redis, &postgres);
}

fn fill(client: &mut Client, round: i64) {
    for n in 0..200 {
        assert!(!client.call(["INCRBY", &format!("n:{n}"), &round.to_string()]).is_error());
        assert!(!client.call(["RPUSH", &format!("l:{}", n % 7), &n.to_string()]).is_error());
    }
}

#[test]
fn a_redis_that_was_away_is_brought_up() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres).allow("").start();
    wait_ready(&tandem);
    let mut client = tandem.client();
    fill(&mut client, 1);
    redis.kill9();
    fill(&mut client, 2);
    redis.restart();
    fill(&mut client, 3);
    wait_whole(&tandem);
    assert_equal(&redis, &postgres);
    redis.pause();
    fill(&mut client, 4);
    redis.resume();
    wait_whole(&tandem);
    assert_equal(&redis, &postgres);
    // Killed, it cannot know what had reached Redis.
    fill(&mut client, 5);
    tandem.kill9();
    tandem.restart();
    wait_ready(&tandem);
    wait_whole(&tandem);
    assert_equal(&redis, &postgres);
    assert_eq!(redis.client().run("GET n:0"), Value::bulk("15"));
}

/// Back and forth between the strategies, nothing is lost.
#[test]
fn strategies_follow_each_other() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut expected = 0;
    for mode in ["dual_write", "database_first", "cache_first", "postgres_only", "database_first"] {
        let mut tandem = options(&redis, &postgres).mode(mode).allow("").start();
        tandem.wait_serving();
        if matches!(mode, "dual_write" | "cache_first") {
            tandem.wait_streaming();
        }
        let mut client = tandem.client();
        for _ in 0..50 {
            expected += 1;
            assert_eq!(client.run("INCR n"), Value::Int(expected), "in {mode}");
        }
        if mode == "database_first" {
            wait_whole(&tandem);
        }
        drop(client);
        tandem.stop(LIMIT);
        let held = Sides::new(&redis, &postgres).postgres_keyspace().expect("readable").0;
        assert_eq!(held.len(), 1, "after {mode}");
    }
    assert_equal(&redis, &postgres);
}

/// The lease is lost while a commit is under way, which PostgreSQL carries out all the same: nobody has heard of it, and Redis
/// is to have it.
#[test]
fn what_is_committed_while_the_lease_is_lost_reaches_redis() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres).allow("").start();
    wait_ready(&tandem);
    let mut client = tandem.client();
    assert_eq!(client.run("RPUSH l a"), Value::Int(1));
    wait_whole(&tandem);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            postgres
                .sql("BEGIN; LOCK TABLE tandem.lists IN EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT")
        });
        let count = |what: &str| {
            let query = format!("SELECT count(*) FROM pg_stat_activity WHERE {what}");
            postgres.sql(&query).trim().to_owned()
        };
        wait_for("the lock", LIMIT, || {
            count("query LIKE '%pg_sleep(3)%' AND wait_event = 'PgSleep'") == "1"
        });
        client.send(b"RPUSH l b\r\n").expect("sent");
        wait_for("the commit to wait", LIMIT, || count("wait_event_type = 'Lock'") != "0");
        let ended = postgres.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE query LIKE '%lease SET%' AND pid <> pg_backend_pid()",
        );
        assert_eq!(ended.trim(), "1", "the session of the lease");
    });
    wait_ready(&tandem);
    tandem.wait_serving();
    wait_whole(&tandem);
    assert_eq!(tandem.client().run("LLEN l"), Value::Int(2), "PostgreSQL has carried it out");
    assert_eq!(redis.client().run("LLEN l"), Value::Int(2));
    assert_equal(&redis, &postgres);
    tandem.assert_running();
}
