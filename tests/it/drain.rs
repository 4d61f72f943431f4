//! SIGTERM: what was asked is answered, what was received is committed, and the process ends in time.

use std::time::{Duration, Instant};

use support::compare::Sides;
use support::{Postgres, Redis, Tandem, TandemOptions, Value, encode};

/// More than the deadlines inside add up to.
const LIMIT: Duration = Duration::from_secs(25);

fn options(redis: &Redis, postgres: &Postgres) -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).postgres(postgres).mode("dual_write")
}

#[test]
fn replies_under_way_are_delivered_and_the_position_is_stored() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres).start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    let mut blocked = tandem.client();
    blocked.send(&encode(["BLPOP", "nothing", "0"])).expect("sent");
    // Redis is busy while the signal comes: the replies are still on their way then.
    redis.pause();
    let count = 2000;
    client.send(&encode(["HINCRBY", "hash", "field", "1"]).repeat(count)).expect("sent");
    std::thread::sleep(Duration::from_millis(300));
    let end = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| {
            let start = Instant::now();
            (tandem.stop(LIMIT), start.elapsed())
        });
        std::thread::sleep(Duration::from_millis(300));
        redis.resume();
        for n in 1..=count {
            assert_eq!(client.receive().expect("a reply"), Value::Int(n as i64));
        }
        assert!(client.closed(), "the connection ends behind the last reply");
        stopping.join().expect("stopped")
    });
    assert!(end.0.success(), "{end:?}");
    // Everything that was acknowledged is in PostgreSQL, and the position with it.
    let stored: i64 = postgres
        .sql("SELECT repl_offset FROM tandem.replication")
        .parse()
        .expect("a stored position");
    let sides = Sides::new(&redis, &postgres);
    let differences = sides.differences().expect("both are read");
    assert!(differences.is_empty(), "{differences}");
    let offset = |field: &str| {
        let text = redis.client().run("INFO replication").text();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        line.and_then(|number| number.parse::<i64>().ok()).expect("an offset")
    };
    assert!(stored <= offset("master_repl_offset:"), "{stored}");

    tandem.restart();
    tandem.wait_streaming();
    assert_eq!(tandem.client().run("HGET hash field"), Value::bulk(count.to_string()));
    let status = tandem.status();
    assert_eq!(status["mirror_full_syncs"], "0", "{status:?}");
    sides.assert_equal();
}

/// Neither a PostgreSQL nor a Redis that says nothing keeps the process from ending.
#[test]
fn silent_backends_do_not_hold_up_the_end() {
    std::thread::scope(|scope| {
        for silent in ["redis", "postgres", "both"] {
            scope.spawn(move || end_beside(silent));
        }
    });
}

fn end_beside(silent: &str) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres).allow("").start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    assert_eq!(client.run("SET k 1"), Value::ok());
    if silent != "redis" {
        postgres.pause();
    }
    if silent != "postgres" {
        redis.pause();
    }
    client.send(&encode(["INCR", "k"]).repeat(10)).expect("sent");
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    let status = tandem.stop(LIMIT);
    assert!(status.success(), "{silent}: {status:?}");
    println!("{silent} silent: ended after {:?}", start.elapsed());
    if silent != "redis" {
        postgres.resume();
    }
    if silent != "postgres" {
        redis.resume();
    }
    tandem.restart();
    tandem.wait_streaming();
    Sides::new(&redis, &postgres).assert_equal();
}

/// Who has nothing under way has nothing to wait for.
#[test]
fn idle_clients_hold_up_nobody() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres).start();
    tandem.wait_streaming();
    let mut clients: Vec<_> = (0..20).map(|_| tandem.client()).collect();
    for client in &mut clients {
        assert_eq!(client.run("SET k v"), Value::ok());
    }
    let start = Instant::now();
    assert!(tandem.stop(LIMIT).success());
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
    assert!(clients.iter_mut().all(support::Client::closed));
}
