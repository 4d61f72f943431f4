//! Differences planted into PostgreSQL behind the mirror's back.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Client, Postgres, Redis, Value};

/// The database that the random load leaves alone.
pub const DB: u32 = 5;

/// A type; what makes a key of it (`{k}` is its name); what is done to its rows (`{id}` its id); what the check
/// has to say of it.
type Plant = (&'static [&'static str], &'static str, &'static str, Option<&'static str>);

const STRING: &[&str] = &["SET {k} value PXAT 4000000000123"];
const HASH: &[&str] = &["HSET {k} a 1 b 2"];
const LIST: &[&str] = &["RPUSH {k} a b c"];
const SET: &[&str] = &["SADD {k} a b"];
const ZSET: &[&str] = &["ZADD {k} 0 a 1.5 b"];
const STREAM: &[&str] = &[
    "XADD {k} 1-1 a b",
    "XGROUP CREATE {k} group 0",
    "XREADGROUP GROUP group consumer STREAMS {k} >",
];

const PLANTS: &[Plant] = &[
    (STRING, "UPDATE strings SET value = 'valuE' WHERE key_id = {id}", "different", Some("value")),
    (STRING, "UPDATE strings SET value = '' WHERE key_id = {id}", "different", Some("value")),
    (
        STRING,
        "UPDATE keys SET expires_at_ms = expires_at_ms + 1001 WHERE id = {id}",
        "different",
        Some("ttl"),
    ),
    (STRING, "UPDATE keys SET expires_at_ms = null WHERE id = {id}", "different", Some("ttl")),
    (
        STRING,
        "UPDATE keys SET kind = 3 WHERE id = {id}; DELETE FROM strings WHERE key_id = {id}; INSERT INTO sets VALUES ({id}, 'value')",
        "different",
        Some("type"),
    ),
    (
        STRING,
        "DELETE FROM strings WHERE key_id = {id}; DELETE FROM keys WHERE id = {id}",
        "missing_in_postgres",
        None,
    ),
    (
        HASH,
        "UPDATE hashes SET value = '3' WHERE key_id = {id} AND field = 'b'",
        "different",
        Some("value"),
    ),
    (
        HASH,
        "DELETE FROM hashes WHERE key_id = {id} AND field = 'b'; UPDATE keys SET len = 1 WHERE id = {id}",
        "different",
        Some("value"),
    ),
    (
        HASH,
        "INSERT INTO hashes VALUES ({id}, 'c', ''); UPDATE keys SET len = 3 WHERE id = {id}",
        "different",
        Some("value"),
    ),
    (
        HASH,
        "UPDATE keys SET expires_at_ms = 4000000000000 WHERE id = {id}",
        "different",
        Some("ttl"),
    ),
    (
        HASH,
        "DELETE FROM hashes WHERE key_id = {id}; DELETE FROM keys WHERE id = {id}",
        "missing_in_postgres",
        None,
    ),
    (LIST, "UPDATE lists SET pos = -pos WHERE key_id = {id}", "different", Some("order")),
    (
        LIST,
        "UPDATE lists SET value = 'x' WHERE key_id = {id} AND value = 'b'",
        "different",
        Some("value"),
    ),
    (
        LIST,
        "DELETE FROM lists WHERE key_id = {id} AND value = 'c'; UPDATE keys SET len = 2 WHERE id = {id}",
        "different",
        Some("value"),
    ),
    (
        SET,
        "UPDATE sets SET member = 'c' WHERE key_id = {id} AND member = 'b'",
        "different",
        Some("value"),
    ),
    (
        SET,
        "INSERT INTO sets VALUES ({id}, 'c'); UPDATE keys SET len = 3 WHERE id = {id}",
        "different",
        Some("value"),
    ),
    (
        ZSET,
        "UPDATE zsets SET score = 1.5000000000000002 WHERE key_id = {id} AND member = 'b'",
        "different",
        Some("score"),
    ),
    (
        ZSET,
        "UPDATE zsets SET score = '-0' WHERE key_id = {id} AND member = 'a'",
        "different",
        Some("score"),
    ),
    (
        ZSET,
        "DELETE FROM zsets WHERE key_id = {id} AND member = 'b'; UPDATE keys SET len = 1 WHERE id = {id}",
        "different",
        Some("value"),
    ),
    (
        STREAM,
        "UPDATE stream_entries SET fields = ARRAY['a', 'c']::bytea[] WHERE key_id = {id}",
        "different",
        Some("entries"),
    ),
    (STREAM, "UPDATE streams SET last_seq = 2 WHERE key_id = {id}", "different", Some("counters")),
    (
        STREAM,
        "UPDATE stream_groups SET last_ms = 0 WHERE key_id = {id}",
        "different",
        Some("groups"),
    ),
    (
        STREAM,
        "UPDATE stream_pending SET delivery_count = 9 WHERE key_id = {id}",
        "different",
        Some("pending"),
    ),
    (STREAM, "DELETE FROM stream_pending WHERE key_id = {id}", "different", Some("pending")),
    (STREAM, "DELETE FROM stream_consumers WHERE key_id = {id}", "different", Some("consumers")),
    (
        STREAM,
        "DELETE FROM stream_groups WHERE key_id = {id}; DELETE FROM stream_consumers WHERE key_id = {id}; DELETE FROM stream_pending WHERE key_id = {id}",
        "different",
        Some("groups"),
    ),
];

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    All,
    /// Without what Redis cannot hold: -0 in a small sorted set, and a pending entry without its consumer.
    Restorable,
}

impl Choice {
    fn plants(self) -> Vec<Plant> {
        let held = |(_, sql, ..): &&Plant| {
            !sql.contains("'-0'") && !sql.starts_with("DELETE FROM stream_consumers")
        };
        PLANTS.iter().filter(|plant| self == Choice::All || held(plant)).copied().collect()
    }
}

/// What a check has to find: kind and aspect by key.
pub type Expected = BTreeMap<String, (String, Option<String>)>;

/// Writes keys of all types through the proxy: `wrong` of them are to be spoiled, as many again stay right.
pub fn write(client: &mut Client, choice: Choice, wrong: usize) {
    let plants = choice.plants();
    client.call(["SELECT", &DB.to_string()]);
    let keys = (0..wrong).flat_map(|n| {
        let (commands, ..) = plants[n % plants.len()];
        [format!("wrong:{n}"), format!("right:{n}")].map(|key| (commands, key))
    });
    let commands = keys.flat_map(|(commands, key)| {
        commands.iter().map(move |command| command.replace("{k}", &key))
    });
    let commands: Vec<Vec<String>> =
        commands.map(|c| c.split(' ').map(str::to_owned).collect()).collect();
    for part in commands.chunks(200) {
        let replies = client.pipeline(part);
        assert!(!replies.iter().any(Value::is_error), "{replies:?}");
    }
}

/// Spoils the rows of the keys `wrong:…`, and adds some that Redis lacks.
pub fn spoil(
    redis: &Redis,
    postgres: &Postgres,
    seed: u64,
    choice: Choice,
    wrong: usize,
) -> Expected {
    let plants = choice.plants();
    let mut rng = StdRng::seed_from_u64(seed);
    let rows = postgres.sql(&format!(
        "SELECT id, convert_from(key, 'UTF8') FROM tandem.keys WHERE db = {DB} AND key LIKE 'wrong:%'"
    ));
    let mut expected = Expected::new();
    let mut script = Vec::new();
    for row in rows.lines() {
        let (id, key) = row.split_once('|').expect("two columns");
        let n: usize = key.strip_prefix("wrong:").expect("its name").parse().expect("a number");
        let (_, sql, kind, aspect) = plants[n % plants.len()];
        script.push(sql.replace("{id}", id));
        expected.insert(key.to_owned(), (kind.to_owned(), aspect.map(str::to_owned)));
    }
    assert_eq!(expected.len(), wrong, "all keys are mirrored");
    for n in 0..rng.random_range(10..20) {
        let (id, key) = (1_000_000_000 + n, format!("extra:{n}"));
        script.push(format!(
            "INSERT INTO keys (id, db, key, kind, len, version) VALUES ({id}, {DB}, '{key}', 1, 1, 1); INSERT INTO strings VALUES ({id}, 'x')"
        ));
        expected.insert(key, ("missing_in_redis".into(), None));
    }
    for part in script.chunks(100) {
        postgres.sql(&format!("SET search_path = tandem; {}", part.join("; ")));
    }
    let mut direct = redis.client();
    direct.call(["SELECT", &DB.to_string()]);
    assert_eq!(direct.run("EXISTS extra:0"), Value::Int(0));
    expected
}
