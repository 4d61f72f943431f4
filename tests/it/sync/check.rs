//! The consistency check: it finds what is wrong and nothing else.

use std::time::Duration;

use serde_json::Value as Json;
use support::compare::Sides;
use support::load::RandomLoad;
use support::{Value, seed, wait_for};

use super::plants::{self, Choice, Expected};
use crate::admin::commands::cli;
use crate::admin::{LIMIT, Trio, get};

const CHECK: &str = "/admin/database/consistency-check";

/// What a report tells of each key.
#[track_caller]
fn found(report: &Json) -> Expected {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let rows = report["differences"].as_array().unwrap_or_else(|| panic!("{report}"));
    rows.iter()
        .map(|row| {
            let key = text(&row["key"]).expect("a key");
            (key, (text(&row["kind"]).expect("a kind"), text(&row["aspect"])))
        })
        .collect()
}

#[test]
fn every_planted_difference_is_found_under_load_and_no_other() {
    const WRONG: usize = 1000;
    let seed = seed(7);
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    plants::write(&mut tandem.client(), Choice::All, WRONG);
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let expected = plants::spoil(&trio.redis, &trio.postgres, seed, Choice::All, WRONG);
    let load =
        RandomLoad { clients: 3, ..RandomLoad::new(tandem.port(), seed, Duration::from_secs(4)) };
    let report = std::thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        let mut reports = Vec::new();
        while !load.is_finished() {
            reports.push(get(&tandem, &format!("{CHECK}?limit=5000&rate=0")).data());
        }
        load.join().expect("the load ends well");
        println!("{} checks under load", reports.len());
        for report in &reports {
            assert_eq!(found(report), expected, "{}", report["counts"]);
            assert_eq!(report["unsettled"], 0, "{report}");
        }
        reports.pop().expect("a report")
    });
    assert_eq!((&report["consistent"], &report["status"]), (&false.into(), &"inconsistent".into()));
    let total: u64 = ["missing_in_redis", "missing_in_postgres", "different"]
        .iter()
        .map(|kind| report[kind].as_u64().expect("a count"))
        .sum();
    assert_eq!(total, expected.len() as u64);
    assert_eq!(report["counts"]["difference"], total);
    let families = report["families"].as_array().expect("families");
    let family = |name: &str| families.iter().find(|row| row["family"] == name);
    assert_eq!(family("right:*").expect("a family")["consistent"], true);
    assert_eq!(family("right:*").expect("a family")["redis"], WRONG);
    assert_eq!(family("wrong:*").expect("a family")["consistent"], false);
    let part = get(&tandem, &format!("{CHECK}?pattern=right:*&limit=1")).data();
    assert_eq!(
        (&part["consistent"], &part["counts"]["redis"]),
        (&true.into(), &WRONG.into()),
        "{part}"
    );
    let jobs = get(&tandem, "/admin/jobs").data();
    let listed = jobs["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .find(|job| job["arguments"]["pattern"].is_null());
    let differences = &listed.expect("a check of all keys")["result"]["differences"];
    assert_eq!(differences.as_array().map(Vec::len), Some(10), "{differences}");
    let table = cli(&tandem, "check-consistency");
    assert_eq!(table.code, Some(1), "{}{}", table.out, table.err);
    assert!(table.out.contains("status\tinconsistent\n"), "{}", table.out);
    assert!(table.out.contains("\nfamily\tredis\tpostgres\t"), "{}", table.out);
}

#[test]
fn two_sides_that_are_equal_are_consistent() {
    let mut trio = Trio::new("dual_write");
    trio.options = trio.options.family("match = 'lock:*'\nmirror = false");
    let tandem = trio.ready();
    let mut client = tandem.client();
    for command in ["SET a 1", "SET lock:a 1", "HSET h a 1", "SET b:1 x EX 1000", "SET soon x PX 1"]
    {
        client.run(command);
    }
    let report = get(&tandem, CHECK).data();
    assert_eq!(
        (&report["consistent"], &report["status"]),
        (&true.into(), &"consistent".into()),
        "{report}"
    );
    assert_eq!(report["not_mirrored"], 1, "{report}");
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(0), "{report}");
    let done = cli(&tandem, "check-consistency --json");
    let json: Json =
        serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.err));
    assert_eq!((done.code, &json["consistent"]), (Some(0), &true.into()));
    for bad in ["?limit=x", "?limit=100000", "?pattern=", "?what=1", "?wait=maybe"] {
        assert_eq!(get(&tandem, &format!("{CHECK}{bad}")).error(400), "bad_request", "{bad}");
    }
}

/// What Redis has evicted or dropped is no fault.
#[test]
fn a_partial_redis_is_not_inconsistent() {
    let redis = support::Redis::options()
        .with("maxmemory", "3mb")
        .with("maxmemory-policy", "allkeys-lru")
        .start();
    let postgres = support::Postgres::start();
    let tandem = support::Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .allow("")
        .start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    let value = "x".repeat(1000);
    for part in (0..4000).collect::<Vec<_>>().chunks(500) {
        let keys = part.iter().map(|n| vec!["SET".to_owned(), format!("k:{n}"), value.clone()]);
        assert!(
            client.pipeline(keys.collect::<Vec<_>>()).iter().all(|reply| *reply == Value::ok())
        );
    }
    let report = get(&tandem, CHECK).data();
    assert_eq!(report["consistent"], true, "{report}");
    assert_eq!(report["counts"]["postgres"], 4000, "{report}");
    assert!(report["not_in_redis"].as_u64() > Some(1000), "{report}");
    assert_eq!(report["missing_in_redis"], 0, "{report}");
}

#[test]
fn a_backend_that_is_away_is_an_error_and_never_consistent() {
    let mut trio = Trio::new("dual_write");
    let mut tandem = trio.ready();
    tandem.allow("");
    tandem.client().run("SET a 1");
    trio.postgres.stop();
    let refused = || get(&tandem, CHECK).json()["error"].clone();
    wait_for("the outage", LIMIT, || refused() == "postgres_unavailable");
    assert_eq!(get(&tandem, CHECK).error(503), "postgres_unavailable");
    let failed = cli(&tandem, "check-consistency");
    assert_eq!((failed.code, failed.out.as_str()), (Some(1), ""));
    assert!(failed.err.contains("PostgreSQL"), "{}", failed.err);
    trio.postgres.restart();
    wait_for("the mirror", LIMIT, || get(&tandem, CHECK).code == 200);
    trio.redis.stop();
    wait_for("the outage", LIMIT, || refused() == "redis_unavailable");
    assert_eq!(get(&tandem, CHECK).error(503), "redis_unavailable");
    assert_eq!(cli(&tandem, "check-consistency").code, Some(1));
}

#[test]
fn where_there_are_no_two_sides_that_is_said() {
    for mode in ["redis_only", "postgres_only", "database_first"] {
        let trio = Trio::new(mode);
        let tandem = trio.ready();
        let answer = get(&tandem, CHECK);
        assert_eq!(answer.error(409), "not_applicable", "{mode}");
        assert!(answer.text.contains(mode), "{}", answer.text);
        let refused = cli(&tandem, "check-consistency");
        assert_eq!(refused.code, Some(1));
        assert!(refused.err.contains(mode), "{}", refused.err);
    }
}
