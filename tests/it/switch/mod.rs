//! The strategy switched at run time.

mod model;
mod surface;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value as Json, json};
use support::compare::Sides;
use support::{Postgres, Redis, Tandem, TandemOptions, Value, wait_for};

use crate::admin::{Answer, LIMIT, get, post};
use model::Load;

const STRATEGIES: [&str; 5] =
    ["dual_write", "cache_first", "database_first", "redis_only", "postgres_only"];

fn options(redis: &Redis, postgres: &Postgres, mode: &str) -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).postgres(postgres).mode(mode)
}

fn ask(tandem: &Tandem, to: &str, body: &str) -> Answer {
    post(tandem, &format!("/admin/database/strategy/{to}"), body)
}

#[track_caller]
fn switch(tandem: &Tandem, to: &str) -> Json {
    let answer = ask(tandem, to, "{}");
    let data = answer.data();
    let name = to.replace('-', "_");
    assert_eq!((&data["newStrategy"], &answer.json()["newStrategy"]), (&json!(name), &json!(name)));
    assert_eq!(tandem.status()["strategy"], name);
    data
}

/// Every ordered pair of strategies once, beginning and ending with the first: an Eulerian circuit.
fn walk() -> Vec<&'static str> {
    let mut left: Vec<Vec<usize>> = (0..STRATEGIES.len())
        .map(|a| (0..STRATEGIES.len()).filter(|b| *b != a).collect())
        .collect();
    let (mut stack, mut circuit) = (vec![0], Vec::new());
    while let Some(&at) = stack.last() {
        match left[at].pop() {
            Some(next) => stack.push(next),
            None => circuit.extend(stack.pop()),
        }
    }
    circuit.reverse();
    circuit.into_iter().map(|at| STRATEGIES[at]).collect()
}

#[test]
fn all_pairs_under_load_lose_nothing_and_double_nothing() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres, STRATEGIES[0]).start();
    tandem.wait_holding(true);
    let load = Load::start(&tandem, 4);
    let walk = walk();
    assert_eq!(walk.len(), 21, "{walk:?}");
    for pair in walk.windows(2) {
        load.wait_for_more(10);
        let began = Instant::now();
        let done = switch(&tandem, pair[1]);
        assert_eq!(done["previousStrategy"], pair[0]);
        let held = Duration::from_millis(done["heldMs"].as_u64().expect("a number"));
        eprintln!("{} -> {}: {:?}, clients waited {held:?}", pair[0], pair[1], began.elapsed());
        assert!(held < Duration::from_secs(5), "{pair:?}: {held:?}");
    }
    load.wait_for_more(10);
    let unknown = load.stop_and_check(&tandem);
    assert!(unknown <= 4, "{unknown} commands had an unknown outcome");
    tandem.wait_streaming();
    Sides::new(&redis, &postgres).assert_equal();
    let log = postgres.sql("SELECT count(*) FROM tandem.strategy_log");
    assert_eq!(log.trim(), "20");
}

#[test]
fn what_lives_in_redis_alone_goes_along() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let rule = "match = \"lock:*\"\nmirror = false";
    let tandem = options(&redis, &postgres, "dual_write").family(rule).start();
    tandem.wait_holding(true);
    let stored = || {
        let rows = "SELECT count(*) FROM tandem.keys WHERE convert_from(key, 'UTF8') LIKE 'lock:%'";
        postgres.sql(rows).trim().to_owned()
    };
    let mut client = tandem.client();
    client.run("SELECT 3");
    client.run("SET lock:gone 1 PX 1");
    client.run("SET lock:a 1 EX 1000");
    client.run("RPUSH lock:list 1");
    client.run("SET kept 1");
    let mut rounds = 1;
    for to in [
        "postgres_only",
        "cache_first",
        "database_first",
        "redis_only",
        "postgres_only",
        "dual_write",
    ] {
        assert_eq!(
            stored() == "0",
            !matches!(&*tandem.status()["strategy"], "postgres_only" | "database_first")
        );
        switch(&tandem, to);
        rounds += 1;
        assert_eq!(client.run("INCR lock:a"), Value::Int(rounds), "{to}");
        assert_eq!(client.run(&format!("RPUSH lock:list {rounds}")), Value::Int(rounds), "{to}");
        assert!((900..=1000).contains(&client.run("TTL lock:a").int()), "{to}");
        assert_eq!(client.run("EXISTS lock:gone kept"), Value::Int(1), "{to}");
        client.run("DEL lock:once");
        assert_eq!(client.run("SET lock:once 1 NX"), Value::ok(), "{to}");
    }
    assert_eq!(stored(), "0");
    client.run("DEL lock:once");
    assert_eq!(redis.client().run("DBSIZE"), Value::Int(0));
    tandem.wait_streaming();
    let mut sides = Sides::new(&redis, &postgres);
    sides.unmirrored.push("lock:*".into());
    sides.assert_equal();
}

/// A proxy that is killed in the middle of a switch goes on with one strategy or the other, and with everything
/// that was acknowledged.
#[test]
fn a_proxy_killed_in_the_middle_of_a_switch_has_lost_nothing() {
    let mut random = StdRng::seed_from_u64(support::seed(5));
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres, "dual_write").allow("").start();
    tandem.wait_holding(true);
    // Both bounds of the counter: one increment at a time may have an unknown fate.
    let (mut low, mut high, mut rounds) = (0, 0, Vec::new());
    for to in [
        "postgres_only",
        "cache_first",
        "database_first",
        "redis_only",
        "database_first",
        "dual_write",
    ] {
        let from = tandem.status()["strategy"].clone();
        let started = ask(&tandem, &format!("{to}?wait=false"), "{}");
        assert_eq!(started.code, 202, "{}", started.text);
        let until = Instant::now() + Duration::from_millis(random.random_range(0..150));
        let mut client = tandem.client();
        while Instant::now() < until {
            high += 1;
            if let Value::Int(count) = client.run("INCR n") {
                assert!((low + 1..=high).contains(&count), "{count}, not {low}..={high}");
                (low, high) = (count, count);
            }
        }
        tandem.kill9();
        tandem.restart();
        let mut client = tandem.client();
        client.set_timeout(LIMIT);
        let mut count = Value::Nil;
        wait_for("service", LIMIT, || {
            count = client.run("GET n");
            !count.is_error()
        });
        let count = if count == Value::Nil { 0 } else { count.int() };
        let now = tandem.status()["strategy"].clone();
        rounds.push(format!("{from} -> {to}: {now}"));
        assert!((low..=high).contains(&count), "{count}, not {low}..={high}: {rounds:?}");
        assert!(now == from || now == to, "{rounds:?}");
        (low, high) = (count, count);
        wait_for("the switch", LIMIT, || ask(&tandem, to, "{}").code == 200);
        assert_eq!(
            client.run("GET n"),
            if high == 0 { Value::Nil } else { Value::bulk(high.to_string()) }
        );
    }
    eprintln!("{rounds:?}");
    tandem.wait_streaming();
    Sides::new(&redis, &postgres).assert_equal();
}

/// A command that waited for the end of a switch is acknowledged by whoever leads then, as everything is there.
#[test]
fn what_is_acknowledged_right_after_a_switch_survives_a_kill() {
    let mut random = StdRng::seed_from_u64(support::seed(6));
    let rounds = std::env::var("TANDEM_TEST_ROUNDS").ok().and_then(|n| n.parse().ok());
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres, "dual_write").allow("").start();
    tandem.wait_holding(true);
    let mut count = 0;
    for round in 0..rounds.unwrap_or(4) {
        let from = ["cache_first", "dual_write"][round % 2];
        let to = ["database_first", "postgres_only"][round / 2 % 2];
        wait_for("the switch back", LIMIT, || ask(&tandem, from, "{}").code == 200);
        let mut client = tandem.client();
        client.set_timeout(LIMIT);
        let started = ask(&tandem, &format!("{to}?wait=false"), "{}");
        assert_eq!(started.code, 202, "{}", started.text);
        std::thread::sleep(Duration::from_millis(random.random_range(0..80)));
        let reply = client.run("INCR n");
        tandem.kill9();
        tandem.restart();
        if !reply.is_error() {
            count += 1;
            assert_eq!(reply, Value::Int(count));
        }
        let strategy = tandem.status()["strategy"].clone();
        let seen = tandem.client().insist("GET n");
        let expected = match count {
            0 => Value::Nil,
            count => Value::bulk(count.to_string()),
        };
        let theirs = redis.client().run("GET n");
        assert_eq!(
            seen, expected,
            "round {round}: {reply:?} from {from} to {to}, now {strategy}; Redis has {theirs:?}"
        );
        eprintln!("{from} -> {to}: {strategy}, {reply:?}");
    }
}

#[test]
fn blocked_clients_hold_nobody_up_and_stay_connected() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres, "dual_write").start();
    tandem.wait_holding(true);
    let mut idle = tandem.client();
    assert_eq!(idle.run("MULTI"), Value::ok());
    idle.run("SET k 1");
    for to in ["postgres_only", "redis_only", "database_first", "dual_write"] {
        let mut blocked = tandem.client();
        blocked.set_timeout(LIMIT);
        blocked.send(&support::encode(["BLPOP", "list", "0"])).expect("sent");
        wait_for("the client to block", LIMIT, || {
            tandem.client().run("INFO clients").text().contains("\r\nblocked_clients:1\r\n")
        });
        let held = switch(&tandem, to)["heldMs"].as_u64().expect("a number");
        let Value::Error(text) = blocked.receive().expect("a reply") else { panic!("no error") };
        assert!(text.starts_with("UNKNOWNOUTCOME"), "{text}");
        assert!(held < 1500, "{to}: clients waited {held} ms for one that was blocked");
        assert_eq!(blocked.run("RPUSH list 1"), Value::Int(1));
        assert_eq!(blocked.run("BLPOP list 0"), Value::bulks(["list", "1"]));
    }
    // What was queued in a server that does not lead any more is not run.
    assert!(idle.run("EXEC").is_error());
    assert_eq!(idle.run("GET k"), Value::Nil);
}
