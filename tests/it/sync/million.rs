//! Many keys, for time and memory. The number comes from `TANDEM_TEST_COPY_KEYS`: `./dev copies`.

use std::time::{Duration, Instant};

use support::{Postgres, Redis, Tandem, Value};

use crate::admin::{get, post};

/// What a small run is done with, so that the test is no dead letter.
const FEW: usize = 5_000;

#[test]
fn many_keys_are_compared_and_copied_in_bounded_memory() {
    let keys = std::env::var("TANDEM_TEST_COPY_KEYS").ok().and_then(|keys| keys.parse().ok());
    let keys: usize = keys.unwrap_or(FEW);
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut direct = redis.client();
    direct.set_timeout(Duration::from_secs(600));
    // Three in four strings, the rest hashes of five fields, as the relay has them.
    let write = "for i = ARGV[1], ARGV[2] do
        if i % 4 == 0 then redis.call('HSET', 'h:' .. i, 'name', 'n' .. i, 'tokens', i, 'cost', i / 7, 'model', 'm', 'at', 1700000000 + i)
        else redis.call('SET', 's:' .. i, 'value of ' .. i, 'EX', 1000000) end end";
    for from in (0..keys).step_by(10_000) {
        let to = (from + 9_999).min(keys - 1);
        let reply = direct.call(["EVAL", write, "0", &from.to_string(), &to.to_string()]);
        assert_eq!(reply, Value::Nil);
    }
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .set("postgres", "query_timeout_ms", 600_000)
        .allow("acknowledged by Redis")
        .start();
    tandem.wait_streaming();
    let timed = |what: &str, work: &dyn Fn() -> serde_json::Value| {
        let start = Instant::now();
        let answer = work();
        let resident = tandem.process().resident_bytes() >> 20;
        println!(
            "{what}: {keys} keys in {:.1} s, {resident} MiB resident",
            start.elapsed().as_secs_f64()
        );
        answer
    };
    let job = |path: &str, body: &str| {
        let separator = if path.contains('?') { '&' } else { '?' };
        let url = format!("{path}{separator}wait=false");
        let started = if body.is_empty() { get(&tandem, &url) } else { post(&tandem, &url, body) };
        assert_eq!(started.code, 202, "{}", started.text);
        let id = started.json()["data"]["id"].clone();
        loop {
            let job = get(&tandem, &format!("/admin/jobs/{id}")).data();
            if job["endedAt"].is_string() {
                assert_eq!(job["state"], "done", "{job}");
                return job["result"].clone();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let check = || job("/admin/database/consistency-check?rate=0", "");
    let report = timed("check", &check);
    assert_eq!((&report["consistent"], &report["counts"]["redis"]), (&true.into(), &keys.into()));
    let before = tandem.process().resident_bytes();
    postgres.sql("TRUNCATE tandem.keys, tandem.strings, tandem.hashes");
    let done = timed("redis to postgres", &|| {
        job("/admin/database/sync/redis-to-postgres", r#"{"rate":0}"#)
    });
    assert_eq!((&done["synced"], &done["errors"]), (&keys.into(), &0.into()), "{done}");
    // Copies go by themselves, so that PostgreSQL has what Redis lacks.
    let done = timed("cache clear", &|| job("/admin/database/cache/clear", r#"{"rate":0}"#));
    assert_eq!(done["cleared"], keys, "{done}");
    let done = timed("postgres to redis", &|| {
        job("/admin/database/sync/postgres-to-redis", r#"{"rate":0}"#)
    });
    assert_eq!((&done["synced"], &done["errors"]), (&keys.into(), &0.into()), "{done}");
    let report = timed("check", &check);
    assert_eq!((&report["consistent"], &report["counts"]["redis"]), (&true.into(), &keys.into()));
    let grown = tandem.process().resident_bytes().saturating_sub(before) >> 20;
    // The mirror's cache of values is 64 MiB by default.
    assert!(grown < 300, "{grown} MiB more");
}
