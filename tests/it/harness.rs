//! The harness itself: servers start quickly, keep or lose their data as they should, and can be
//! stopped in every way that the other tests need.

use std::collections::BTreeSet;
use std::time::Duration;

use support::compare::{self, Differences};
use support::load::RandomLoad;
use support::{Postgres, Redis, Value, seed, wait_for};

#[test]
fn redis_is_killed_paused_and_restarted() {
    let mut redis = Redis::start();
    assert_eq!(redis.client().run("SET kept 1"), Value::ok());
    redis.save();
    assert_eq!(redis.client().run("SET lost 1"), Value::ok());
    redis.pause();
    let mut client = redis.client();
    client.set_timeout(Duration::from_millis(200));
    assert!(client.try_call(["PING"]).is_err(), "a stopped process answered");
    redis.resume();
    redis.kill9();
    redis.restart();
    let reply = redis.client().run("MGET kept lost");
    assert_eq!(reply, Value::Array(vec![Value::bulk("1"), Value::Nil]));
    redis.stop();
    redis.wipe_disk();
    redis.restart();
    assert_eq!(redis.client().run("DBSIZE"), Value::Int(0));
}

#[test]
fn redis_with_a_password_and_resp3() {
    let redis = Redis::options().with("requirepass", "secret").start();
    let mut client = redis.client();
    let Value::Map(hello) = client.run("HELLO 3") else { panic!("HELLO 3 answers a map") };
    assert!(hello.contains(&(Value::bulk("proto"), Value::Int(3))));
    let replies = client.pipeline(["SET a 1", "INCR a", "GET a"].map(|c| c.split(' ')));
    assert_eq!(replies, [Value::ok(), Value::Int(2), Value::bulk("2")]);
}

#[test]
fn postgres_recovers_from_kill_9() {
    let mut postgres = Postgres::start();
    assert_eq!(postgres.sql("SHOW fsync"), "on");
    assert_eq!(postgres.sql("SHOW synchronous_commit"), "on");
    postgres.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
    postgres.kill9();
    postgres.restart();
    assert_eq!(postgres.sql("SELECT n FROM t"), "7");
    postgres.stop();
    postgres.restart();
    assert_eq!(postgres.sql("SELECT count(*) FROM t"), "1");
}

#[test]
fn servers_do_not_collide() {
    let servers: Vec<Redis> = (0..4).map(|_| Redis::start()).collect();
    let (one, two) = (Postgres::start(), Postgres::start());
    let mut ports: Vec<u16> = servers.iter().map(Redis::port).collect();
    ports.extend([one.port(), two.port()]);
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6);
}

/// What the comparer reads is what replication carries: Redis's own replica passes it. Nothing else would be
/// fair to ask of the mirror.
#[test]
fn redis_and_its_own_replica_are_equal_after_random_load() {
    let seed = seed(1);
    let redis = Redis::start();
    let address = format!("127.0.0.1 {}", redis.port());
    let replica = Redis::options().with("replicaof", &address).start();
    let linked = || replica.client().run("INFO replication").text().contains("link_status:up");
    wait_for("the replica to attach", Duration::from_secs(20), linked);
    RandomLoad::new(redis.port(), seed, Duration::from_secs(3)).run();
    assert_eq!(redis.client().run("WAIT 1 10000"), Value::Int(1));
    let read = |server: &Redis| compare::redis_keyspace(&mut server.client()).unwrap();
    let mut last = None;
    // A key may expire between the two readings.
    for _ in 0..5 {
        let (ours, theirs) = (read(&redis), read(&replica));
        let kinds: BTreeSet<&str> = ours.values().map(|entry| entry.value.kind()).collect();
        assert_eq!(kinds.len(), 7, "the load made no more than {kinds:?}");
        let differences = Differences::between(&ours, &theirs);
        if differences.is_empty() {
            return;
        }
        last = Some(differences);
        std::thread::sleep(Duration::from_millis(300));
    }
    panic!("{}", last.unwrap_or_default());
}
