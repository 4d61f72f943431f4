//! HTTP, command line and TANDEM STRATEGY; what is remembered; what is refused.

use support::Client;

use super::*;
use crate::admin::commands::cli;

#[test]
fn a_switch_is_remembered_until_another_strategy_is_configured() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&redis, &postgres, "dual_write").start();
    tandem.wait_holding(true);
    switch(&tandem, "redis-only");
    let before = tandem.status();
    assert_eq!(before["strategy_configured"], "dual_write");
    assert!(before["strategy_switched_by"].contains("admin"), "{before:?}");
    tandem.stop(LIMIT);
    tandem.restart();
    let status = tandem.status();
    assert_eq!((&*status["strategy"], &*status["mirror_state"]), ("redis_only", "off"));
    assert_eq!(status["strategy_switched_at"], before["strategy_switched_at"]);
    // Nobody has changed the configuration: the next switch counts as well.
    switch(&tandem, "postgres_only");
    tandem.kill9();
    tandem.restart();
    assert_eq!(tandem.status()["strategy"], "postgres_only");
    tandem.kill9();
    let path = tandem.dir().join("proxy.toml");
    let text = std::fs::read_to_string(&path).expect("proxy.toml");
    std::fs::write(&path, text.replace("dual_write", "cache_first")).expect("written");
    tandem.restart();
    let status = tandem.status();
    assert_eq!((&*status["strategy"], &*status["strategy_switched_by"]), ("cache_first", ""));
    tandem.allow("");
}

/// The text of an error.
#[track_caller]
fn said(client: &mut Client, command: &str) -> String {
    match client.run(command) {
        Value::Error(text) => text,
        other => panic!("{command}: {other:?}"),
    }
}

#[test]
fn every_surface_switches_and_says_what_is_wrong() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres, "dual_write").start();
    tandem.wait_holding(true);
    assert_eq!(ask(&tandem, "write-only", "{}").error(404), "not_found");
    assert_eq!(ask(&tandem, "cache-first", r#"{"forced":true}"#).error(400), "bad_request");
    // Without a terminal nobody can be asked.
    let silent = cli(&tandem, "switch-strategy cache-first");
    assert_eq!(silent.code, Some(1), "{}", silent.err);
    assert_eq!(tandem.status()["strategy"], "dual_write");
    assert_eq!(cli(&tandem, "switch-strategy write_only --yes").code, Some(2));
    let done = cli(&tandem, "switch-strategy cache-first --yes --json");
    assert_eq!(done.code, Some(0), "{}", done.err);
    let json: Json = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(
        (&json["previousStrategy"], &json["newStrategy"]),
        (&json!("dual_write"), &json!("cache_first"))
    );
    let mut client = tandem.client();
    assert_eq!(client.run("TANDEM STRATEGY database_first"), Value::ok());
    assert_eq!(tandem.status()["strategy"], "database_first");
    assert!(tandem.status()["strategy_switched_by"].contains("127.0.0.1"));
    assert!(said(&mut client, "TANDEM STRATEGY write_only").starts_with("ERR there is no such"));
    assert!(client.run("TANDEM STRATEGY redis_only now").is_error());
    assert_eq!(client.run("TANDEM STRATEGY Redis-Only FORCE"), Value::ok());
    let again = switch(&tandem, "redis_only");
    assert_eq!(again["message"], "redis_only is in force already");
    let shown = get(&tandem, "/admin/database/status").data();
    assert_eq!(shown["strategy"]["current"], "redis_only");
    assert_eq!(shown["strategy"]["configured"], "dual_write");
    let metrics = get(&tandem, "/metrics").text;
    assert!(metrics.contains(r#"strategy="redis_only""#), "{metrics}");
    let log =
        "SELECT string_agg(previous || '>' || strategy, ' ' ORDER BY id) FROM tandem.strategy_log";
    assert_eq!(
        postgres.sql(log).trim(),
        "dual_write>cache_first cache_first>database_first database_first>redis_only"
    );
}

#[test]
fn only_the_proxys_own_user_may_switch() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    redis.client().run("ACL SETUSER guest on >guest ~* +@all");
    let tandem = options(&redis, &postgres, "cache_first").start();
    tandem.wait_streaming();
    let mut guest = tandem.client();
    assert_eq!(guest.run("AUTH guest guest"), Value::ok());
    let refused = said(&mut guest, "TANDEM STRATEGY redis_only");
    assert!(refused.starts_with("NOPERM"), "{refused}");
    assert_eq!(tandem.status()["strategy"], "cache_first");
}

/// The error of a refusal, after which everything is as before.
#[track_caller]
fn refusal(tandem: &Tandem, to: &str, code: u16) -> String {
    let before = tandem.status()["strategy"].clone();
    let answer = ask(tandem, to, "{}");
    let error = answer.error(code);
    assert_eq!(answer.json()["currentStrategy"], before.as_str());
    assert_eq!(tandem.status()["strategy"], before);
    error
}

#[test]
fn without_redis_what_needs_it_is_refused_and_service_goes_on() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres, "dual_write").allow("").start();
    tandem.wait_holding(true);
    let mut client = tandem.client();
    client.run("SET before 1");
    switch(&tandem, "postgres_only");
    redis.kill9();
    client.run("SET k 1");
    for to in ["dual-write", "cache-first", "database-first", "redis-only"] {
        assert_eq!(refusal(&tandem, to, 503), "redis_unavailable", "{to}");
        assert!(client.run("INCR k").int() > 1, "{to}");
    }
    // As after a failover: PostgreSQL stands in for it.
    assert_eq!(ask(&tandem, "dual-write", r#"{"force":true}"#).data()["newStrategy"], "dual_write");
    assert_eq!(client.run("INCR k"), Value::Int(6));
    assert_eq!(tandem.status()["lead"], "postgres");
    assert_eq!(refusal(&tandem, "redis-only", 503), "redis_unavailable");
    redis.restart();
    wait_for("Redis to lead", LIMIT, || tandem.status()["lead"] == "redis");
    assert_eq!(client.run("INCR k"), Value::Int(7));
    assert_eq!(redis.client().run("GET before"), Value::bulk("1"));
    tandem.wait_streaming();
    Sides::new(&redis, &postgres).assert_equal();
}

#[test]
fn without_postgres_what_needs_it_is_refused_and_service_goes_on() {
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres, "cache_first").allow("").start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    client.run("SET k 1");
    postgres.kill9();
    wait_for("the outage to be seen", LIMIT, || tandem.status()["mirror_state"] == "spooling");
    for to in ["dual-write", "database-first", "postgres-only"] {
        assert_eq!(refusal(&tandem, to, 503), "postgres_unavailable", "{to}");
    }
    assert_eq!(client.run("INCR k"), Value::Int(2));
    // Redis has everything.
    switch(&tandem, "redis-only");
    for to in ["dual-write", "cache-first", "database-first", "postgres-only"] {
        assert_eq!(refusal(&tandem, to, 503), "postgres_unavailable", "{to}");
    }
    assert_eq!(client.run("INCR k"), Value::Int(3));
    let done = ask(&tandem, "dual-write", r#"{"force":true}"#).data();
    assert_eq!(done["newStrategy"], "dual_write");
    assert_eq!(client.run("INCR k"), Value::Int(4));
    postgres.restart();
    tandem.wait_holding(true);
    Sides::new(&redis, &postgres).assert_equal();
    switch(&tandem, "postgres-only");
    assert_eq!(client.run("INCR k"), Value::Int(5));
}

#[test]
fn two_at_once_are_refused_and_one_can_be_cancelled() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = options(&redis, &postgres, "redis_only").allow("").start();
    // It is waited for.
    postgres.pause();
    let first = ask(&tandem, "dual-write?wait=false", "{}");
    assert_eq!(first.code, 202, "{}", first.text);
    let job = first.json()["data"]["id"].clone();
    let second = ask(&tandem, "cache-first", "{}");
    assert_eq!(second.error(409), "busy");
    assert_eq!(second.json()["currentStrategy"], "redis_only");
    let busy = said(&mut tandem.client(), "TANDEM STRATEGY cache_first");
    assert!(busy.contains("is running"), "{busy}");
    let path = format!("/admin/jobs/{job}");
    let cancelled = crate::admin::ask(tandem.admin_port(), "DELETE", &path, &[], "").data();
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    postgres.resume();
    wait_for("another switch", LIMIT, || ask(&tandem, "cache-first", "{}").code == 200);
    assert_eq!(tandem.status()["strategy"], "cache_first");
}

#[test]
fn of_several_proxies_the_one_that_leads_goes_first() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let one = options(&redis, &postgres, "dual_write").start();
    one.wait_holding(true);
    let two = options(&redis, &postgres, "dual_write").start();
    two.wait_holding(true);
    assert_eq!(two.status()["role"], "standby");
    let (mut here, mut there) = (one.client(), two.client());
    assert_eq!(refusal(&two, "postgres-only", 409), "refused");
    let mut count = 0;
    let mut both = || {
        for client in [&mut here, &mut there] {
            count += 1;
            let mut reply = client.run("INCR n");
            // The other one learns of it a moment later.
            wait_for("service", LIMIT, || {
                let again = reply.is_error();
                if again {
                    reply = client.run("INCR n");
                }
                !again
            });
            assert!(reply.int() >= count, "{reply:?}");
            count = reply.int();
        }
    };
    both();
    for to in ["postgres_only", "database_first", "cache_first", "dual_write"] {
        switch(&one, to);
        both();
        wait_for("the other one", LIMIT, || ask(&two, to, "{}").code == 200);
        assert_eq!(two.status()["strategy"], to);
        both();
    }
    one.wait_streaming();
    two.wait_streaming();
    assert_eq!((&*one.status()["role"], &*two.status()["role"]), ("leader", "standby"));
    Sides::new(&redis, &postgres).assert_equal();
}
