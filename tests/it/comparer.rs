//! The judge is no rubber stamp: it calls equal what is equal, and finds every kind of difference.

use std::path::Path;

use support::compare::Sides;
use support::{Postgres, Redis};

/// One key of each type, and what stands for it in the tables.
const REDIS: &[&str] = &[
    "SET string value PXAT 4000000000123",
    "HSET hash a 1 b 2",
    "RPUSH list a b c",
    "SADD set a b",
    "ZADD zset 0 a 1.5 b",
    "XADD stream 1-1 a b",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group consumer STREAMS stream >",
    "SET plain 1",
];

const ROWS: &str = "
    INSERT INTO keys (id, db, key, kind, expires_at_ms, len, version) VALUES
        (1, 0, 'string', 1, 4000000000123, 1, 1), (2, 0, 'hash', 5, null, 2, 1), (3, 0, 'list', 2, null, 3, 1),
        (4, 0, 'set', 3, null, 2, 1), (5, 0, 'zset', 4, null, 2, 1), (6, 0, 'stream', 6, null, 1, 1),
        (7, 0, 'plain', 1, null, 1, 1);
    INSERT INTO strings VALUES (1, 'value'), (7, '1');
    INSERT INTO hashes VALUES (2, 'a', '1'), (2, 'b', '2');
    INSERT INTO lists VALUES (3, -1, 'a'), (3, 5, 'b'), (3, 6, 'c');
    INSERT INTO sets VALUES (4, 'a'), (4, 'b');
    INSERT INTO zsets VALUES (5, 'a', 0), (5, 'b', 1.5);
    INSERT INTO streams VALUES (6, 1, 1, 0, 0, 1);
    INSERT INTO stream_entries VALUES (6, 1, 1, ARRAY['a', 'b']::bytea[]);
    INSERT INTO stream_groups VALUES (6, 'group', 1, 1, 1);
    INSERT INTO stream_consumers VALUES (6, 'group', 'consumer', 0, null);";

/// Each change, and the key that it must show in.
const CHANGES: &[(&str, &str)] = &[
    ("string", "UPDATE strings SET value = 'other' WHERE key_id = 1"),
    ("string", "UPDATE keys SET expires_at_ms = expires_at_ms + 1 WHERE id = 1"),
    ("string", "UPDATE keys SET expires_at_ms = null WHERE id = 1"),
    ("plain", "UPDATE keys SET db = 1 WHERE id = 7"),
    ("plain", "UPDATE keys SET kind = 7 WHERE id = 7; DELETE FROM strings WHERE key_id = 7"),
    ("hash", "UPDATE hashes SET value = '3' WHERE field = 'b'"),
    ("hash", "INSERT INTO hashes VALUES (2, 'c', ''); UPDATE keys SET len = 3 WHERE id = 2"),
    ("list", "UPDATE lists SET pos = -pos"),
    ("set", "DELETE FROM sets WHERE member = 'a'; UPDATE keys SET len = 1 WHERE id = 4"),
    ("zset", "UPDATE zsets SET score = '-0' WHERE member = 'a'"),
    ("zset", "UPDATE zsets SET score = 1.5000000000000002 WHERE member = 'b'"),
    ("stream", "UPDATE stream_entries SET fields = ARRAY['a', 'c']::bytea[]"),
    ("stream", "UPDATE streams SET last_seq = 2"),
    ("stream", "UPDATE stream_groups SET last_ms = 0"),
    ("stream", "UPDATE stream_pending SET delivery_count = 9"),
    ("stream", "DELETE FROM stream_consumers"),
    ("new", "INSERT INTO keys (id, db, key, kind, len, version) VALUES (8, 0, 'new', 3, 0, 1)"),
];

/// Changes that leave the keys as they are, but contradict themselves.
const FAULTS: &[&str] = &[
    "INSERT INTO hashes VALUES (99, 'left', 'over')",
    "UPDATE keys SET len = 4 WHERE id = 3",
    "INSERT INTO sets VALUES (5, 'a')",
];

#[test]
fn every_kind_of_difference_is_found() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut client = redis.client();
    for command in REDIS {
        assert!(!client.run(command).is_error(), "{command}");
    }
    let delivered = client.run("XPENDING stream group - + 1").items().remove(0).items();
    assert_eq!(delivered[1].text(), "consumer");
    // The delivery time is Redis's clock, which only XINFO tells exactly.
    let sides = Sides::new(&redis, &postgres);
    let delivered_at = sides.redis_keyspace().unwrap().into_iter().find_map(|(_, entry)| {
        let support::compare::Value::Stream(stream) = entry.value else { return None };
        stream.groups.values().next()?.pending.values().next().map(|(_, at, _)| *at)
    });
    let pending = format!(
        "INSERT INTO stream_pending VALUES (6, 'group', 1, 1, 'consumer', {}, 1);",
        delivered_at.unwrap()
    );
    let within = |sql: &str| postgres.sql(&format!("SET search_path = tandem; {sql}"));
    postgres.sql("CREATE SCHEMA tandem");
    let mut files: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("schema"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort_unstable();
    for file in files {
        within(&std::fs::read_to_string(file).unwrap());
    }
    within(ROWS);
    within(&pending);
    let clean = sides.differences().unwrap();
    assert!(clean.is_empty() && clean.keys == 7, "{clean}");

    for (key, change) in CHANGES {
        within(&format!("CREATE SCHEMA saved; {}", copy_all("tandem", "saved")));
        within(change);
        let found = sides.differences().unwrap();
        assert!(!found.found.is_empty(), "{change}: nothing found");
        assert!(
            found.found.iter().all(|(name, _)| name.key == key.as_bytes()),
            "{change}: {found}"
        );
        within(&format!("{}; DROP SCHEMA saved CASCADE", restore_all("saved", "tandem")));
        let again = sides.differences().unwrap();
        assert!(again.is_empty(), "after {change} was undone: {again}");
    }
    for fault in FAULTS {
        within(&format!("CREATE SCHEMA saved; {}", copy_all("tandem", "saved")));
        within(fault);
        let found = sides.differences().unwrap();
        assert!(!found.faults.is_empty(), "{fault}: {found}");
        within(&format!("{}; DROP SCHEMA saved CASCADE", restore_all("saved", "tandem")));
    }
}

const TABLES: &[&str] = &[
    "keys",
    "strings",
    "hashes",
    "lists",
    "sets",
    "zsets",
    "streams",
    "stream_entries",
    "stream_groups",
    "stream_consumers",
    "stream_pending",
];

fn copy_all(from: &str, to: &str) -> String {
    let copy = |table: &&str| format!("CREATE TABLE {to}.{table} AS SELECT * FROM {from}.{table}");
    TABLES.iter().map(copy).collect::<Vec<_>>().join("; ")
}

fn restore_all(from: &str, to: &str) -> String {
    let copy = |table: &&str| {
        // What PostgreSQL makes of other columns cannot be inserted.
        let columns = match *table {
            "keys" => "id, db, key, kind, expires_at_ms, len, version, updated_at",
            _ => "",
        };
        let (into, all) = match columns {
            "" => (String::new(), "*"),
            columns => (format!("({columns})"), columns),
        };
        format!(
            "DELETE FROM {to}.{table}; INSERT INTO {to}.{table} {into} SELECT {all} FROM {from}.{table}"
        )
    };
    TABLES.iter().map(copy).collect::<Vec<_>>().join("; ")
}
