//! Snapshots: into an empty schema, authoritative ones, and ones that PostgreSQL leads.

use bytes::Bytes;
use support::Postgres;
use tandem::engine::value::Value;
use tandem::engine::{Expiry, Keyspace};
use tandem::rdb::{
    Object, PendingEntry, StreamConsumer, StreamEntry, StreamGroup, StreamId, StreamObject,
};
use tandem::store::{Behind, BulkOutcome, Commit, Merge, Position, Store};

use super::{block_on, content, open, stored};

type Key = (u32, &'static str, Option<i64>, Object);

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn stream(entries: u64) -> Object {
    let id = |ms| StreamId { ms, seq: u64::MAX };
    let fields = vec![(text("f"), text("v")), (text("f"), text(""))];
    Object::Stream(StreamObject {
        entries: (1..=entries)
            .map(|ms| StreamEntry { id: id(ms), fields: fields.clone() })
            .collect(),
        last_id: id(u64::MAX),
        first_id: id(1),
        max_deleted_id: id(7),
        entries_added: 99,
        groups: vec![StreamGroup {
            name: text("g"),
            last_id: id(1),
            entries_read: None,
            pending: vec![PendingEntry {
                id: id(1),
                consumer: text("c"),
                delivery_time_ms: 5,
                delivery_count: 2,
            }],
            consumers: vec![StreamConsumer {
                name: text("c"),
                seen_time_ms: 6,
                active_time_ms: None,
            }],
        }],
    })
}

/// One key of each type, with what is awkward about it.
fn one_of_each() -> Vec<Key> {
    let long = Bytes::from(vec![b'l'; 1 << 20]);
    vec![
        (0, "string", Some(77), Object::String(long.clone())),
        (1, "string", None, Object::String(text("\0other"))),
        (0, "list", None, Object::List(vec![text("a"), text("a"), text("b")])),
        (0, "set", None, Object::Set(vec![text(""), long.clone()])),
        (0, "zset", None, Object::ZSet(vec![(text("-0"), -0.0), (text("inf"), f64::INFINITY)])),
        (0, "hash", None, Object::Hash(vec![(long, text("v")), (text("f"), text(""))])),
        (0, "stream", None, stream(3)),
        (0, "module", None, Object::Opaque { type_byte: 7, dump: text("dump") }),
    ]
}

async fn load(store: &Store, keys: &[Key], offset: i64, merge: Merge) -> BulkOutcome {
    let mut loader = store.bulk_load().await.expect("begins");
    for (db, key, expires_at_ms, object) in keys {
        loader.push(*db, key.as_bytes(), *expires_at_ms, object).await.expect("takes the key");
    }
    loader.push_function(b"lib", b"source").await.expect("takes the library");
    let position = Position { replid: "r".into(), offset, db: 0 };
    loader.finish(&position, merge).await.expect("commits")
}

async fn check(store: &Store, keys: &[Key]) {
    let names: Vec<(u32, Bytes)> = keys.iter().map(|(db, key, ..)| (*db, text(key))).collect();
    let found = stored(store, &names).await;
    for (db, key, expires_at_ms, object) in keys {
        let (_, expires, _, rows) = &found[&(*db, text(key))];
        assert_eq!(expires, expires_at_ms, "{key}");
        assert_eq!(rows, &content(&Value::from(object.clone())), "{key}");
    }
}

#[test]
fn a_first_snapshot_arrives_whole_or_not_at_all() {
    let postgres = Postgres::start();
    block_on(async {
        let store = open(&postgres).await;
        let keys = one_of_each();
        let mut dropped = store.bulk_load().await.expect("begins");
        for (db, key, expires_at_ms, object) in &keys {
            dropped.push(*db, key.as_bytes(), *expires_at_ms, object).await.expect("takes the key");
        }
        drop(dropped);
        assert!(store.is_empty().await.expect("reads"));

        let outcome = load(&store, &keys, 10, Merge::Authoritative).await;
        let expected = BulkOutcome { keys: 8, added: 8, next_id: 9, ..BulkOutcome::default() };
        assert_eq!(outcome, expected);
        check(&store, &keys).await;
        assert_eq!(store.max_key_id().await.expect("reads"), 8);
        assert_eq!(store.functions().await.expect("reads"), [(text("lib"), text("source"))]);
        let position = store.position().await.expect("reads").expect("is there");
        assert_eq!(position.offset, 10);
    });
}

/// The same keys with some changed, some gone and some new.
fn later() -> Vec<Key> {
    let mut keys = one_of_each();
    keys.retain(|(db, key, ..)| (*db, *key) != (1, "string") && *key != "module");
    for (_, key, expires_at_ms, object) in &mut keys {
        match *key {
            "string" => *expires_at_ms = None,
            "list" => *object = Object::List(vec![text("a"), text("b"), text("a")]),
            "zset" => {
                *object = Object::ZSet(vec![(text("-0"), 0.0), (text("inf"), f64::INFINITY)]);
            }
            _ => {}
        }
    }
    keys.push((2, "new", None, Object::Set(vec![text("m")])));
    keys
}

#[test]
fn an_authoritative_snapshot_replaces_what_differs() {
    let postgres = Postgres::start();
    block_on(async {
        let store = open(&postgres).await;
        load(&store, &one_of_each(), 10, Merge::Authoritative).await;
        let before = postgres.sql(
            "SELECT key, version, updated_at FROM tandem.keys_text
            WHERE key IN ('set', 'hash', 'stream') ORDER BY key",
        );
        let outcome = load(&store, &later(), 20, Merge::Authoritative).await;
        let expected = BulkOutcome {
            keys: 7,
            added: 1,
            replaced: 3,
            removed: 2,
            next_id: outcome.next_id,
            ..BulkOutcome::default()
        };
        assert_eq!(outcome, expected);
        check(&store, &later()).await;
        assert_eq!(postgres.sql("SELECT count(*) FROM tandem.keys"), "7");
        assert_eq!(postgres.sql("SELECT count(*) FROM tandem.opaque"), "0");
        let after = postgres.sql(
            "SELECT key, version, updated_at FROM tandem.keys_text
            WHERE key IN ('set', 'hash', 'stream') ORDER BY key",
        );
        assert_eq!(before, after, "what is the same is not touched");
    });
}

#[test]
fn where_postgres_leads_nothing_is_overwritten() {
    let postgres = Postgres::start();
    block_on(async {
        let store = open(&postgres).await;
        load(&store, &one_of_each(), 10, Merge::Authoritative).await;
        // The list is known to be stale: Redis's value is the right one.
        let stale = vec![(0, text("list"))];
        let commit = Commit { rereads_added: stale.clone(), ..Commit::default() };
        store.persist(&commit).await.expect("writes");
        assert_eq!(store.rereads().await.expect("reads"), stale);

        let outcome = load(&store, &later(), 5, Merge::PostgresLeads).await;
        let expected = BulkOutcome {
            keys: 7,
            added: 1,
            replaced: 1,
            conflicts: 2,
            missing_in_redis: 2,
            next_id: outcome.next_id,
            removed: 0,
        };
        assert_eq!(outcome, expected);
        let mut kept = one_of_each();
        kept.retain(|(_, key, ..)| *key != "list");
        check(&store, &kept).await;
        let taken = |key: &str| later().into_iter().filter(|k| k.1 == key).collect::<Vec<_>>();
        check(&store, &[taken("list"), taken("new")].concat()).await;
        let listed =
            "SELECT string_agg(key || ':' || reason, ',' ORDER BY key) FROM tandem.conflicts_text";
        assert_eq!(postgres.sql(listed), "string:expiry,zset:value");
        let differing = store.redis_behind(Behind::Differing, 100).await.expect("reads");
        let missing = store.redis_behind(Behind::Missing, 100).await.expect("reads");
        assert_eq!((differing.len(), missing.len()), (2, 2));
        store.redis_caught_up(&differing).await.expect("writes");
        store.redis_caught_up(&missing[..1]).await.expect("writes");
        assert_eq!(store.redis_behind(Behind::Differing, 100).await.expect("reads"), []);
        assert_eq!(store.redis_behind(Behind::Missing, 100).await.expect("reads"), missing[1..]);
        assert_eq!(store.redis_lacks().await.expect("reads"), 1);
        assert_eq!(store.rereads().await.expect("reads"), []);
    });
}

#[test]
fn the_engine_goes_on_from_a_snapshot() {
    let postgres = Postgres::start();
    block_on(async {
        let store = open(&postgres).await;
        let outcome = load(&store, &one_of_each(), 10, Merge::Authoritative).await;
        let mut keyspace = Keyspace::new(outcome.next_id, false, Expiry::ByLog, 1);
        let (key, field) = (text("hash"), text("f"));
        for name in [&key, &text("fresh")] {
            while let Err(tandem::engine::Stop::NotLoaded(needs)) =
                keyspace.hash_set(0, name, &field, text("changed"))
            {
                store.load(&needs).await.expect("loads").into_iter().for_each(|l| keyspace.load(l));
            }
        }
        let commit = Commit { delta: keyspace.take_delta().0, ..Commit::default() };
        store.persist(&commit).await.expect("writes");
        let sql = "SELECT key, value FROM tandem.hashes_text WHERE field = 'f' ORDER BY key";
        assert_eq!(postgres.sql(sql), "fresh|changed\nhash|changed");
    });
}
