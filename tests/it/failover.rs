//! Redis goes, PostgreSQL serves; Redis comes back, as whatever it is, and gets the lead when it has everything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::compare::Sides;
use support::{
    Client, FaultProxy, Line, Postgres, Redis, Tandem, TandemOptions, Value, encode, wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);

fn options(redis: &Redis, postgres: &Postgres) -> TandemOptions {
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).postgres(postgres);
    options.mode("dual_write").allow("")
}

fn start(redis: &Redis, postgres: &Postgres) -> Tandem {
    let tandem = options(redis, postgres).start();
    tandem.wait_holding(true);
    tandem
}

/// Redis leads again, and everything that was acknowledged is in PostgreSQL.
fn wait_back(tandem: &Tandem) {
    tandem.wait_status("lead", "redis");
    tandem.wait_streaming();
}

fn assert_equal(redis: &Redis, postgres: &Postgres) -> usize {
    let sides = Sides::new(redis, postgres);
    let differences = sides.differences().expect("readable");
    assert!(differences.is_empty(), "Redis and PostgreSQL differ:\n{differences}");
    differences.keys
}

/// One of every type; `round` makes the values differ.
fn fill(client: &mut Client, round: i64) {
    let commands = [
        format!("SET s:{round} {round}"),
        "INCR n".into(),
        format!("HSET h f {round} g:{round} 1"),
        format!("RPUSH l {round}"),
        format!("SADD t {round}"),
        format!("ZADD z {round} m{round}"),
        format!("XADD x {round}-1 a {round}"),
        format!("SET ttl {round} EX 10000"),
        format!("APPEND a {round}"),
    ];
    for command in commands {
        let reply = client.run(&command);
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
}

/// It was handed to a connection that was still being opened, to a Redis whose answers wait for nobody.
#[test]
fn a_write_that_postgresql_runs_in_the_end_is_acknowledged_by_its_commit() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let line = FaultProxy::new(redis.port());
    let options = options(&redis, &postgres).redis_url(&line.url(&redis.url()));
    let options = options.set("redis", "hang_timeout_ms", 500).set("listen", "workers", 1);
    let tandem = options.set("postgres", "query_timeout_ms", 20_000).mode("cache_first").start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    client.set_timeout(LIMIT);
    // The lanes that there are speak RESP2.
    assert!(!client.run("HELLO 3").is_error());
    line.set(Line::Silent);
    client.send(&encode(["INCR", "n"])).expect("sent");
    std::thread::scope(|scope| {
        // For so long nothing can be committed.
        let lock = "BEGIN; LOCK TABLE tandem.strings IN SHARE MODE; SELECT pg_sleep(3); COMMIT";
        scope.spawn(|| postgres.sql(lock));
        assert_eq!(client.receive().expect("an answer"), Value::Int(1));
        let stored = "SELECT convert_from(value, 'UTF8') FROM tandem.strings";
        assert_eq!(postgres.sql(stored), "1");
    });
    assert_eq!(tandem.status()["lead"], "postgres");
    line.set(Line::Clear);
    wait_back(&tandem);
    assert_equal(&redis, &postgres);
}

#[test]
fn a_client_is_served_on_while_redis_is_gone_and_when_it_is_back() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    redis.kill9();
    assert_eq!(client.insist("GET s:1"), Value::bulk("1"));
    fill(&mut client, 2);
    assert_eq!(tandem.status()["mode"], "postgres_only");
    assert_eq!(
        client.run("EVAL redis.call('INCR','n')return{1} 1 n"),
        Value::Array(vec![Value::Int(1)])
    );
    client.run("DEL a");
    // Empty: it had no time to save anything.
    redis.restart();
    wait_back(&tandem);
    assert_eq!(client.run("GET n"), Value::bulk("3"));
    fill(&mut client, 3);
    assert_eq!(redis.client().run("GET a"), Value::bulk("3"));
    assert_eq!(redis.client().run("LLEN l"), Value::Int(3));
    assert!(assert_equal(&redis, &postgres) >= 9);
}

/// All that it does when it wakes is about keys that clients have changed since.
#[test]
fn a_hung_redis_changes_nothing_that_clients_have_changed_since() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    let mut direct = redis.client();
    assert_eq!(direct.run("PING"), Value::Simple("PONG".into()));
    redis.pause();
    direct.send(&[encode(["SET", "k", "direct"]), encode(["DEL", "l"])].concat()).expect("sent");
    assert_eq!(client.insist("SET k client"), Value::ok());
    assert_eq!(client.run("RPUSH l client"), Value::Int(1));
    redis.resume();
    wait_back(&tandem);
    assert!(!tandem.log().contains("cannot be brought up"), "{}", tandem.log());
    assert_eq!(tandem.status()["mirror_conflicts"], "1");
    assert_eq!(client.run("GET k"), Value::bulk("client"));
    assert_eq!(client.run("LLEN l"), Value::Int(1));
    assert_equal(&redis, &postgres);
}

#[test]
fn a_redis_that_was_hung_gets_what_it_missed_and_keeps_what_it_had() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    redis.pause();
    let began = Instant::now();
    assert_eq!(client.insist("GET s:1"), Value::bulk("1"));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    tandem.wait_status("lead", "postgres");
    fill(&mut client, 2);
    redis.resume();
    wait_back(&tandem);
    assert!(tandem.log().contains("Redis is back: it is brought up"), "{}", tandem.log());
    assert!(!tandem.log().contains("to be compared"), "the stream tells all: {}", tandem.log());
    fill(&mut client, 3);
    assert_eq!(redis.client().run("LLEN l"), Value::Int(3));
    assert_equal(&redis, &postgres);
}

#[test]
fn a_redis_with_older_data_never_shows_it() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    client.run("SET revoked key");
    client.run("SET old value");
    redis.save();
    fill(&mut client, 2);
    client.run("DEL revoked");
    client.run("SET old new");
    redis.kill9();
    fill_insisting(&mut client, 3);
    client.run("DEL ttl");
    redis.restart();
    // At every moment what was acknowledged.
    let began = Instant::now();
    while tandem.status()["lead"] != "redis" && began.elapsed() < LIMIT {
        assert_eq!(client.insist("GET old"), Value::bulk("new"));
        assert_eq!(client.insist("GET n"), Value::bulk("3"));
    }
    wait_back(&tandem);
    let mut direct = redis.client();
    assert_eq!(direct.run("GET old"), Value::bulk("new"));
    assert_eq!(direct.run("EXISTS revoked ttl"), Value::Int(0));
    assert_eq!(direct.run("LLEN l"), Value::Int(3));
    assert_equal(&redis, &postgres);
}

/// As [`fill`], when the first command may meet the end of Redis.
fn fill_insisting(client: &mut Client, round: i64) {
    assert!(!client.insist("PING").is_error() && !client.insist("GET none").is_error());
    fill(client, round);
}

#[test]
fn a_redis_with_another_history_is_merged() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    redis.kill9();
    fill_insisting(&mut client, 2);
    client.run("DEL t");
    redis.wipe_disk();
    let other = {
        let other = Redis::start();
        let mut direct = other.client();
        for command in ["SET only:redis 1", "SADD t theirs", "SET s:1 theirs", "SET s:2 theirs"] {
            direct.run(command);
        }
        other.save();
        other
    };
    std::fs::copy(other.dir().join("dump.rdb"), redis.dir().join("dump.rdb")).expect("copied");
    redis.restart();
    wait_back(&tandem);
    let mut direct = redis.client();
    assert_eq!(direct.run("GET only:redis"), Value::bulk("1"));
    assert_eq!(direct.run("GET s:1"), Value::bulk("1"), "PostgreSQL's stays");
    assert_eq!(direct.run("GET s:2"), Value::bulk("2"));
    assert_eq!(direct.run("EXISTS t"), Value::Int(0), "deleted while Redis was away");
    assert_equal(&redis, &postgres);
    assert_eq!(tandem.status()["mirror_conflicts"], "1", "s:1; the others have changed here");
}

#[test]
fn what_lives_in_redis_alone_starts_empty() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres).family("match = \"lock:*\"\nmirror = false").start();
    tandem.wait_holding(true);
    let mut client = tandem.client();
    client.run("SET lock:a mine");
    client.run("SET kept 1");
    redis.pause();
    assert_eq!(client.insist("GET lock:a"), Value::Nil);
    client.run("SET lock:b mine");
    redis.resume();
    wait_back(&tandem);
    assert_eq!(client.run("EXISTS lock:a lock:b"), Value::Int(0));
    assert_eq!(client.run("GET kept"), Value::bulk("1"));
    assert_equal(&redis, &postgres);
}

#[test]
fn a_flush_while_redis_is_gone_reaches_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    client.run("SELECT 3");
    client.run("SET other 1");
    redis.pause();
    assert_eq!(client.insist("GET other"), Value::bulk("1"));
    client.run("FLUSHALL");
    client.run("SET after 1");
    redis.resume();
    wait_back(&tandem);
    let mut direct = redis.client();
    assert_eq!(direct.run("DBSIZE"), Value::Int(0));
    direct.run("SELECT 3");
    assert_eq!(direct.run("KEYS *"), Value::Array(vec![Value::bulk("after")]));
    assert_equal(&redis, &postgres);
}

#[test]
fn a_proxy_that_dies_meanwhile_knows_who_leads() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    client.run("SET gone 1");
    redis.save();
    redis.kill9();
    fill_insisting(&mut client, 2);
    client.run("DEL gone");
    tandem.kill9();
    // The old Redis is back before the proxy.
    redis.restart();
    tandem.restart();
    let mut client = tandem.client();
    assert_eq!(client.insist("GET n"), Value::bulk("2"));
    assert_eq!(client.insist("EXISTS gone"), Value::Int(0));
    wait_back(&tandem);
    fill(&mut client, 3);
    assert_eq!(redis.client().run("EXISTS gone"), Value::Int(0));
    assert_equal(&redis, &postgres);
}

#[test]
fn both_gone_is_an_error_at_once_and_ends_by_itself() {
    let (mut redis, mut postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    redis.kill9();
    fill_insisting(&mut client, 2);
    postgres.kill9();
    wait_for("the outage to be noticed", LIMIT, || client.run("SET x 1").is_error());
    for _ in 0..20 {
        let began = Instant::now();
        let reply = client.run("GET n");
        assert!(reply == Value::bulk("2") || reply.is_error(), "{reply:?}");
        assert!(client.run("SET x 1").is_error());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    postgres.restart();
    assert_eq!(client.insist("GET n"), Value::bulk("2"));
    redis.restart();
    wait_back(&tandem);
    fill(&mut client, 3);
    assert_equal(&redis, &postgres);
}

#[test]
fn a_redis_that_became_a_replica_does_not_lead() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let other = Redis::start();
    let tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    fill(&mut client, 1);
    let mut direct = redis.client();
    direct.run(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    tandem.wait_status("lead", "postgres");
    fill_insisting(&mut client, 2);
    direct.run("REPLICAOF NO ONE");
    wait_back(&tandem);
    fill(&mut client, 3);
    assert_equal(&redis, &postgres);
}

/// What Redis does when it wakes is taken over; what clients have written to the same keys since is on its way to
/// PostgreSQL over a slow line by then, and must not be overwritten.
#[test]
fn what_is_not_committed_yet_is_not_overwritten_by_what_redis_did() {
    const WRITERS: usize = 4;
    const KEYS: usize = 400;
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let line = FaultProxy::new(postgres.port());
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .mode("dual_write")
        .set("postgres", "url", line.url(&postgres.url()))
        .allow("")
        .start();
    tandem.wait_holding(true);
    let mut direct = redis.client();
    let over = AtomicBool::new(false);
    let acknowledged: Vec<(String, String)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (over, tandem) = (&over, &tandem);
                scope.spawn(move || {
                    let (mut client, mut acknowledged) = (tandem.client(), Vec::new());
                    for n in (writer..).step_by(WRITERS) {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let (key, member) = (format!("set:{}", n % KEYS), n.to_string());
                        if client.call(["SADD", &key, &member]) == Value::Int(1) {
                            acknowledged.push((key, member));
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        redis.pause();
        // Nobody may panic before the writers are told that it is over.
        let end = Instant::now() + LIMIT;
        while tandem.status()["lead"] != "postgres" && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        line.set(Line::Delayed(Duration::from_millis(15)));
        // Redis reads it when it wakes.
        for key in 0..KEYS {
            let add = encode(["SADD", &format!("set:{key}"), "direct"]);
            direct.send(&add).expect("sent");
        }
        redis.resume();
        std::thread::sleep(Duration::from_secs(6));
        over.store(true, Ordering::Relaxed);
        line.set(Line::Clear);
        writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect()
    });
    wait_back(&tandem);
    let mut client = tandem.client();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|(key, member)| client.call(["SISMEMBER", key, member]) != Value::Int(1))
        .collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
}
