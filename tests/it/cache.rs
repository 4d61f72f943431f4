//! Redis as a cache: it holds less than PostgreSQL, and no client can tell.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{Client, Postgres, Redis, Tandem, TandemOptions, Value, seed, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

pub struct Small {
    pub redis: Redis,
    pub postgres: Postgres,
    options: TandemOptions,
}

impl Small {
    pub fn new(maxmemory: &str, policy: &str) -> Small {
        let redis =
            Redis::options().with("maxmemory", maxmemory).with("maxmemory-policy", policy).start();
        let postgres = Postgres::start();
        let options = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .redis(&redis)
            .postgres(&postgres)
            .set("strategy", "ack_timeout_ms", 60_000)
            .family("match = 'lock:*'\nmirror = false");
        Small { redis, postgres, options }
    }

    /// A proxy that knows that Redis may evict.
    pub fn tandem(&self) -> Tandem {
        let tandem = self.options.clone().start();
        tandem.wait_streaming();
        wait_for("the look at Redis's memory", LIMIT, || number(&tandem, "redis_keys").is_none());
        tandem
    }

    pub fn info(&self, section: &str, field: &str) -> u64 {
        let text = self.redis.client().call(["INFO", section]).text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("{field} in {text}"))
    }
}

/// A number in the proxy's status; none while Redis counts as whole.
pub fn number(tandem: &Tandem, field: &str) -> Option<u64> {
    let status = tandem.status();
    match status.get(field).map(String::as_str) {
        Some("whole") => Some(0),
        Some(text) => text.parse().ok(),
        None => panic!("no {field} in {status:?}"),
    }
}

/// About 16 kB that tell `n` from other numbers.
fn filler(n: usize) -> String {
    format!("{n:06}-").repeat(2400)
}

#[test]
fn evicted_keys_are_read_back_with_type_and_expiry() {
    let small = Small::new("6mb", "allkeys-lru");
    let tandem = small.tandem();
    let mut client = tandem.client();
    let far = 4_000_000_000_000_i64;
    for n in 0..100 {
        let (filler, name) = (filler(n), |kind: &str| format!("{kind}:{n}"));
        let commands: [Vec<String>; 4] = [
            vec!["SET".into(), name("string"), filler.clone(), "PXAT".into(), far.to_string()],
            vec!["HSET".into(), name("hash"), name("f"), filler.clone(), "n".into(), name("n")],
            vec!["RPUSH".into(), name("list"), "a".into(), filler.clone(), "c".into()],
            vec!["ZADD".into(), name("zset"), "1.5".into(), filler, "2".into(), "b".into()],
        ];
        for reply in client.pipeline(commands) {
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
    for n in 0..100 {
        let filler = filler(n);
        assert_eq!(client.call(["GET", &format!("string:{n}")]), Value::bulk(&filler), "{n}");
        assert_eq!(client.call(["PEXPIRETIME", &format!("string:{n}")]), Value::Int(far));
        let hash = client.call(["HGET", &format!("hash:{n}"), &format!("f:{n}")]);
        assert_eq!(hash, Value::bulk(&filler), "{n}");
        let list = client.call(["LRANGE", &format!("list:{n}"), "0", "-1"]);
        assert_eq!(list, Value::Array(["a", &filler, "c"].map(Value::bulk).to_vec()));
        let score = client.call(["ZSCORE", &format!("zset:{n}"), &filler]);
        assert_eq!(score, Value::bulk("1.5"));
        assert_eq!(client.call(["GET", &format!("nowhere:{n}")]), Value::Nil);
    }
    assert_eq!(client.run("TYPE zset:1"), Value::Simple("zset".into()));
    assert_eq!(client.run("EXISTS zset:1 zset:2 string:1 nowhere:7"), Value::Int(3));
    assert!(small.info("stats", "evicted_keys") > 100);
    assert!(number(&tandem, "evictions").expect("counted") > 100);
    assert_eq!(number(&tandem, "doubtful_deletes"), Some(0));
    assert_eq!(small.postgres.sql("SELECT count(*) FROM tandem.keys"), "400");
    // A delete is a delete, whoever holds the key.
    for n in 0..20 {
        assert_eq!(client.call(["DEL", &format!("string:{n}")]), Value::Int(1), "{n}");
        assert_eq!(client.call(["GET", &format!("string:{n}")]), Value::Nil, "{n}");
    }
    wait_for("the deletes", LIMIT, || {
        small.postgres.sql("SELECT count(*) FROM tandem.keys") == "380"
    });
    for n in 0..20 {
        assert_eq!(client.call(["GET", &format!("string:{n}")]), Value::Nil, "{n}");
    }
}

/// Redis says when a key of its own expires, never when one does that it has evicted.
#[test]
fn rows_of_evicted_keys_go_when_their_time_is_over() {
    let small = Small::new("6mb", "allkeys-lru");
    let tandem = small.tandem();
    let mut client = tandem.client();
    let over_ms = std::time::SystemTime::now() + Duration::from_secs(4);
    let over_ms = over_ms.duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    let filled = |n: usize| {
        let value = filler(n);
        ["SET".into(), format!("key:{n}"), value, "PXAT".into(), over_ms.to_string()]
    };
    for reply in client.pipeline((0..600).map(filled)) {
        assert_eq!(reply, Value::ok());
    }
    assert!(small.info("stats", "evicted_keys") > 100);
    let rows = || small.postgres.sql("SELECT count(*) FROM tandem.keys");
    wait_for("all rows", LIMIT, || rows() == "600");
    wait_for("no rows", LIMIT, || rows() == "0");
    assert_eq!(small.redis.client().run("DBSIZE"), Value::Int(0));
}

/// What one client has been told about its keys.
#[derive(Default)]
struct Model {
    strings: BTreeMap<String, String>,
    counters: BTreeMap<String, i64>,
    hashes: BTreeMap<String, BTreeMap<String, i64>>,
    lists: BTreeMap<String, Vec<String>>,
}

/// One random command, checked against the model.
fn act(model: &mut Model, client: &mut Client, rng: &mut SmallRng, prefix: &str, shared: &mut i64) {
    let n: u32 = rng.random_range(0..60);
    let (string, counter) = (format!("{prefix}:s:{n}"), format!("{prefix}:c:{n}"));
    let (hash, list) = (format!("{prefix}:h:{n}"), format!("{prefix}:l:{n}"));
    match rng.random_range(0..14) {
        0 | 1 => {
            let value = filler(rng.random_range(0..1_000_000));
            assert_eq!(client.call(["SET", &string, &value]), Value::ok());
            model.strings.insert(string, value);
        }
        2..=4 => {
            let expected = model.strings.get(&string).map_or(Value::Nil, Value::bulk);
            assert_eq!(client.call(["GET", &string]), expected, "GET {string}");
        }
        5 => {
            let there = i64::from(model.strings.remove(&string).is_some());
            assert_eq!(client.call(["DEL", &string]), Value::Int(there), "DEL {string}");
        }
        6 => {
            let value = model.strings.entry(string.clone()).or_default();
            value.push_str("+tail");
            let length = value.len() as i64;
            let reply = client.call(["APPEND", &string, "+tail"]);
            assert_eq!(reply, Value::Int(length), "APPEND {string}");
        }
        7 | 8 => {
            let value = model.counters.entry(counter.clone()).or_default();
            *value += 1;
            assert_eq!(client.call(["INCR", &counter]), Value::Int(*value), "INCR {counter}");
        }
        9 | 10 => {
            let field = format!("f{}", rng.random_range(0..5));
            let value = model.hashes.entry(hash.clone()).or_default().entry(field.clone());
            let value = value.or_default();
            *value += 7;
            let reply = client.call(["HINCRBY", &hash, &field, "7"]);
            assert_eq!(reply, Value::Int(*value), "HINCRBY {hash} {field}");
        }
        11 => {
            let elements = model.lists.entry(list.clone()).or_default();
            elements.push(filler(n as usize));
            let length = elements.len() as i64;
            let reply = client.call(["RPUSH", &list, &filler(n as usize)]);
            assert_eq!(reply, Value::Int(length), "RPUSH {list}");
        }
        12 => {
            let expected = match model.lists.get_mut(&list) {
                Some(elements) => Value::bulk(elements.remove(0)),
                None => Value::Nil,
            };
            model.lists.retain(|_, elements| !elements.is_empty());
            assert_eq!(client.call(["LPOP", &list]), expected, "LPOP {list}");
        }
        _ => {
            client.call(["INCR", "shared:counter"]);
            *shared += 1;
        }
    }
}

/// Clients load a small Redis at random for a while, as a model that they check each answer against.
fn load_and_check(
    small: &Small,
    tandem: &Tandem,
    seed: u64,
    time: Duration,
    disturb: impl Fn() + Sync,
) {
    let over = AtomicBool::new(false);
    let shared: i64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|id| {
                let tandem = &*tandem;
                scope.spawn(move || {
                    let mut rng = SmallRng::seed_from_u64(seed + id);
                    let (mut model, mut client) = (Model::default(), tandem.client());
                    let prefix = format!("client{id}");
                    for n in 0..60 {
                        let (key, value) = (format!("{prefix}:s:{n}"), filler(n));
                        assert_eq!(client.call(["SET", &key, &value]), Value::ok());
                        model.strings.insert(key, value);
                    }
                    let (start, mut shared) = (Instant::now(), 0);
                    while start.elapsed() < time {
                        act(&mut model, &mut client, &mut rng, &prefix, &mut shared);
                    }
                    for (key, value) in &model.strings {
                        assert_eq!(client.call(["GET", key]), Value::bulk(value), "{key}");
                    }
                    for (key, value) in &model.counters {
                        assert_eq!(client.call(["GET", key]), Value::bulk(value.to_string()));
                    }
                    (model, shared)
                })
            })
            .collect();
        let disturbed = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                disturb();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let results: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        over.store(true, Ordering::Relaxed);
        disturbed.join().expect("no panic");
        let mut shared = 0;
        let mut keys = 0;
        for result in results {
            let (model, mine) = result.expect("every answer as in the model");
            shared += mine;
            keys += model.strings.len() + model.counters.len();
            keys += model.hashes.len() + model.lists.len();
        }
        let count = || small.postgres.sql("SELECT count(*) FROM tandem.keys");
        let expected = (keys + 1).to_string();
        wait_for("all keys in PostgreSQL, and no other", LIMIT, || count() == expected);
        shared
    });
    let reply = tandem.client().call(["GET", "shared:counter"]);
    assert_eq!(reply, Value::bulk(shared.to_string()));
    assert!(small.info("stats", "evicted_keys") > 100, "nothing was evicted");
}

#[test]
fn a_small_redis_answers_like_a_large_one() {
    let seed = seed(3);
    let small = Small::new("6mb", "allkeys-lru");
    let tandem = small.tandem();
    load_and_check(&small, &tandem, seed, Duration::from_secs(5), || ());
    assert_eq!(number(&tandem, "doubtful_deletes"), Some(0));
}

#[test]
fn nothing_is_lost_or_comes_back_when_notifications_are_lost() {
    let seed = seed(4);
    let small = Small::new("6mb", "allkeys-random");
    let tandem = small.tandem();
    load_and_check(&small, &tandem, seed, Duration::from_secs(5), || {
        small.redis.client().run("CLIENT KILL TYPE pubsub");
    });
}
