//! Each endpoint with both backends there, with one stopped, and with it back.

use std::time::{Duration, Instant};

use support::{Redis, Tandem, Value, wait_for};

use super::{LIMIT, Trio, get, post};

#[test]
fn all_is_well() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    let mut client = tandem.client();
    for n in 0..50 {
        assert_eq!(client.call(["SET", &format!("k{n}"), "v"]), Value::ok());
        client.call(["GET", &format!("k{n}")]);
        client.call(["GET", "missing"]);
    }
    get(&tandem, "/live").data();
    let health = get(&tandem, "/admin/database/health").data();
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(health["databases"]["redis"], true);
    assert_eq!(health["databases"]["postgres"], true);
    assert_eq!(health["strategy"], "dual_write");
    assert_eq!(health["mode"], "dual_write");
    assert_eq!((&health["initialized"], &health["syncEnabled"]), (&true.into(), &true.into()));
    assert!(health["stats"]["operations"].as_u64() >= Some(150), "{health}");

    wait_for("the first position", LIMIT, || tandem.status()["mirror_offset"] != "0");
    let status = get(&tandem, "/admin/database/status").data();
    assert_eq!(status["health"]["status"], "healthy");
    let pools = &status["connectionPools"];
    assert_eq!(
        (&pools["redis"]["connected"], &pools["postgres"]["connected"]),
        (&true.into(), &true.into())
    );
    assert!(pools["redis"]["lanes"].as_u64() >= Some(1), "{status}");
    assert!(pools["postgres"]["totalCount"].as_u64() >= Some(2), "{status}");
    assert_eq!(status["mirror"]["state"], "streaming");
    assert!(status["mirror"]["offset"].as_i64() > Some(0), "{status}");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));

    let metrics = get(&tandem, "/admin/database/metrics").data();
    assert_eq!(metrics["operations"]["byClass"]["write"], 50, "{metrics}");
    assert_eq!(metrics["operations"]["byClass"]["read"], 100, "{metrics}");
    // The proxy itself may have looked up something too.
    let rate = metrics["cache"]["hitRate"].as_f64().expect("a rate");
    assert!((0.4..0.6).contains(&rate), "{metrics}");
    for class in ["read", "write", "proxy", "redis", "postgresCommit"] {
        let latency = &metrics["latencyMs"][class];
        let value = |name: &str| latency[name].as_f64().expect("a latency");
        assert!(latency["count"].as_u64() > Some(0), "{class}: {metrics}");
        assert!(value("p50") <= value("p95") && value("p95") <= value("p99"), "{metrics}");
    }
    let done = post(&tandem, "/admin/database/reconnect", "{}").data();
    assert_eq!(done["databases"]["postgres"], true, "{done}");
}

#[test]
fn redis_stopped_and_back() {
    let mut trio = Trio::new("dual_write");
    let mut tandem = trio.ready();
    tandem.allow("");
    trio.redis.stop();
    let start = Instant::now();
    wait_for("the mode", LIMIT, || {
        get(&tandem, "/admin/database/health").json()["data"]["mode"] == "postgres_only"
    });
    let health = get(&tandem, "/admin/database/health").data();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["databases"]["redis"], false, "{health}");
    assert_eq!(health["databases"]["postgres"], true, "{health}");
    let status = get(&tandem, "/admin/database/status").data();
    assert_eq!(status["connectionPools"]["redis"]["connected"], false, "{status}");
    assert_eq!(get(&tandem, "/ready").code, 200, "a latch");
    assert_eq!(get(&tandem, "/live").code, 200);
    assert!(get(&tandem, "/admin/database/metrics").data()["cache"]["hits"].is_null());
    assert!(get(&tandem, "/metrics").text.contains("tandem_backend_up{backend=\"redis\"} 0\n"));
    assert_eq!(post(&tandem, "/admin/database/reconnect", "{}").error(503), "unavailable");
    assert_eq!(tandem.client().run("GET k"), support::Value::Nil);
    trio.postgres.stop();
    wait_for("the error", LIMIT, || get(&tandem, "/admin/database/health").code == 503);
    let both = get(&tandem, "/admin/database/health");
    assert_eq!(both.error(503), "unhealthy");
    assert_eq!(both.json()["data"]["mode"], "unavailable", "{}", both.text);
    wait_for("an error", LIMIT, || tandem.client().run("SET k 1").is_error());
    trio.postgres.restart();
    trio.redis.restart();
    post(&tandem, "/admin/database/reconnect", "{}").data();
    wait_for("health", LIMIT, || {
        get(&tandem, "/admin/database/health").json()["data"]["status"] == "healthy"
    });
}

#[test]
fn postgres_stopped_and_back() {
    let mut trio = Trio::new("dual_write");
    trio.options = trio.options.set("strategy", "ack_timeout_ms", 300);
    let mut tandem = trio.ready();
    tandem.allow("");
    trio.postgres.stop();
    let health = get(&tandem, "/admin/database/health").data();
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["databases"]["redis"], true, "{health}");
    assert_eq!(health["databases"]["postgres"], false, "{health}");
    assert!(
        health["reasons"][0].as_str().is_some_and(|why| why.contains("PostgreSQL")),
        "{health}"
    );
    for n in 0..200 {
        tandem.client().call(["SET", &format!("k{n}"), "v"]);
    }
    wait_for("the mode", LIMIT, || {
        get(&tandem, "/admin/database/health").data()["mode"] == "redis_only"
    });
    let status = get(&tandem, "/admin/database/status").data();
    assert_eq!(status["connectionPools"]["postgres"]["connected"], false, "{status}");
    assert_eq!(status["mirror"]["state"], "spooling", "{status}");
    let metrics = get(&tandem, "/admin/database/metrics").data();
    assert!(metrics["mirror"]["lagBytes"].as_u64() > Some(0), "{metrics}");
    assert!(get(&tandem, "/metrics").text.contains("tandem_backend_up{backend=\"postgres\"} 0\n"));
    assert_eq!(post(&tandem, "/admin/database/reconnect", "{}").error(503), "unavailable");
    trio.postgres.restart();
    let start = Instant::now();
    let done = post(&tandem, "/admin/database/reconnect", "{}").data();
    assert_eq!(done["message"], "connected", "{done} after {:?}", start.elapsed());
    assert_eq!(get(&tandem, "/admin/database/health").data()["status"], "healthy");
}

/// A frozen backend answers nothing, and holds nobody up for long.
#[test]
fn a_silent_backend_counts_as_gone() {
    let trio = Trio::new("cache_first");
    let mut tandem = trio.ready();
    tandem.allow("");
    trio.redis.pause();
    trio.postgres.pause();
    let start = Instant::now();
    let answer = get(&tandem, "/admin/database/health");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let body = answer.json();
    assert_eq!((answer.code, &body["data"]["status"]), (503, &"unhealthy".into()), "{body}");
    assert_eq!(body["data"]["databases"]["postgres"], false, "{body}");
    assert!(get(&tandem, "/metrics").code == 200);
    trio.redis.resume();
    trio.postgres.resume();
    wait_for("health", LIMIT, || {
        get(&tandem, "/admin/database/health").json()["data"]["status"] == "healthy"
    });
}

#[test]
fn readiness_waits_for_redis_and_ends_with_the_process() {
    let mut redis = Redis::start();
    redis.stop();
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only");
    let mut tandem = options.allow("").start();
    assert_eq!(get(&tandem, "/ready").error(503), "not_ready");
    assert_eq!(get(&tandem, "/live").code, 200);
    redis.restart();
    wait_for("readiness", LIMIT, || get(&tandem, "/ready").code == 200);
    let health = get(&tandem, "/admin/database/health").data();
    assert_eq!(health["status"], "healthy", "PostgreSQL is not asked for: {health}");
    assert!(tandem.stop(LIMIT).success());
}

#[test]
fn without_redis_it_is_not_asked_for() {
    let mut trio = Trio::new("postgres_only");
    trio.redis.stop();
    let mut tandem = trio.ready();
    assert_eq!(tandem.client().call(["SET", "k", "v"]), Value::ok());
    let health = get(&tandem, "/admin/database/health").data();
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(health["databases"]["redis"], false, "{health}");
    assert_eq!(health["databases"]["postgres"], true, "{health}");
    assert!(!get(&tandem, "/metrics").text.contains("tandem_backend_up{backend=\"redis\"}"));
    tandem.allow("");
    trio.postgres.stop();
    wait_for("the outage to be seen", LIMIT, || get(&tandem, "/admin/database/health").code == 503);
    trio.postgres.restart();
    wait_for("recovery", LIMIT, || get(&tandem, "/admin/database/health").code == 200);
    // Another worker may learn of it a moment later.
    wait_for("the value", LIMIT, || tandem.client().call(["GET", "k"]) == Value::bulk("v"));
}
