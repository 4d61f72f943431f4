//! Copying and repairing, beside the traffic of clients.

use std::time::Duration;

use serde_json::Value as Json;
use support::compare::Sides;
use support::load::RandomLoad;
use support::{Value, seed, wait_for};

use super::plants::{self, Choice};
use crate::admin::commands::cli;
use crate::admin::{LIMIT, Trio, get, post};

const CHECK: &str = "/admin/database/consistency-check";
const FIX: &str = "/admin/database/consistency-fix";
const TO_POSTGRES: &str = "/admin/database/sync/redis-to-postgres";
const TO_REDIS: &str = "/admin/database/sync/postgres-to-redis";

const WRONG: usize = 300;

#[track_caller]
fn assert_consistent(tandem: &support::Tandem) {
    let report = get(tandem, CHECK).data();
    assert_eq!(report["consistent"], true, "{report:#}");
}

#[test]
fn postgres_is_repaired_under_load() {
    let seed = seed(11);
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    plants::write(&mut tandem.client(), Choice::All, WRONG);
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let expected = plants::spoil(&trio.redis, &trio.postgres, seed, Choice::All, WRONG);
    let load =
        RandomLoad { clients: 3, ..RandomLoad::new(tandem.port(), seed, Duration::from_secs(4)) };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        let planned =
            post(&tandem, FIX, r#"{"repair":"postgres","delete":true,"dry_run":true}"#).data();
        assert_eq!(planned["repaired"], expected.len(), "{planned}");
        let found = get(&tandem, CHECK).data();
        assert_eq!(
            found["counts"]["difference"],
            expected.len(),
            "a dry run changes nothing: {found}"
        );
        let kept = post(&tandem, FIX, r#"{"repair":"postgres"}"#).data();
        let extra = expected.values().filter(|(kind, _)| kind == "missing_in_redis").count();
        assert_eq!((&kept["left"], &kept["errors"]), (&extra.into(), &0.into()), "{kept}");
        let done = post(&tandem, FIX, r#"{"repair":"postgres","delete":true}"#).data();
        assert_eq!((&done["deleted"], &done["left"]), (&extra.into(), &0.into()), "{done}");
        assert_consistent(&tandem);
        load.join().expect("the load ends well");
    });
    assert_consistent(&tandem);
    // The mirror goes on from what was repaired.
    let mut client = tandem.client();
    client.call(["SELECT", &plants::DB.to_string()]);
    for n in 0..WRONG {
        let key = format!("wrong:{n}");
        match client.call(["TYPE", &key]).text().as_str() {
            "string" => client.call(["APPEND", &key, "x"]),
            "hash" => client.call(["HSET", &key, "b", "9", "z", "1"]),
            "list" => client.call(["LPOP", &key]),
            "set" => client.call(["SREM", &key, "b"]),
            "zset" => client.call(["ZINCRBY", &key, "1", "a"]),
            _ => client.call(["XADD", &key, "*", "c", "d"]),
        };
    }
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}

#[test]
fn redis_is_repaired_and_never_overwritten_unasked() {
    let seed = seed(12);
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    plants::write(&mut tandem.client(), Choice::Restorable, WRONG);
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let expected = plants::spoil(&trio.redis, &trio.postgres, seed, Choice::Restorable, WRONG);
    let count = |wanted: &str| expected.values().filter(|(kind, _)| kind == wanted).count();
    let planned = post(&tandem, TO_REDIS, r#"{"dry_run":true,"overwrite":true}"#).data();
    assert_eq!(planned["synced"], count("missing_in_redis") + count("different"), "{planned}");
    // Without overwrite: what Redis lacks, and nothing else.
    let done = post(&tandem, TO_REDIS, "").data();
    assert_eq!(
        (&done["synced"], &done["errors"]),
        (&count("missing_in_redis").into(), &0.into()),
        "{done}"
    );
    let found = get(&tandem, CHECK).data();
    assert_eq!(found["different"], count("different"), "{found}");
    assert_eq!(found["missing_in_redis"], 0, "{found}");
    let mut direct = trio.redis.client();
    direct.call(["SELECT", &plants::DB.to_string()]);
    assert_eq!(direct.run("GET extra:0"), Value::bulk("x"));
    assert_eq!(direct.run("GET wrong:0"), Value::bulk("value"));
    // With it PostgreSQL's values win, and what Redis alone has goes when that is asked for.
    let done = post(&tandem, FIX, r#"{"repair":"redis","delete":true}"#).data();
    assert_eq!((&done["left"], &done["errors"]), (&0.into(), &0.into()), "{done}");
    assert_eq!(done["deleted"], count("missing_in_postgres"), "{done}");
    assert_eq!(direct.run("GET wrong:0"), Value::bulk("valuE"));
    assert_consistent(&tandem);
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let mut client = tandem.client();
    client.call(["SELECT", &plants::DB.to_string()]);
    assert_eq!(client.run("APPEND wrong:0 !"), Value::Int(6));
    assert_eq!(client.run("INCR extra:new"), Value::Int(1));
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}

/// Whole keyspaces, with types and expiry, while clients write the very keys that are copied.
#[test]
fn what_is_missing_is_copied_while_clients_write_it() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    let mut client = tandem.client();
    for part in (0..4000).collect::<Vec<_>>().chunks(500) {
        let set = part.iter().map(|n| vec!["SET".to_owned(), format!("n:{n}"), "0".to_owned()]);
        client.pipeline(set.collect::<Vec<_>>());
    }
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    trio.postgres.sql("DELETE FROM tandem.strings; DELETE FROM tandem.keys");
    let increments = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = tandem.client();
            let mut done = 0;
            // Of all keys, again and again, until they are copied.
            while done < 20 || !get(&tandem, "/admin/jobs").data()["jobs"][0]["endedAt"].is_string()
            {
                let all = (0..200).map(|n| ["INCR".to_owned(), format!("n:{}", n * 20)]);
                client.pipeline(all.collect::<Vec<_>>());
                done += 1;
            }
            done
        });
        let done = post(&tandem, TO_POSTGRES, r#"{"pattern":"n:*"}"#).data();
        assert_eq!(done["errors"], 0, "{done}");
        assert!(done["synced"].as_u64() >= Some(3000), "{done}");
        writer.join().expect("the writer ends well")
    });
    assert_eq!(tandem.client().run("GET n:20"), Value::bulk(increments.to_string()));
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}

#[test]
fn nothing_is_deleted_from_postgres_while_redis_is_partial() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    let mut client = tandem.client();
    client.run("SET k 1");
    trio.redis.client().run("CONFIG SET maxmemory-policy allkeys-lru maxmemory 100mb");
    wait_for("care", LIMIT, || tandem.status()["redis_keys"] != "whole");
    let refused = post(&tandem, TO_POSTGRES, r#"{"delete":true}"#);
    assert_eq!(refused.error(409), "refused");
    assert!(refused.text.contains("evicting"), "{}", refused.text);
    post(&tandem, TO_POSTGRES, "{}").data();
}

#[test]
fn the_command_line_copies_and_says_what_it_did() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    let mut client = tandem.client();
    for n in 0..20 {
        client.call(["HSET", &format!("h:{n}"), "a", "1"]);
    }
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    trio.postgres.sql("DELETE FROM tandem.hashes; DELETE FROM tandem.keys WHERE kind = 5");
    let sync = "sync --source redis --target postgres";
    let refused = cli(&tandem, sync);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{}", refused.err);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    let dry = cli(&tandem, &format!("{sync} --dry-run --json"));
    let json: Json = serde_json::from_str(&dry.out).unwrap_or_else(|e| panic!("{e}: {}", dry.err));
    assert_eq!((dry.code, &json["synced"], &json["dryRun"]), (Some(0), &20.into(), &true.into()));
    let done = cli(&tandem, &format!("{sync} --force --pattern h:1*"));
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("synced\t11\n"), "{}", done.out);
    let refused = cli(&tandem, "check-consistency --repair postgres");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("--force"), "{}", refused.err);
    assert_eq!(cli(&tandem, "check-consistency").code, Some(1));
    let repaired = cli(&tandem, "check-consistency --repair postgres --force --json");
    let json: Json =
        serde_json::from_str(&repaired.out).unwrap_or_else(|e| panic!("{e}: {}", repaired.err));
    assert_eq!((repaired.code, &json["repair"]["repaired"]), (Some(0), &9.into()), "{json}");
    assert_eq!(json["consistent"], true);
    let back = cli(&tandem, "sync --source postgres --target redis --force");
    assert!(back.code == Some(0) && back.out.contains("synced\t0\n"), "{}{}", back.out, back.err);
    for usage in [
        "sync",
        "sync --source redis --target redis",
        "sync --source a --target redis",
        "check-consistency --force",
    ] {
        assert_eq!(cli(&tandem, usage).code, Some(2), "{usage}");
    }
    let jobs = cli(&tandem, "jobs");
    assert!(jobs.out.contains("\tredis-to-postgres\tdone\t"), "{}", jobs.out);
    let one = cli(&tandem, "jobs 1");
    assert!(one.code == Some(0) && one.out.contains("state\tdone\n"), "{}{}", one.out, one.err);
    assert_eq!(cli(&tandem, "jobs 77").code, Some(1));
}
