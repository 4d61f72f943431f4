//! Jobs: one change at a time, progress, cancelling, going on, and what happens without a backend.

use serde_json::{Value as Json, json};
use support::compare::Sides;
use support::{Tandem, Value, wait_for};

use crate::admin::commands::cli;
use crate::admin::{Answer, LIMIT, Trio, ask, get, post};

const TO_POSTGRES: &str = "/admin/database/sync/redis-to-postgres";
const TO_REDIS: &str = "/admin/database/sync/postgres-to-redis";
const FIX: &str = "/admin/database/consistency-fix";

/// Every call that changes data, with a body that it takes.
pub const CHANGES: &[(&str, &str)] = &[
    (TO_POSTGRES, "{}"),
    (TO_REDIS, "{}"),
    (FIX, r#"{"repair":"postgres"}"#),
    ("/admin/database/cache/clear", "{}"),
    ("/admin/database/cache/warm", "{}"),
];

fn fill(tandem: &Tandem, keys: usize) {
    let all = (0..keys).map(|n| vec!["SET".to_owned(), format!("k:{n}"), n.to_string()]);
    let replies = tandem.client().pipeline(all.collect::<Vec<_>>());
    assert!(replies.iter().all(|reply| *reply == Value::ok()));
}

/// The job that a call answers with `wait=false`.
#[track_caller]
fn accepted(answer: &Answer) -> Json {
    assert_eq!(answer.code, 202, "{}", answer.text);
    answer.json()["data"].clone()
}

#[test]
fn a_job_shows_its_progress_is_alone_is_cancelled_and_taken_up_again() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    fill(&tandem, 6000);
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    trio.postgres.sql("DELETE FROM tandem.strings; DELETE FROM tandem.keys");
    let job = accepted(&post(&tandem, &format!("{TO_POSTGRES}?wait=false"), r#"{"rate":600}"#));
    let path = format!("/admin/jobs/{}", job["id"]);
    let look = || get(&tandem, &path).data();
    wait_for("progress", LIMIT, || look()["progress"]["counts"]["synced"].as_u64() > Some(500));
    let seen = look();
    assert_eq!((&seen["state"], &seen["progress"]["phase"]), (&json!("running"), &json!("redis")));
    assert!(seen["progress"]["total"].as_u64() >= Some(6000), "{seen}");
    for (path, body) in CHANGES {
        let busy = post(&tandem, path, body);
        assert_eq!(busy.error(409), "busy", "{path}");
        assert_eq!(busy.json()["data"]["job"], job["id"], "{path}");
    }
    // A check is no change.
    let report = get(&tandem, "/admin/database/consistency-check").data();
    assert!(report["missing_in_postgres"].as_u64() > Some(0), "{report}");
    let cancelled = ask(tandem.admin_port(), "DELETE", &path, &[], "").data();
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert!(cancelled["endedAt"].is_string(), "{cancelled}");
    let before = cancelled["progress"]["counts"]["synced"].as_u64().expect("a count");
    assert!(before < 6000, "{cancelled}");
    let wrong = post(&tandem, TO_REDIS, &json!({ "resume": job["id"] }).to_string());
    assert_eq!(wrong.error(404), "not_found", "another kind");
    // What it was asked for stays, the pace included: a new one goes on by itself.
    let rest = post(&tandem, TO_POSTGRES, r#"{"rate":0}"#).data();
    assert_eq!(rest["errors"], 0, "{rest}");
    assert!(rest["synced"].as_u64().expect("a count") <= 6000 - before, "{rest}");
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    assert_eq!(get(&tandem, "/admin/jobs/99").error(404), "not_found");
    assert_eq!(get(&tandem, "/admin/jobs/x").error(404), "not_found");
    assert_eq!(post(&tandem, &path, "").error(405), "method_not_allowed");
    let jobs = get(&tandem, "/admin/jobs").data();
    assert_eq!(jobs["jobs"][0]["kind"], "redis-to-postgres", "{jobs}");
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(3), "{jobs}");
}

#[test]
fn a_job_goes_on_where_the_backend_left_it() {
    let mut trio = Trio::new("dual_write");
    let mut tandem = trio.ready();
    tandem.allow("");
    fill(&tandem, 3000);
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    trio.postgres.sql("DELETE FROM tandem.strings; DELETE FROM tandem.keys");
    let job = accepted(&post(&tandem, &format!("{TO_POSTGRES}?wait=false"), r#"{"rate":1500}"#));
    let path = format!("/admin/jobs/{}", job["id"]);
    let look = |tandem: &Tandem| get(tandem, &path).data();
    wait_for("progress", LIMIT, || {
        look(&tandem)["progress"]["counts"]["synced"].as_u64() > Some(600)
    });
    trio.postgres.kill9();
    wait_for("the end", LIMIT, || look(&tandem)["endedAt"].is_string());
    let failed = look(&tandem);
    assert_eq!(failed["state"], "failed", "{failed}");
    let word = failed["error"]["error"].as_str().expect("a word");
    assert!(["postgres_unavailable", "mirror_unavailable"].contains(&word), "{failed}");
    let before = failed["progress"]["counts"]["synced"].as_u64().expect("a count");
    trio.postgres.restart();
    // The mirror notices that its session has gone when it has something to do; then it comes back.
    let mut rest = None;
    wait_for("the mirror", LIMIT, || {
        let answer = post(&tandem, TO_POSTGRES, &json!({ "resume": job["id"] }).to_string());
        rest = (answer.code == 200).then(|| answer.data());
        rest.is_some()
    });
    let rest = rest.expect("it was done");
    assert!(rest["total"].as_u64().expect("a count") < 3000, "not from the beginning: {rest}");
    assert!(rest["synced"].as_u64().expect("a count") + before <= 3000 + 512, "{rest}");
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}

#[test]
fn without_a_backend_every_change_fails_and_says_so() {
    let mut trio = Trio::new("dual_write");
    let mut tandem = trio.ready();
    tandem.allow("");
    fill(&tandem, 10);
    trio.postgres.stop();
    let refused = |path: &str, body: &str| post(&tandem, path, body).json()["error"].clone();
    wait_for("the outage", LIMIT, || refused(TO_REDIS, "{}") == "postgres_unavailable");
    for (path, body) in CHANGES {
        assert_eq!(post(&tandem, path, body).error(503), "postgres_unavailable", "{path}");
    }
    let sync = "sync --source redis --target postgres --force";
    assert_eq!(cli(&tandem, sync).code, Some(1));
    trio.postgres.restart();
    wait_for("the mirror", LIMIT, || post(&tandem, TO_REDIS, "{}").code == 200);
    trio.redis.stop();
    // Somebody may have to take over first.
    wait_for("the outage", LIMIT, || refused(TO_REDIS, "{}") == "redis_unavailable");
    for (path, body) in CHANGES {
        assert_eq!(post(&tandem, path, body).error(503), "redis_unavailable", "{path}");
    }
    assert_eq!(cli(&tandem, sync).code, Some(1));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let trio = Trio::new("redis_only");
    let tandem = trio.ready();
    for (path, body) in CHANGES {
        assert_eq!(post(&tandem, path, body).error(409), "not_applicable", "{path}");
        for bad in ["{", "[1]", r#"{"what":1}"#, r#"{"repair":"redis","pattern":""}"#] {
            assert_eq!(post(&tandem, path, bad).error(400), "bad_request", "{path} {bad}");
        }
        assert_eq!(post(&tandem, &format!("{path}?wait=x"), body).error(400), "bad_request");
    }
    assert_eq!(post(&tandem, FIX, "{}").error(400), "bad_request");
    assert_eq!(post(&tandem, TO_POSTGRES, r#"{"overwrite":true}"#).error(400), "bad_request");
    assert_eq!(post(&tandem, TO_REDIS, r#"{"resume":5}"#).error(404), "not_found");
}
