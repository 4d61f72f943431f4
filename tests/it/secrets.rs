//! Neither passwords nor values get into the log, whatever its level, or where an operator looks; SLOWLOG
//! and MONITOR show what Redis shows.

use std::collections::BTreeSet;
use std::time::Duration;

use support::{Client, Postgres, Redis, Tandem, Value, wait_for};

use crate::admin::ask;

/// In all passwords and values.
const MARK: &str = "hush-";
const PASSWORD: &str = "hush-redis";
const TOKEN: &str = "hush-admin";
const LIMIT: Duration = Duration::from_secs(60);

/// Commands with values and passwords: good ones, failing ones, and such as nobody knows.
const COMMANDS: &[&str] = &[
    "SET text hush-value",
    "APPEND text hush-more",
    "INCR text",
    "HSET hash field hush-field",
    "HINCRBY hash field 1",
    "LPUSH text hush-element",
    "ZADD sorted hush-score member",
    "XADD stream * field hush-entry",
    "SADD set hush-member",
    "EVAL return(redis.call('set',KEYS[1],ARGV[1])) 1 text hush-argument",
    "EVAL return(hush-source) 0",
    "EVALSHA hush-sha 0",
    "FUNCTION LOAD hush-library",
    "PUBLISH channel hush-message",
    "NOSUCH hush-unknown",
    "CONFIG SET masterauth hush-master",
    "CONFIG SET nosuch hush-parameter",
    "ACL SETUSER bob on >hush-bob ~* +@all",
    "ACL SETUSER bob hush-rule",
    "MIGRATE 127.0.0.1 1 text 0 10 AUTH hush-migrate",
    "MIGRATE 127.0.0.1 1 text 0 10 AUTH2 user hush-migrate",
    "AUTH hush-wrong",
    "AUTH bob hush-bob",
    "AUTH nobody hush-wrong",
    "HELLO 3 AUTH nobody hush-wrong",
    "RESTORE other 0 hush-dump",
    "CLIENT SETNAME hush-name",
    "DEBUG STRINGMATCH-LEN hush-a hush-b",
];

fn drive(tandem: &Tandem) {
    let mut client = tandem.client();
    for command in COMMANDS {
        client.run(command);
        if command.starts_with("AUTH bob") {
            client = tandem.client();
        }
    }
    let all: Vec<Vec<&str>> =
        ["MULTI", "SET text hush-queued", "BLPOP list 1", "NOSUCH hush-queued", "EXEC"]
            .iter()
            .map(|line| line.split(' ').collect())
            .collect();
    client.pipeline(all);
    // What is no RESP, on connections of their own.
    for garbage in ["*2\r\n$3\r\nGET\r\n$x hush-garbage\r\n", "*1\r\n+hush-garbage\r\n"] {
        let mut broken = tandem.raw_client();
        // It may be closed before everything is read.
        let _ = broken.send(garbage.as_bytes());
        let _ = broken.receive();
    }
    assert!(tandem.raw_client().run("AUTH default hush-wrong").is_error());
}

fn nothing_leaks(format: &str) {
    let redis = Redis::options().with("requirepass", PASSWORD).start();
    let mut postgres = Postgres::start();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .set("admin", "token", TOKEN)
        .set("log", "level", "trace")
        .set("log", "format", format)
        .allow("")
        .start();
    let header = [("x-admin-token", TOKEN)];
    let post = |path: &str| ask(tandem.admin_port(), "POST", path, &header, "{}");
    let get = |path: &str| ask(tandem.admin_port(), "GET", path, &header, "").text;
    tandem.wait_holding(true);
    drive(&tandem);
    // What PostgreSQL does not take goes into the spool, and from there to it.
    postgres.stop();
    drive(&tandem);
    postgres.restart();
    tandem.wait_holding(true);
    post("/admin/database/cache/clear").data();
    drive(&tandem);
    post("/admin/database/strategy/postgres-only").data();
    drive(&tandem);
    let wrong = [("x-admin-token", "hush-wrong")];
    assert_eq!(ask(tandem.admin_port(), "GET", "/metrics", &wrong, "").code, 401);
    for path in ["/", "/metrics", "/admin/openapi.json", "/admin/database/status", "/admin/jobs"] {
        assert!(!get(path).contains(MARK), "{path}");
    }
    wait_for("a line of the level", LIMIT, || tandem.log().contains("DEBUG"));
    let log = tandem.log();
    let leaks: BTreeSet<&str> = log.lines().filter(|line| line.contains(MARK)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn nothing_leaks_into_the_log_as_text() {
    nothing_leaks("text");
}

#[test]
fn nothing_leaks_into_the_log_as_json() {
    nothing_leaks("json");
}

/// Commands whose words SLOWLOG and MONITOR show in part.
const SHOWN_IN_PART: &[&str] = &[
    "SET text value",
    "CONFIG SET maxmemory 0 MasterAuth hush-master",
    "CONFIG SET masterauth hush-master",
    "CONFIG SET masteruser hush-user",
    "ACL SETUSER bob on >hush-bob ~* +@all",
    "ACL GETUSER bob",
    "ACL DELUSER bob",
];

/// What SLOWLOG has and MONITOR has shown, without what differs by nature.
fn watched(connect: impl Fn() -> Client) -> (Vec<Value>, Vec<String>) {
    let (mut monitor, mut client) = (connect(), connect());
    assert_eq!(monitor.run("MONITOR"), Value::ok());
    for prepare in ["CONFIG SET slowlog-log-slower-than 0", "SLOWLOG RESET"] {
        assert_eq!(client.run(prepare), Value::ok());
    }
    for command in SHOWN_IN_PART {
        client.run(command);
    }
    assert_eq!(client.run("ECHO the-end"), Value::bulk("the-end"));
    let mut lines = Vec::new();
    loop {
        let line = monitor.receive().expect("a line").text();
        let words = line.split_once("] ").map_or(line.as_str(), |(_, words)| words);
        if words.contains("the-end") {
            break;
        }
        let known = |command: &&str| {
            let first: Vec<&str> = command.split(' ').take(2).collect();
            words.starts_with(&format!("\"{}\" \"{}\"", first[0], first[1]))
        };
        if SHOWN_IN_PART.iter().any(known) {
            lines.push(words.to_owned());
        }
    }
    let entries = client.run("SLOWLOG GET 50").items();
    let args = entries.into_iter().map(|entry| entry.items().remove(3));
    let known = |args: &Value| {
        let words: Vec<String> = args.clone().items().iter().map(Value::text).collect();
        let first = words.iter().take(2).cloned().collect::<Vec<_>>().join(" ");
        SHOWN_IN_PART.iter().any(|command| command.starts_with(&first) && first.contains(' '))
    };
    (args.filter(known).collect(), lines)
}

#[test]
fn slow_log_and_monitor_show_what_redis_shows() {
    let redis = Redis::start();
    let (slow, monitored) = watched(|| redis.client());
    assert!(slow.len() >= SHOWN_IN_PART.len() && monitored.len() == 1, "{slow:?} {monitored:?}");
    let (other, postgres) = (Redis::start(), Postgres::start());
    for mode in ["postgres_only", "redis_only"] {
        let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .redis(&other)
            .postgres(&postgres)
            .mode(mode)
            .allow("PostgreSQL is not reachable")
            .start();
        wait_for("service", LIMIT, || tandem.client().run("SET text value") == Value::ok());
        let (own_slow, own_monitored) = watched(|| tandem.client());
        assert_eq!((own_slow, own_monitored), (slow.clone(), monitored.clone()), "{mode}");
    }
}
