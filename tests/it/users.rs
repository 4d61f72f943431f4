//! Users of Redis's own ACL behind the proxy: the same words as without it, and the same rights.

use std::time::{Duration, Instant};

use support::{Client, Postgres, Redis, Tandem, Value};

const USERS: &[&str] = &[
    "ACL SETUSER alice on >wonder ~app:* resetchannels +@all -@dangerous -publish",
    "ACL SETUSER bob on nopass ~* &* +@read +multi +exec +select",
    "ACL SETUSER carol off >asleep ~* +@all",
    "ACL SETUSER dave on >quiet ~* +get",
];

/// Talks that end in the same replies, straight and through the proxy.
const TALKS: &[&[&str]] = &[
    &["AUTH alice wonder", "ACL WHOAMI", "SET app:1 x", "GET app:1", "SET other x", "FLUSHALL"],
    &["AUTH alice wonder", "PUBLISH c m", "SUBSCRIBE c", "CONFIG GET port", "KEYS *"],
    &["AUTH alice wrong", "ACL WHOAMI", "GET app:1"],
    &["AUTH nobody wonder", "AUTH alice", "AUTH alice wonder extra"],
    &["AUTH carol asleep", "AUTH bob anything", "ACL WHOAMI", "GET app:1", "SET app:1 y"],
    &["AUTH bob x", "MULTI", "GET app:1", "SET app:1 z", "EXEC", "GET app:1"],
    &["AUTH dave quiet", "GET app:1", "MULTI", "PING", "SELECT 3", "GET app:1"],
    &["HELLO 3 AUTH alice wonder", "ACL WHOAMI", "SET app:2 y", "HELLO 2", "ACL WHOAMI"],
    &["HELLO 3 AUTH alice wrong", "PING", "HELLO 2 AUTH nobody x", "HELLO 3 AUTH carol asleep"],
    &["HELLO 3 AUTH bob x SETNAME me", "CLIENT GETNAME", "ACL WHOAMI", "SET app:1 z"],
    &["AUTH alice wonder", "CLIENT LIST", "CLIENT KILL ID 99999999", "CLIENT NO-EVICT ON"],
    &["AUTH alice wonder", "CLIENT SETNAME x", "CLIENT GETNAME", "CLIENT REPLY ON", "GET app:1"],
    &["AUTH dave quiet", "CLIENT ID", "CLIENT INFO", "CLIENT SETNAME y", "CLIENT REPLY OFF"],
    &["HELLO 3 SETNAME x AUTH", "HELLO AUTH alice wonder", "HELLO 3 AUTH default secret"],
    &["AUTH default secret", "ACL WHOAMI", "AUTH alice wonder", "AUTH secret", "ACL WHOAMI"],
    &["AUTH secret", "SELECT 2", "AUTH alice wonder", "SET app:3 z", "RESET", "GET app:3"],
    &["AUTH alice wonder", "SELECT 2", "GET app:3", "AUTH bob x", "GET app:3", "SET app:3 q"],
];

fn talk(mut client: Client, lines: &[&str]) -> Vec<String> {
    lines
        .iter()
        .map(|line| match client.run(line) {
            // HELLO says the connection's id, and nothing else that differs.
            Value::Map(fields) => {
                let id = Value::bulk("id");
                let fields = fields.into_iter().filter(|(name, _)| *name != id);
                format!("{line}: {:?}", fields.collect::<Vec<_>>())
            }
            Value::Array(items) if line.starts_with("HELLO") => {
                let place = items.iter().position(|item| *item == Value::bulk("id"));
                let without = |at: usize| place.is_none_or(|place| at != place + 1);
                let items = items.into_iter().enumerate().filter(|(at, _)| without(*at));
                format!("{line}: {:?}", items.map(|(_, item)| item).collect::<Vec<_>>())
            }
            reply => format!("{line}: {reply:?}"),
        })
        .collect()
}

#[test]
fn users_have_their_rights_and_redis_words() {
    let redis = Redis::options().with("requirepass", "secret").start();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only").start();
    let mut admin = redis.client();
    USERS.iter().for_each(|line| assert_eq!(admin.run(line), Value::ok(), "{line}"));
    for lines in TALKS {
        admin.run("FLUSHALL");
        let straight = Client::connect(("127.0.0.1", redis.port())).expect("connected");
        let expected = talk(straight, lines);
        admin.run("FLUSHALL");
        assert_eq!(talk(tandem.raw_client(), lines), expected);
    }
}

/// Who logs in within a transaction is that user afterwards, and nobody else is.
#[test]
fn a_login_within_a_transaction_is_that_clients_own() {
    let redis = Redis::start();
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only");
    let tandem = options.set("listen", "workers", 1).start();
    let mut admin = redis.client();
    USERS.iter().for_each(|line| assert_eq!(admin.run(line), Value::ok(), "{line}"));
    let mut client = tandem.client();
    for line in ["MULTI", "AUTH bob x", "EXEC"] {
        assert!(!client.run(line).is_error(), "{line}");
    }
    assert!(client.run("SET k v").is_error(), "bob may not write");
    drop(client);
    for _ in 0..5 {
        let mut other = tandem.client();
        // On a connection of its own, which may have been somebody else's.
        for line in ["WATCH k", "MULTI", "SET k v", "EXEC"] {
            assert!(!other.run(line).is_error(), "{line}");
        }
    }
}

/// Alice may not publish, which is how the proxy learns that a write is in PostgreSQL.
#[test]
fn writes_of_a_user_without_publish_wait_for_postgres_no_longer_than_others() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .mode("dual_write")
        .set("strategy", "ack_timeout_ms", 20_000)
        .start();
    let mut admin = redis.client();
    USERS.iter().for_each(|line| assert_eq!(admin.run(line), Value::ok(), "{line}"));
    tandem.wait_holding(true);
    let mut client = tandem.client();
    assert_eq!(client.run("AUTH alice wonder"), Value::ok());
    let start = Instant::now();
    for n in 0..20 {
        let key = format!("app:{n}");
        assert_eq!(client.call(["SET", &key, "v"]), Value::ok());
        let seen = postgres.sql(&format!("SELECT count(*) FROM tandem.keys WHERE key = '{key}'"));
        assert_eq!(seen, "1", "{key} was acknowledged");
    }
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

/// What the proxy itself sends to Redis is no business of whoever watches.
#[test]
fn monitor_shows_clients_commands_only() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .mode("dual_write")
        .start();
    tandem.wait_streaming();
    let mut monitor = tandem.client();
    assert_eq!(monitor.run("MONITOR"), Value::ok());
    let mut client = tandem.client();
    let mut sent = 0;
    for n in 0..50 {
        client.call(["SET", &format!("key:{n}"), "v"]);
        client.run("MULTI");
        client.run("INCR n");
        client.run("EXEC");
        client.run("EVAL return(redis.call('incr','m')) 0");
        client.run("XADD stream * f v");
        client.run("SPOP none");
        sent += 8;
    }
    // A second of silence would show probes and position keeping.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.run("ECHO the-end"), Value::bulk("the-end"));
    let mut lines = Vec::new();
    loop {
        let line = monitor.receive().expect("a line").text();
        if line.contains("the-end") {
            break;
        }
        lines.push(line);
    }
    let strange = lines.iter().filter(|line| {
        let known = ["SET", "MULTI", "INCR", "EXEC", "EVAL", "incr", "XADD", "SPOP"];
        !known.iter().any(|name| line.contains(&format!("] \"{name}\"")))
    });
    let strange: Vec<&String> = strange.collect();
    assert!(strange.is_empty(), "{strange:#?}");
    assert_eq!(lines.len(), sent, "{lines:#?}");
}
