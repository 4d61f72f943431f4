//! Who may ask, and what is no question.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use support::{Redis, Scratch, Tandem};

use super::{ask, get, post};

fn redis_only(redis: &Redis) -> support::TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).mode("redis_only")
}

#[test]
fn the_token_is_asked_for_everywhere_but_at_the_probes() {
    let redis = Redis::start();
    let tandem = redis_only(&redis).set("admin", "token", "s3cret").start();
    let port = tandem.admin_port();
    let asked = |path: &str, headers: &[(&str, &str)]| ask(port, "GET", path, headers, "");
    for path in ["/live", "/ready"] {
        assert_eq!(asked(path, &[]).code, 200, "{path}");
    }
    for endpoint in tandem::admin::ENDPOINTS.iter().filter(|endpoint| !endpoint.open) {
        for headers in [
            &[][..],
            &[("authorization", "Bearer wrong!")],
            &[("authorization", "Bearer s3cre")],
            &[("authorization", "Basic s3cret")],
            &[("x-admin-token", "")],
            &[("x-admin-token", "s3cret2")],
        ] {
            let path = endpoint.path.replace("{id}", "1");
            let answer = ask(port, endpoint.method, &path, headers, "{}");
            assert_eq!(answer.error(401), "unauthorized", "{} {headers:?}", endpoint.path);
        }
    }
    assert_eq!(
        asked("/nothing", &[]).error(401),
        "unauthorized",
        "what there is is nobody's business"
    );
    for headers in [
        ("authorization", "Bearer s3cret"),
        ("x-admin-token", "s3cret"),
        ("Authorization", "bearer s3cret"),
    ] {
        asked("/admin/database/health", &[headers]).data();
    }
    let foreign = [("x-admin-token", "s3cret"), ("host", "tandem.example.com")];
    asked("/admin/database/health", &foreign).data();
}

#[test]
fn without_a_token_a_page_in_a_browser_gets_nothing() {
    let redis = Redis::start();
    let tandem = redis_only(&redis).start();
    let port = tandem.admin_port();
    let own = format!("http://127.0.0.1:{port}");
    for (headers, code) in [
        (("host", "evil.example.com"), 403),
        (("origin", "http://evil.example.com"), 403),
        (("origin", "null"), 403),
        (("origin", own.as_str()), 200),
        (("host", "localhost:1"), 200),
    ] {
        let answer = ask(port, "GET", "/admin/database/status", &[headers], "");
        assert_eq!(answer.code, code, "{headers:?}: {}", answer.text);
    }
}

#[test]
fn an_address_for_all_needs_a_token() {
    let scratch = Scratch::new("config");
    let path = scratch.path().join("proxy.toml");
    for (admin, message) in [
        ("address = '0.0.0.0:0'", "admin.token: must be set when admin.address is not a loopback"),
        ("address = 'nowhere'", "admin.address: must be host:port"),
        ("address = '127.0.0.1:0'\ntoken = 'a b'", "admin.token: must consist"),
        ("address = '192.0.2.1:9'\ntoken = 'x'", "admin.address: cannot listen on 192.0.2.1:9"),
    ] {
        let config = format!(
            "[listen]\naddress = '127.0.0.1:0'\n[strategy]\nmode = 'redis_only'\n[admin]\n{admin}\n"
        );
        std::fs::write(&path, config).expect("written");
        let run = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(["serve", "--config"])
            .arg(&path)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(1), "{text}");
        assert!(text.contains(message), "{admin}: {text}");
    }
}

#[test]
fn what_is_not_there_is_said_in_json() {
    let redis = Redis::start();
    let tandem = redis_only(&redis).start();
    assert_eq!(get(&tandem, "/nothing").error(404), "not_found");
    assert_eq!(get(&tandem, "/admin/database/reconnect").error(405), "method_not_allowed");
    assert_eq!(post(&tandem, "/metrics", "{}").error(405), "method_not_allowed");
    assert_eq!(post(&tandem, "/admin/log-level", "{").error(400), "bad_request");
    assert_eq!(
        post(&tandem, "/admin/log-level", "{\"level\": \"loud\"}").error(400),
        "bad_request"
    );
    assert_eq!(post(&tandem, "/admin/log-level", "{\"other\": 1}").error(422), "bad_request");
    let large = format!("{{\"level\": \"{}\"}}", "x".repeat(100_000));
    assert_eq!(post(&tandem, "/admin/log-level", &large).error(413), "bad_request");
    assert_eq!(
        post(&tandem, "/admin/database/sync/redis-to-postgres", &large).error(413),
        "bad_request"
    );
    // Garbage and a head without end cost a connection and nothing else.
    for garbage in [&b"\0\0\0\0\r\n\r\n"[..], &vec![b'x'; 1 << 20]] {
        let mut stream = TcpStream::connect(("127.0.0.1", tandem.admin_port())).expect("connected");
        // It may be closed before everything is written.
        let _ = stream.write_all(garbage);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", answer.escape_ascii());
    }
    get(&tandem, "/live").data();
}

/// Of a job, whose answer may take any time, too.
#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let redis = Redis::start();
    let tandem = redis_only(&redis).start();
    let mut stream = TcpStream::connect(("127.0.0.1", tandem.admin_port())).expect("connected");
    let head = "POST /admin/database/sync/redis-to-postgres HTTP/1.1\r\nhost: 127.0.0.1\r\n\
                content-type: application/json\r\ncontent-length: 20\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(super::LIMIT)).expect("set");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn the_log_level_changes_at_run_time() {
    let redis = Redis::start();
    let tandem = redis_only(&redis).set("log", "format", "json").start();
    assert_eq!(get(&tandem, "/admin/log-level").data()["level"], "info");
    assert!(!tandem.log().contains("\"level\":\"DEBUG\""));
    post(&tandem, "/admin/log-level", "{\"level\": \"warn,tandem::admin=debug\"}").data();
    let level = get(&tandem, "/admin/log-level").data()["level"].clone();
    assert_eq!(level, "warn,tandem::admin=debug");
    support::wait_for("lines of the new level", super::LIMIT, || {
        get(&tandem, "/live").data();
        tandem.log().contains("\"level\":\"DEBUG\"")
    });
    for line in tandem.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}
