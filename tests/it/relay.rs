//! The relay's recorded traffic through every strategy: the replies of straight Redis, and what it leaves behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use support::compare::{Entry, Keyspace, Sides, Stream, Value as Stored, redis_keyspace};
use support::load::{Command, Trace};
use support::{Client, Postgres, Redis, Tandem, Value, wait_for};

use crate::engine::replies::ordered;
use crate::evict::model::now_ms;

/// Batches unanswered at a time.
const WINDOW: usize = 6;
/// Two replays look at the clock at different times.
const CLOCKS_MS: i64 = 120_000;

/// What stands behind the proxy.
struct Strategy {
    mode: &'static str,
    redis: bool,
    postgres: bool,
    /// PostgreSQL follows Redis.
    mirror: bool,
}

const STRATEGIES: &[Strategy] = &[
    Strategy { mode: "redis_only", redis: true, postgres: false, mirror: false },
    Strategy { mode: "cache_first", redis: true, postgres: true, mirror: true },
    Strategy { mode: "dual_write", redis: true, postgres: true, mirror: true },
    Strategy { mode: "database_first", redis: true, postgres: true, mirror: false },
    Strategy { mode: "postgres_only", redis: false, postgres: true, mirror: false },
];

/// A replay as a client sees it.
struct Seen {
    start_ms: i64,
    replies: Vec<Value>,
    left: Keyspace,
}

fn replay(trace: &Trace, port: u16) -> Seen {
    let (start_ms, mut replies) = (now_ms(), Vec::new());
    let address = ([127, 0, 0, 1], port).into();
    let replay = trace.replay_and(address, WINDOW, |command, reply| {
        replies.push(comparable(command, reply));
    });
    let replay = replay.unwrap_or_else(|e| panic!("replay: {e}"));
    println!("{} commands in {:?}, {} errors", replay.commands, replay.time, replay.errors);
    let mut client = Client::connect(address).expect("connect");
    client.set_timeout(Duration::from_secs(60));
    let left = redis_keyspace(&mut client).expect("readable");
    Seen { start_ms, replies, left: without_clock(left, start_ms) }
}

/// The reply without what depends on the clock, on chance or on the order of a table.
fn comparable(command: &Command, reply: Value) -> Value {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    match name.as_str() {
        // Cursors and pages are each server's own; ids are times.
        "scan" | "info" | "xadd" | "ttl" | "pttl" if !reply.is_error() => Value::Nil,
        // How long something has lasted, by the server's clock.
        "eval" if command[1].windows(6).any(|part| part == b"'TIME'") => Value::Nil,
        // A count and the time that is left.
        "eval" | "evalsha" => match reply {
            Value::Array(mut items) if items.len() == 2 => items.remove(0),
            other => other,
        },
        "exec" => match reply {
            Value::Array(replies) => Value::Array(replies.into_iter().map(without_id).collect()),
            other => other,
        },
        _ => ordered(command, reply),
    }
}

/// A stream's id is a time.
fn without_id(reply: Value) -> Value {
    let is_id = |text: &[u8]| text.len() > 14 && text.get(13) == Some(&b'-');
    if matches!(&reply, Value::Bulk(text) if is_id(text)) { Value::Nil } else { reply }
}

fn without_clock(keyspace: Keyspace, start_ms: i64) -> Keyspace {
    let entry = |entry: Entry| {
        let value = match entry.value {
            Stored::Stream(stream) => {
                let entries = stream.entries.into_values().enumerate();
                let entries = entries.map(|(at, fields)| ((at as u64, 0), fields)).collect();
                Stored::Stream(Box::new(Stream { entries, ..Stream::default() }))
            }
            other => other,
        };
        let expires_at_ms = entry.expires_at_ms.map(|at| at - start_ms);
        Entry { value, expires_at_ms }
    };
    // Written by scripts that ask for the time.
    let timed = |key: &[u8]| key.starts_with(b"user_msg_queue_last:");
    let kept = keyspace.into_iter().filter(|(name, _)| !timed(&name.key));
    kept.map(|(name, value)| (name, entry(value))).collect()
}

/// What differs, by key. A key that ends about now may be on one side only.
fn differences(theirs: &Keyspace, ours: &Keyspace) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for name in theirs.keys().chain(ours.keys()) {
        let difference = match (theirs.get(name), ours.get(name)) {
            (Some(t), Some(o)) if t.value != o.value => Some(format!("{t:?}, not {o:?}")),
            (Some(t), Some(o)) => match (t.expires_at_ms, o.expires_at_ms) {
                (Some(t), Some(o)) if (t - o).abs() <= CLOCKS_MS => None,
                (None, None) => None,
                (t, o) => Some(format!("ends {t:?}, not {o:?}")),
            },
            (one, other) => {
                let at = one.or(other).and_then(|entry| entry.expires_at_ms);
                let soon = at.is_some_and(|at| at <= CLOCKS_MS);
                (!soon).then(|| format!("{one:?}, not {other:?}"))
            }
        };
        found.extend(difference.map(|what| (name.to_string(), what)));
    }
    found
}

impl Strategy {
    /// Replays the trace through the proxy and compares with straight Redis.
    fn compare(&self, trace: &Trace, straight: &Seen) {
        let mode = self.mode;
        println!("{mode}");
        let redis = self.redis.then(Redis::start);
        let postgres = self.postgres.then(Postgres::start);
        let mut options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).mode(mode).allow("");
        if let Some(redis) = &redis {
            options = options.redis(redis);
        }
        if let Some(postgres) = &postgres {
            options = options.postgres(postgres);
        }
        let tandem = options.start();
        tandem.wait_status("mode", mode);
        if self.mirror {
            tandem.wait_streaming();
        }
        let seen = replay(trace, tandem.port());
        assert_alike(mode, trace, straight, &seen);
        let left = differences(&straight.left, &seen.left);
        assert!(left.is_empty(), "{mode}: clients see\n{left:#?}");
        match (&redis, &postgres) {
            (Some(redis), Some(postgres)) if self.mirror => {
                Sides::new(redis, postgres).assert_equal();
            }
            (redis, Some(postgres)) => {
                let other = redis.is_none().then(Redis::start);
                let Some(either) = redis.as_ref().or(other.as_ref()) else { return };
                let sides = Sides::new(either, postgres);
                let (held, faults) = sides.postgres_keyspace().expect("readable");
                let left = differences(&straight.left, &without_clock(held, seen.start_ms));
                assert!(left.is_empty() && faults.is_empty(), "{mode}: {left:#?} {faults:?}");
                wait_for("Redis to follow", Duration::from_secs(60), || {
                    let held = sides.redis_keyspace().expect("readable");
                    let held = without_clock(held, seen.start_ms);
                    redis.is_none() || differences(&straight.left, &held).is_empty()
                });
            }
            _ => {}
        }
    }
}

fn assert_alike(mode: &str, trace: &Trace, straight: &Seen, seen: &Seen) {
    assert_eq!(straight.replies.len(), seen.replies.len());
    let mut wrong = Vec::new();
    for ((command, theirs), ours) in trace.commands().zip(&straight.replies).zip(&seen.replies) {
        if theirs != ours {
            let command = command.iter().map(|word| word.escape_ascii().to_string());
            let command = command.collect::<Vec<_>>().join(" ");
            wrong.push(format!("{command:.200}\nRedis:  {theirs:?}\nTandem: {ours:?}"));
        }
    }
    let first = wrong[..wrong.len().min(10)].join("\n");
    assert!(wrong.is_empty(), "{mode}: {} replies differ:\n{first}", wrong.len());
}

#[test]
fn the_relay_sees_no_difference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(mut trace) = Trace::relay(root) else { return };
    // All of it takes minutes.
    if std::env::var_os("TANDEM_TEST_TRACE").is_none() {
        trace = trace.first(4_000);
    }
    println!("straight");
    let redis = Redis::start();
    let straight = replay(&trace, redis.port());
    STRATEGIES.iter().for_each(|strategy| strategy.compare(&trace, &straight));
}
