//! What becomes of Redis, and of the line to it.

use std::time::Duration;

use support::{Client, Line, Postgres, Redis, Value, encode, wait_for};

use super::{Counting, LIMIT, Stand};

/// PostgreSQL takes over while `strike` lasts, and Redis leads again after `heal`.
fn taken_over(
    stand: &mut Stand,
    condition: &str,
    strike: impl FnOnce(&mut Stand),
    heal: impl FnOnce(&mut Stand),
) {
    let before = stand.changes("Redis");
    let counting = Counting::start(&stand.tandem);
    wait_for("a write", LIMIT, || stand.tandem.client().run("GET n") != Value::Nil);
    strike(stand);
    stand.wait_condition("redis", condition);
    stand.assert_degraded("postgres_only", condition);
    let reason = stand.tandem.status()["lead_reason"].clone();
    assert!(!reason.is_empty(), "who leads instead is said without a reason");
    // It stays so, and is said once; at most the broken connection is noticed before.
    std::thread::sleep(Duration::from_millis(500));
    stand.wait_condition("redis", condition);
    assert!(stand.changes("Redis") <= before + 2, "{}", stand.tandem.log());
    heal(stand);
    stand.wait_well();
    let count = counting.end();
    // For the moment of the change nobody answers, or Redis in its own words.
    count.assert_errors(&["UNAVAILABLE", "NOAUTH", "READONLY", "LOADING"]);
    stand.assert_counted(&count);
}

#[test]
fn a_redis_that_refuses_connections() {
    taken_over(
        &mut Stand::new(),
        "refused",
        |stand| stand.to_redis.set(Line::Refused),
        |stand| stand.to_redis.set(Line::Clear),
    );
}

#[test]
fn a_redis_behind_a_silent_line() {
    taken_over(
        &mut Stand::new(),
        "silent",
        |stand| stand.to_redis.set(Line::Silent),
        |stand| stand.to_redis.set(Line::Clear),
    );
}

#[test]
fn a_redis_at_the_end_of_a_half_open_line() {
    taken_over(
        &mut Stand::new(),
        "silent",
        |stand| stand.to_redis.set(Line::HalfOpen),
        |stand| stand.to_redis.set(Line::Clear),
    );
}

#[test]
fn a_redis_that_became_read_only() {
    let other = Redis::start();
    taken_over(
        &mut Stand::new(),
        "read_only",
        |stand| {
            let follow = format!("REPLICAOF 127.0.0.1 {}", other.port());
            assert_eq!(stand.redis.client().run(&follow), Value::ok());
        },
        |stand| assert_eq!(stand.redis.client().run("REPLICAOF NO ONE"), Value::ok()),
    );
}

/// It leaves its history with a write that the mirror never received; the connections live on.
#[test]
fn a_redis_that_becomes_read_only_right_after_a_write() {
    let other = Redis::start();
    let stand = Stand::new();
    let mut client = stand.tandem.client();
    assert_eq!(client.run("INCR n"), Value::Int(1));
    let port = other.port().to_string();
    for part in [&["MULTI"][..], &["INCR", "n"], &["REPLICAOF", "127.0.0.1", &port]] {
        assert!(!matches!(client.call(part.iter().copied()), Value::Error(_)), "{part:?}");
    }
    let reply = client.run("EXEC");
    assert!(
        matches!(&reply, Value::Error(error) if error.starts_with("UNKNOWNOUTCOME")),
        "{reply:?}"
    );
    assert_eq!(stand.redis.client().run("REPLICAOF NO ONE"), Value::ok());
    stand.wait_well();
    assert_eq!(client.run("INCR n"), Value::Int(2));
    stand.assert_equal();
}

/// With a Redis that may evict, or one that never does; the proxy knows which.
fn cache_or_whole(evicts: bool) -> Stand {
    let redis = match evicts {
        true => Redis::options().with("maxmemory", "6mb").with("maxmemory-policy", "allkeys-lru"),
        false => Redis::options(),
    };
    let stand = Stand::with(redis.start(), Postgres::start(), |options| options);
    wait_for("the look at Redis's memory", LIMIT, || {
        stand.status("redis_keys").is_some_and(|why| why.contains("evicting") == evicts)
    });
    stand
}

/// That a read ran twice nobody can tell; a write is never repeated.
#[test]
fn reads_under_way_when_redis_goes_are_asked_again() {
    for (killed, evicts) in [(true, false), (false, false), (true, true)] {
        let mut stand = cache_or_whole(evicts);
        let mut clients: Vec<Client> = (0..3).map(|_| stand.tandem.client()).collect();
        let setup = ["SET s 1", "RPUSH l a b", "HSET h f v", "INCR n"];
        for command in setup {
            assert!(!clients[0].run(command).is_error(), "{command}");
        }
        stand.redis.pause();
        let [one, many, mixed] = &mut clients[..] else { unreachable!() };
        let requests = |commands: &[&[&str]]| {
            commands.iter().flat_map(|words| encode(words.iter())).collect::<Vec<u8>>()
        };
        one.send(b"GET s\r\n").expect("sent");
        let reads: [&[&str]; 3] = [&["LRANGE", "l", "0", "-1"], &["HGET", "h", "f"], &["GET", "s"]];
        many.send(&requests(&reads)).expect("sent");
        mixed.send(&requests(&[&["GET", "n"], &["INCR", "n"]])).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        if killed {
            stand.redis.kill9();
        }
        assert_eq!(one.receive().expect("an answer"), Value::bulk("1"));
        let expected = [
            Value::Array(vec![Value::bulk("a"), Value::bulk("b")]),
            Value::bulk("v"),
            Value::bulk("1"),
        ];
        for value in expected {
            assert_eq!(many.receive().expect("an answer"), value);
        }
        let mixed = [(); 2].map(|()| mixed.receive().expect("an answer"));
        if evicts {
            // The read goes ahead alone there.
            assert_eq!(mixed, [Value::bulk("1"), Value::Int(2)]);
        } else {
            let unknown = |reply: &Value| format!("{reply:?}").contains("UNKNOWNOUTCOME");
            assert!(mixed.iter().all(unknown), "{mixed:?}");
        }
        if killed {
            stand.redis.restart();
        } else {
            stand.redis.resume();
        }
        stand.wait_well();
        // What a Redis that hung had received it does when it wakes, once.
        let counted = if killed && !evicts { "1" } else { "2" };
        assert_eq!(stand.tandem.client().run("GET n"), Value::bulk(counted));
        stand.assert_equal();
    }
}

/// The mark that tells when a missing key may be looked for never comes by: whoever waits for it is served by PostgreSQL,
/// which can tell that there is no such key.
#[test]
fn commands_that_wait_for_a_missing_key_when_redis_goes_are_run_by_who_comes() {
    let other = Redis::start();
    let stand = cache_or_whole(true);
    let mut clients: Vec<Client> = (0..24).map(|_| stand.tandem.client()).collect();
    // A look takes several turns on this line, and they are struck in each of them.
    stand.to_redis.set(Line::Delayed(Duration::from_millis(10)));
    let request = |n: usize| match n % 3 {
        0 => encode(["GET", &format!("s:{n}")]),
        1 => encode(["LRANGE", &format!("l:{n}"), "0", "-1"]),
        _ => encode(["INCR", &format!("n:{n}")]),
    };
    for (n, client) in clients.iter_mut().enumerate() {
        client.set_timeout(LIMIT);
        // Half of the next one comes with it.
        client.send(&[&request(n)[..], b"*2\r\n$3\r\nGE"].concat()).expect("sent");
        std::thread::sleep(Duration::from_millis(3));
    }
    let follow = format!("REPLICAOF 127.0.0.1 {}", other.port());
    assert_eq!(stand.redis.client().run(&follow), Value::ok());
    for (n, client) in clients.iter_mut().enumerate() {
        let reply = client.receive().expect("an answer");
        let good = match (n % 3, &reply) {
            (0, reply) => *reply == Value::Nil,
            (1, reply) => *reply == Value::Array(Vec::new()),
            (_, Value::Int(count)) => *count == 1,
            // Redis said it, or was about to run it.
            (_, Value::Error(error)) => {
                error.starts_with("READONLY") || error.starts_with("UNKNOWNOUTCOME")
            }
            _ => false,
        };
        assert!(good, "client {n}: {reply:?}");
        client.send(b"T\r\n$1\r\nx\r\n").expect("sent");
        assert_eq!(client.receive().expect("an answer"), Value::Nil, "client {n}");
    }
    stand.to_redis.set(Line::Clear);
    assert_eq!(stand.redis.client().run("REPLICAOF NO ONE"), Value::ok());
    stand.wait_well();
    stand.assert_equal();
}

/// What it had answered, and the mirror received, has a definite answer: its clients wait for the commit as ever.
#[test]
fn a_redis_that_dies_between_its_answer_and_the_commit() {
    let mut stand = Stand::new();
    let mut clients: Vec<Client> = (0..8).map(|_| stand.tandem.client()).collect();
    stand.to_postgres.set(Line::Delayed(Duration::from_millis(20)));
    let offset =
        |stand: &Stand| stand.status("mirror_received_offset").and_then(|n| n.parse::<i64>().ok());
    let before = offset(&stand).expect("a position");
    for (n, client) in clients.iter_mut().enumerate() {
        client.set_timeout(LIMIT);
        let writes = [encode(["RPUSH", &format!("l:{n}"), "a"]), encode(["INCR", "n"])].concat();
        client.send(&writes).expect("sent");
    }
    let mut direct = stand.redis.client();
    wait_for("Redis to have them", LIMIT, || direct.run("GET n") == Value::bulk("8"));
    let replication = direct.run("INFO replication").text();
    let done = replication.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
    let done = done.and_then(|offset| offset.trim().parse::<i64>().ok()).expect("an offset");
    wait_for("the mirror to have received them", LIMIT, || offset(&stand) >= Some(done));
    assert!(before < done);
    stand.redis.kill9();
    let mut counts: Vec<i64> = clients
        .iter_mut()
        .map(|client| {
            assert_eq!(client.receive().expect("an answer"), Value::Int(1));
            client.receive().expect("an answer").int()
        })
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=8).collect::<Vec<_>>());
    stand.to_postgres.set(Line::Clear);
    stand.redis.restart();
    stand.wait_well();
    assert_eq!(stand.tandem.client().run("GET n"), Value::bulk("8"));
    stand.assert_equal();
}

#[test]
fn a_redis_with_another_password() {
    taken_over(
        &mut Stand::new(),
        "wrong_password",
        |stand| {
            let mut direct = stand.redis.client();
            direct.run("CONFIG SET requirepass another");
            direct.run("CLIENT KILL TYPE normal SKIPME yes");
            direct.run("CLIENT KILL TYPE replica");
        },
        |stand| {
            let mut direct = stand.redis.client();
            direct.run("AUTH another");
            assert_eq!(direct.call(["CONFIG", "SET", "requirepass", ""]), Value::ok());
        },
    );
}

/// PostgreSQL serves on until the data are loaded.
#[test]
fn a_redis_that_loads_its_data() {
    let redis = Redis::options()
        .with("key-load-delay", "2000")
        .with("loading-process-events-interval-bytes", "1024")
        .start();
    let mut stand = Stand::with(redis, Postgres::start(), |options| options);
    let mut client = stand.tandem.client();
    for n in 0..1500 {
        assert_eq!(client.call(["SET", &format!("key:{n}"), &"x".repeat(64)]), Value::ok());
    }
    stand.redis.save();
    let counting = Counting::start(&stand.tandem);
    stand.redis.kill9();
    let Stand { tandem, redis, .. } = &mut stand;
    std::thread::scope(|scope| {
        scope.spawn(|| redis.restart());
        wait_for("Redis to load", LIMIT, || tandem.status()["redis_state"] == "loading");
        assert!(tandem.status()["mode_reason"].contains("loading"), "{:?}", tandem.status());
        assert_eq!(tandem.client().run("GET key:7"), Value::bulk("x".repeat(64)));
    });
    stand.wait_well();
    let count = counting.end();
    count.assert_errors(&["UNAVAILABLE", "LOADING"]);
    stand.assert_counted(&count);
}

/// Redis answers, and says itself why it takes no writes: clients hear that, and read on.
fn refuses_writes(
    stand: &Stand,
    condition: &str,
    word: &str,
    strike: impl Fn(&mut Client),
    heal: impl Fn(&mut Client),
) {
    let counting = Counting::start(&stand.tandem);
    let mut direct = stand.redis.client();
    wait_for("the fault", LIMIT, || {
        strike(&mut direct);
        stand.tandem.status()["redis_state"] == condition
    });
    stand.wait_condition("redis", condition);
    let mut client = stand.tandem.client();
    wait_for(
        "the error",
        LIMIT,
        || matches!(client.run("SET k 1"), Value::Error(error) if error.starts_with(word)),
    );
    assert!(!client.run("GET n").is_error());
    let status = stand.tandem.status();
    assert_eq!((status["lead"].as_str(), status["mode"].as_str()), ("redis", "dual_write"));
    let health = crate::admin::get(&stand.tandem, "/admin/database/health").data();
    let why = condition.replace('_', " ");
    let mut reasons = health["reasons"].as_array().into_iter().flatten();
    let said = reasons.any(|reason| reason.as_str().is_some_and(|text| text.contains(&why)));
    assert!(said, "{health}");
    wait_for("a write", LIMIT, || {
        heal(&mut direct);
        client.run("SET k 2") == Value::ok()
    });
    stand.wait_well();
    let count = counting.end();
    count.assert_errors(&[word]);
    stand.assert_counted(&count);
    assert_eq!(stand.tandem.status()["failovers"], "0");
}

#[test]
fn a_redis_that_is_out_of_memory() {
    let limit = |direct: &mut Client, bytes: &str| {
        assert_eq!(direct.call(["CONFIG", "SET", "maxmemory", bytes]), Value::ok());
    };
    refuses_writes(
        &Stand::new(),
        "out_of_memory",
        "OOM",
        |direct| limit(direct, "1"),
        |direct| limit(direct, "0"),
    );
}

#[test]
fn a_redis_that_cannot_save() {
    let stand = Stand::new();
    // Nothing can be renamed to a directory.
    let dump = stand.redis.dir().join("dump.rdb");
    let _ = std::fs::remove_file(&dump);
    std::fs::create_dir(&dump).expect("made");
    // One may be under way.
    let save = |direct: &mut Client| {
        direct.run("BGSAVE");
    };
    refuses_writes(
        &stand,
        "cannot_save",
        "MISCONF",
        |direct| {
            direct.call(["CONFIG", "SET", "save", "3600 1000000"]);
            save(direct);
        },
        |direct| {
            let _ = std::fs::remove_dir(&dump);
            save(direct);
        },
    );
}

/// As long as it answers in time nobody takes over.
#[test]
fn a_line_to_redis_that_is_slow_or_cut() {
    let stand = Stand::new();
    let counting = Counting::start(&stand.tandem);
    for line in [
        Line::Delayed(Duration::from_millis(50)),
        Line::Throttled(200_000),
        Line::Split(7),
        Line::Clear,
    ] {
        stand.to_redis.set(line);
        std::thread::sleep(Duration::from_millis(700));
    }
    let count = counting.end();
    assert_eq!((count.unknown, count.errors.len()), (0, 0), "{count:?}");
    assert_eq!(stand.tandem.status()["failovers"], "0");
    let counting = Counting::start(&stand.tandem);
    for _ in 0..5 {
        stand.to_redis.cut();
        std::thread::sleep(Duration::from_millis(100));
    }
    let cut = counting.end();
    cut.assert_errors(&["UNAVAILABLE"]);
    stand.assert_counted(&cut);
}

/// A Redis that takes half of the time after which it would count as gone is said to be slow.
#[test]
fn a_redis_that_is_slow_is_said_to_be() {
    let redis = Redis::start();
    let stand = Stand::with(redis, Postgres::start(), |options| {
        options.set("redis", "hang_timeout_ms", 3000)
    });
    stand.to_redis.set(Line::Delayed(Duration::from_millis(1000)));
    stand.wait_condition("redis", "slow");
    stand.to_redis.set(Line::Clear);
    stand.wait_well();
    assert_eq!(stand.tandem.status()["failovers"], "0");
}
