//! Dropping copies from Redis and bringing them back.

use std::time::Duration;

use serde_json::Value as Json;
use support::compare::Sides;
use support::{Tandem, Value, wait_for};

use crate::admin::commands::cli;
use crate::admin::{LIMIT, Trio, get, post};

const CLEAR: &str = "/admin/database/cache/clear";
const WARM: &str = "/admin/database/cache/warm";

fn fill(tandem: &Tandem, keys: usize) {
    let all = (0..keys).map(|n| vec!["SET".to_owned(), format!("k:{n}"), n.to_string()]);
    tandem.client().pipeline(all.collect::<Vec<_>>());
    let mut client = tandem.client();
    for command in [
        "HSET h:1 a 1 b 2",
        "RPUSH l:1 a b c",
        "ZADD z:1 1 a",
        "SET timed:1 x PXAT 4000000000123",
        "SET own:1 here",
    ] {
        assert!(!client.run(command).is_error(), "{command}");
    }
}

#[test]
fn copies_are_dropped_and_nothing_is_lost() {
    let mut trio = Trio::new("dual_write");
    trio.options = trio.options.family("match = 'own:*'\nmirror = false");
    let mut tandem = trio.ready();
    fill(&tandem, 3000);
    let sides =
        Sides { unmirrored: vec!["own:*".into()], ..Sides::new(&trio.redis, &trio.postgres) };
    sides.assert_equal();
    // What PostgreSQL lacks or has otherwise is not dropped.
    trio.postgres.sql(
        "SET search_path = tandem; UPDATE strings SET value = 'other' WHERE key_id = (SELECT id FROM keys WHERE key = 'k:7'); \
         DELETE FROM strings WHERE key_id = (SELECT id FROM keys WHERE key = 'k:8'); DELETE FROM keys WHERE key = 'k:8'",
    );
    let done = post(&tandem, CLEAR, r#"{"pattern":"k:*"}"#).data();
    assert_eq!((&done["cleared"], &done["total"]), (&2998.into(), &3000.into()), "{done}");
    assert_eq!((&done["kept"]["onlyInRedis"], &done["kept"]["different"]), (&1.into(), &1.into()));
    let mut direct = trio.redis.client();
    assert_eq!(
        direct.run("MGET k:7 k:8 k:9"),
        Value::Array(vec![Value::bulk("7"), Value::bulk("8"), Value::Nil])
    );
    assert_eq!(direct.run("EXISTS h:1 own:1"), Value::Int(2));
    assert_eq!(tandem.status()["redis_keys"], "lacking");
    assert_eq!(trio.postgres.sql("SELECT count(*) FROM tandem.keys"), "3003");
    // Clients miss nothing, also behind a restart.
    let mut client = tandem.client();
    assert_eq!(client.run("GET k:9"), Value::bulk("9"));
    assert_eq!(client.run("INCR k:10"), Value::Int(11));
    assert_eq!(client.run("DEL k:11"), Value::Int(1));
    assert_eq!(client.run("GET k:11"), Value::Nil);
    drop(client);
    let rest = post(&tandem, CLEAR, "").data();
    assert_eq!(rest["notMirrored"], 1, "{rest}");
    assert_eq!(direct.run("EXISTS own:1"), Value::Int(1), "it lives in Redis alone");
    assert_eq!(direct.run("EXISTS h:1 timed:1 z:1"), Value::Int(0));
    tandem.stop(LIMIT);
    tandem.restart();
    let mut client = tandem.client();
    assert_eq!(client.run("HINCRBY h:1 a 1"), Value::Int(2));
    assert_eq!(client.run("GET k:2999"), Value::bulk("2999"));
    tandem.wait_streaming();
    let report = get(&tandem, "/admin/database/consistency-check").data();
    // k:8 was deleted from PostgreSQL by hand, k:7 changed.
    assert_eq!(
        (&report["different"], &report["missing_in_postgres"]),
        (&1.into(), &1.into()),
        "{report}"
    );
    assert!(report["not_in_redis"].as_u64() > Some(2900), "{report}");
    post(&tandem, "/admin/database/consistency-fix", r#"{"repair":"postgres"}"#).data();
    // Back, with type and expiry; then no care is needed any more.
    let part = post(&tandem, WARM, r#"{"pattern":"k:1*"}"#).data();
    assert!(part["synced"].as_u64() > Some(1000) && part["errors"] == 0, "{part}");
    assert_eq!(tandem.status()["redis_keys"], "lacking");
    let all = post(&tandem, WARM, "").data();
    assert_eq!(all["errors"], 0, "{all}");
    assert_eq!(direct.run("PEXPIRETIME timed:1"), Value::Int(4_000_000_000_123));
    assert_eq!(direct.run("LRANGE l:1 0 -1"), Value::bulks(["a", "b", "c"]));
    assert_eq!(tandem.status()["redis_keys"], "whole");
    sides.assert_equal();
    assert_eq!(get(&tandem, "/admin/database/consistency-check").data()["consistent"], true);
}

/// Counters that are dropped again and again lose no increment.
#[test]
fn clients_write_what_is_being_dropped() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    let keys = 50;
    let rounds = std::thread::scope(|scope| {
        let dropping = scope.spawn(|| {
            let mut cleared = 0;
            for _ in 0..15 {
                let done = post(&tandem, CLEAR, r#"{"pattern":"n:*"}"#).data();
                cleared += done["cleared"].as_u64().expect("a count");
            }
            cleared
        });
        let (mut client, mut rounds) = (tandem.client(), 0);
        while !dropping.is_finished() {
            for n in 0..keys {
                assert!(matches!(client.call(["INCR", &format!("n:{n}")]), Value::Int(_)));
            }
            rounds += 1;
        }
        assert!(dropping.join().expect("it ends well") > 0, "something was dropped");
        rounds
    });
    let mut client = tandem.client();
    for n in 0..keys {
        assert_eq!(
            client.call(["GET", &format!("n:{n}")]),
            Value::bulk(rounds.to_string()),
            "n:{n}"
        );
    }
    post(&tandem, WARM, "").data();
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}

#[test]
fn the_command_line_asks_before_it_drops() {
    let trio = Trio::new("cache_first");
    let tandem = trio.ready();
    fill(&tandem, 100);
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let refused = cli(&tandem, "clear-cache");
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{}", refused.err);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    assert_eq!(trio.redis.client().run("DBSIZE"), Value::Int(105));
    let done = cli(&tandem, "clear-cache --pattern k:* --force");
    assert!(
        done.code == Some(0) && done.out.contains("cleared\t100\n"),
        "{}{}",
        done.out,
        done.err
    );
    assert_eq!(trio.redis.client().run("DBSIZE"), Value::Int(5));
    let back = cli(&tandem, "warm --json");
    let json: Json =
        serde_json::from_str(&back.out).unwrap_or_else(|e| panic!("{e}: {}", back.err));
    assert_eq!((back.code, &json["synced"]), (Some(0), &100.into()), "{json}");
    assert_eq!(trio.redis.client().run("DBSIZE"), Value::Int(105));
}

/// What is over in PostgreSQL, and would never be told by a Redis that lacks it, goes when it is met.
#[test]
fn expired_copies_do_not_come_back() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    let mut client = tandem.client();
    client.run("SET gone:1 x PX 1500");
    client.run("SET stays:1 x");
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let done = post(&tandem, CLEAR, "").data();
    assert_eq!(done["cleared"], 2, "{done}");
    std::thread::sleep(Duration::from_millis(1600));
    let warmed = post(&tandem, WARM, "").data();
    assert_eq!((&warmed["synced"], &warmed["errors"]), (&1.into(), &0.into()), "{warmed}");
    wait_for("the row to go", LIMIT, || {
        trio.postgres.sql("SELECT count(*) FROM tandem.keys") == "1"
    });
    assert_eq!(tandem.status()["redis_keys"], "whole");
}

#[test]
fn copies_that_nobody_uses_leave_redis() {
    let mut trio = Trio::new("dual_write");
    let rules =
        ["match = 'own:*'\nmirror = false\ncache_ttl_s = 1", "match = '[kh]:*'\ncache_ttl_s = 2"];
    trio.options = rules.into_iter().fold(trio.options, |options, rule| options.family(rule));
    let tandem = trio.ready();
    fill(&tandem, 500);
    let (mut client, mut direct) = (tandem.client(), trio.redis.client());
    let there = |client: &mut support::Client| client.run("EXISTS k:1 k:499 h:1");
    assert_eq!(there(&mut direct), Value::Int(3));
    wait_for("the copies to go", LIMIT, || {
        assert_eq!(client.run("GET k:7"), Value::bulk("7"));
        there(&mut direct) == Value::Int(0)
    });
    assert_eq!(
        direct.run("EXISTS k:7 l:1 z:1 own:1"),
        Value::Int(4),
        "used, of other families, of Redis alone"
    );
    assert_eq!(client.run("HGET h:1 b"), Value::bulk("2"));
    assert_eq!(client.run("INCR k:499"), Value::Int(500));
    post(&tandem, WARM, "").data();
    assert_eq!(tandem.status()["redis_keys"], "lacking", "copies go on leaving");
    let report = get(&tandem, "/admin/database/consistency-check").data();
    assert_eq!(report["consistent"], true, "{report}");
}

/// Commands that reach into another database, and reads of keys of any kind and of fields that nobody has, behind a
/// cleared cache: the replies are those of a Redis that lacks nothing.
#[test]
fn cleared_copies_are_missed_by_no_command() {
    const BEFORE: &str =
        "SET k 0|HSET h a 1|SELECT 1|SET k 1|SADD s m|SELECT 2|SET only 2|SELECT 0";
    const AFTER: &str = "MOVE k 1|COPY k k DB 1|COPY k copied DB 1|MOVE h 1|HGET h a|SELECT 1|HGET h a|HGET h b\
        |GET copied|GET k|GET none|SISMEMBER s other|SCARD s|MGET k none copied|STRLEN none|TYPE s|SWAPDB 1 2|GET k\
        |GET only|SETNX only 3|MULTI|SELECT 2|INCR k|SELECT 0|APPEND k x|EXEC|SELECT 2|GET k|SWAPDB 0 2|GET k|TTL k";
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    let reference = support::Redis::start();
    let mut clients = [tandem.client(), reference.client()];
    for command in BEFORE.split('|') {
        clients.iter_mut().for_each(|client| assert!(!client.run(command).is_error(), "{command}"));
    }
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    for command in AFTER.split('|').map(str::trim) {
        if clients[0].run("PING") == Value::Simple("PONG".into()) {
            post(&tandem, CLEAR, "").data();
        }
        clients[1].run("PING");
        let [own, redis] = clients.each_mut().map(|client| client.run(command));
        assert_eq!(own, redis, "{command}");
    }
    post(&tandem, WARM, "").data();
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}
