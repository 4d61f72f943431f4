//! The replication client against a real Redis.

use std::time::Duration;

use bytes::Bytes;
use support::{Certificates, Client, Port, Redis, Value, seed, wait_for};
use tandem::config;
use tandem::mirror::replica::{Event, Replica, ReplicaError, Resume};
use tandem::rdb::Item;

use crate::rdb_values::{Maker, by_commands, sorted};

fn config(url: String) -> config::Redis {
    config::Redis { url, ..config::Redis::default() }
}

/// One field of `INFO replication`.
fn info(client: &mut Client, name: &str) -> String {
    let text = client.run("INFO replication").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

fn master_offset(client: &mut Client) -> i64 {
    info(client, "master_repl_offset").parse().expect("an offset")
}

/// Reads a full resync whole: its replid and offset, and its items.
async fn full(replica: &mut Replica) -> (String, i64, Vec<Item>) {
    let Event::FullResync { replid, offset } = replica.next().await.expect("an answer") else {
        panic!("not a full resync");
    };
    let mut items = Vec::new();
    loop {
        match replica.next().await.expect("a snapshot") {
            Event::Rdb(item) => items.push(item),
            other => panic!("{other:?} within a snapshot"),
        }
        if let Some(Item::End { checksummed }) = items.last() {
            assert!(checksummed);
            return (replid, offset, items);
        }
    }
}

/// Reads on to the command that begins with `words`: all commands up to there, and its end offset.
async fn until(replica: &mut Replica, words: &[&str]) -> (Vec<Vec<Bytes>>, i64) {
    let mut commands = Vec::new();
    loop {
        if let Event::Command(command) = replica.next().await.expect("the stream goes on") {
            let found = words.iter().zip(&command.args).all(|(word, arg)| arg == word);
            commands.push(command.args.to_vec());
            if found && commands.last().is_some_and(|c| c.len() >= words.len()) {
                return (commands, command.end_offset);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_resync_from_disk() {
    full_resync("no").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_resync_diskless() {
    full_resync("yes").await;
}

async fn full_resync(diskless: &str) {
    let redis = Redis::options().with("repl-diskless-sync", diskless).start();
    let mut client = redis.client();
    let mut maker = Maker::new(seed(21), redis.client());
    (0..60).for_each(|at| maker.make(&format!("key:{at}")));
    let mut replica = Replica::connect(&config(redis.url()), None).await.expect("attached");
    let (replid, offset, items) = full(&mut replica).await;
    assert_eq!(replid, info(&mut client, "master_replid"));
    let mut keys = 0;
    for item in items {
        if let Item::Key { key, value, .. } = item {
            keys += 1;
            assert_eq!(sorted(value), by_commands(&mut client, &key));
        }
    }
    assert_eq!(client.run("DBSIZE"), Value::Int(keys));

    // A transaction, a script, a large value and small ones; then the positions agree to the byte.
    client.run("MULTI");
    client.run("INCR counter");
    client.run("INCR counter");
    client.run("EXEC");
    client.call(["EVAL", "redis.call('SET', KEYS[1], 'v') redis.call('DEL', KEYS[1])", "1", "s"]);
    let large = vec![b'x'; 3 << 20];
    client.call([&b"SET"[..], b"large", &large]);
    for n in 0..1000 {
        client.run(&format!("HINCRBY hash field{n} {n}"));
    }
    client.run("SET last 1");
    let (commands, end) = until(&mut replica, &["SET", "last"]).await;
    assert_eq!(end, master_offset(&mut client));
    assert!(end > offset + large.len() as i64);
    let names: Vec<&[u8]> = commands.iter().map(|words| &words[0][..]).collect();
    let head =
        [&b"SELECT"[..], b"MULTI", b"INCR", b"INCR", b"EXEC", b"MULTI", b"SET", b"DEL", b"EXEC"];
    assert_eq!(names[..head.len()], head);
    assert!(
        commands.iter().any(|words| words.len() == 3 && words[1] == "large" && words[2] == large)
    );
    assert_eq!(commands.len(), head.len() + 1 + 1000 + 1);

    // Redis sees what has been applied, and WAIT is answered.
    replica.set_applied(end);
    let mut waiter = redis.client();
    let waiting = tokio::task::spawn_blocking(move || {
        waiter.run("SET waited 1");
        waiter.run("WAIT 1 5000")
    });
    let (_, end) = until(&mut replica, &["SET", "waited"]).await;
    replica.set_applied(end);
    let asked = replica.next().await.expect("GETACK");
    assert!(matches!(asked, Event::KeepAlive { end_offset } if end_offset > end), "{asked:?}");
    assert_eq!(waiting.await.expect("no panic"), Value::Int(1));
    let Event::KeepAlive { end_offset } = asked else { return };
    replica.set_applied(end_offset);
    let seen = || info(&mut client, "slave0").contains(&format!("offset={end_offset},lag="));
    wait_for("Redis to see the applied offset", Duration::from_secs(3), seen);
    assert_eq!(end_offset, master_offset(&mut redis.client()));
}

#[tokio::test]
async fn partial_resync_after_a_cut() {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut replica = Replica::connect(&config(redis.url()), None).await.expect("attached");
    let (replid, ..) = full(&mut replica).await;
    client.run("SET a 1");
    let (_, offset) = until(&mut replica, &["SET", "a"]).await;
    client.run("CLIENT KILL TYPE replica");
    let error = loop {
        match replica.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.is_transient(), "{error}");
    client.run("SET b 2");
    let resume = Resume { replid: replid.clone(), offset };
    let mut replica = Replica::connect(&config(redis.url()), Some(resume)).await.expect("attached");
    assert_eq!(replica.next().await.expect("an answer"), Event::Continue { replid, offset });
    let (commands, end) = until(&mut replica, &["SET", "b"]).await;
    assert_eq!(commands.len(), 1, "SELECT is not repeated");
    assert_eq!(end, master_offset(&mut client));
}

#[tokio::test]
async fn a_position_that_the_backlog_has_lost_gets_a_snapshot() {
    let redis = Redis::options().with("repl-backlog-size", "16kb").start();
    let mut client = redis.client();
    let mut replica = Replica::connect(&config(redis.url()), None).await.expect("attached");
    let (replid, offset, _) = full(&mut replica).await;
    drop(replica);
    (0..100).for_each(|n| drop(client.run(&format!("SET key{n} {}", "x".repeat(500)))));
    let resume = Some(Resume { replid, offset });
    let mut replica = Replica::connect(&config(redis.url()), resume).await.expect("attached");
    let (_, offset, items) = full(&mut replica).await;
    assert_eq!(offset, master_offset(&mut client));
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Key { .. })).count(), 100);
}

#[tokio::test]
async fn history_goes_on_after_a_failover() {
    let (first, second) = (Redis::start(), Redis::start());
    let mut client = second.client();
    client.run(&format!("REPLICAOF 127.0.0.1 {}", first.port()));
    wait_for("the second Redis to follow", Duration::from_secs(20), || {
        info(&mut client, "role") == "slave" && info(&mut client, "master_link_status") == "up"
    });
    let mut replica = Replica::connect(&config(first.url()), None).await.expect("attached");
    let (replid, ..) = full(&mut replica).await;
    first.client().run("SET a 1");
    let (_, offset) = until(&mut replica, &["SET", "a"]).await;
    wait_for("the second Redis to be level", Duration::from_secs(10), || {
        master_offset(&mut client) >= offset
    });
    client.run("REPLICAOF NO ONE");
    client.run("SET b 2");
    let resume = Some(Resume { replid: replid.clone(), offset });
    let mut replica = Replica::connect(&config(second.url()), resume).await.expect("attached");
    let renamed = info(&mut client, "master_replid");
    assert_ne!(renamed, replid);
    let event = replica.next().await.expect("an answer");
    assert_eq!(event, Event::Continue { replid: renamed, offset });
    until(&mut replica, &["SET", "b"]).await;
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let redis = Redis::options().with("requirepass", "secret").start();
    let url = |login: &str| config(format!("redis://{login}127.0.0.1:{}", redis.port()));
    for login in ["", ":wrong@", "nobody:secret@"] {
        let error = Replica::connect(&url(login), None).await.expect_err(login);
        assert!(matches!(error, ReplicaError::Auth(_)), "{login}: {error}");
        assert!(!error.is_transient());
    }
    let mut client = redis.client();
    assert_eq!(client.run("ACL SETUSER reader on >pass +@read +ping"), Value::ok());
    let error = Replica::connect(&url("reader:pass@"), None).await.expect_err("no permission");
    assert!(error.to_string().contains("+psync +replconf +ping"), "{error}");
    assert_eq!(client.run("ACL SETUSER reader +psync +replconf"), Value::ok());
    let mut replica = Replica::connect(&url("reader:pass@"), None).await.expect("permitted");
    full(&mut replica).await;
    let mut replica = Replica::connect(&url(":secret@"), None).await.expect("permitted");
    full(&mut replica).await;

    let open = Redis::start();
    let with_password = config(format!("redis://:unneeded@127.0.0.1:{}", open.port()));
    assert!(Replica::connect(&with_password, None).await.is_ok(), "as ordinary clients do");
    let gone = config("redis://127.0.0.1:1".into());
    let error = Replica::connect(&gone, None).await.expect_err("nobody listens");
    assert!(error.is_transient() && error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn over_a_unix_socket() {
    let redis = Redis::start();
    let url = format!("unix://{}", redis.unix_socket().display());
    let mut replica = Replica::connect(&config(url), None).await.expect("attached");
    full(&mut replica).await;
    redis.client().run("SET a 1");
    until(&mut replica, &["SET", "a"]).await;
}

#[tokio::test]
async fn redis_killed_during_the_transfer() {
    for diskless in ["yes", "no"] {
        let mut redis = Redis::options()
            .with("repl-diskless-sync", diskless)
            .with("enable-debug-command", "yes")
            .start();
        let mut client = redis.client();
        client.run("CONFIG SET rdbcompression no");
        client.run("DEBUG POPULATE 10000 key 4000");
        if diskless == "yes" {
            client.run("CONFIG SET rdb-key-save-delay 200");
        }
        let mut replica = Replica::connect(&config(redis.url()), None).await.expect("attached");
        let mut items = 0;
        let error = loop {
            match replica.next().await {
                Ok(Event::Rdb(_)) => items += 1,
                Ok(_) => {}
                Err(error) => break error,
            }
            if items == 100 {
                redis.kill9();
            }
        };
        assert!((100..10_000).contains(&items), "{items}");
        assert!(error.is_transient(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_busy_for_long_keeps_its_link() {
    let redis =
        Redis::options().with("repl-timeout", "2").with("repl-ping-replica-period", "1").start();
    let mut client = redis.client();
    let mut replica = Replica::connect(&config(redis.url()), None).await.expect("attached");
    full(&mut replica).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    client.run("SET a 1");
    until(&mut replica, &["SET", "a"]).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    client.run("SET b 1");
    let (_, end) = until(&mut replica, &["SET", "b"]).await;
    assert!(end <= master_offset(&mut client));
}

#[tokio::test]
async fn over_tls() {
    let certificates = Certificates::new("IP:127.0.0.1");
    let (file, port) = (|name: &str| certificates.file(name), Port::take());
    let redis = Redis::options()
        .with("tls-port", &port.number().to_string())
        .with("tls-cert-file", &file("server.crt").display().to_string())
        .with("tls-key-file", &file("server.key").display().to_string())
        .with("tls-ca-cert-file", &file("ca.crt").display().to_string())
        .start();
    let with = |ca: &str, cert: &str| config::Redis {
        tls_ca: if ca.is_empty() { ca.into() } else { file(ca) },
        tls_cert: if cert.is_empty() { cert.into() } else { file(cert) },
        tls_key: file("server.key"),
        ..config(format!("rediss://127.0.0.1:{}", port.number()))
    };
    let mut replica =
        Replica::connect(&with("ca.crt", "server.crt"), None).await.expect("attached");
    full(&mut replica).await;
    redis.client().run("SET a 1");
    until(&mut replica, &["SET", "a"]).await;
    let unverified = config::Redis { tls_verify: false, ..with("", "server.crt") };
    assert!(Replica::connect(&unverified, None).await.is_ok());

    let error =
        Replica::connect(&with("", "server.crt"), None).await.expect_err("unknown authority");
    assert!(!error.is_transient() && error.to_string().contains("certificate"), "{error}");
    Replica::connect(&with("ca.crt", ""), None).await.expect_err("Redis asks for a certificate");
    for (ca, cert) in [("missing.crt", ""), ("ca.crt", "missing.crt"), ("names", "")] {
        let error = Replica::connect(&with(ca, cert), None).await.expect_err("no such file");
        assert!(!error.is_transient(), "{error}");
        let named = if cert.is_empty() { ca } else { cert };
        assert!(error.to_string().contains(named), "{error}");
    }
}
