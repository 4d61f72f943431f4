use bytes::Bytes;
use support::Postgres;
use tandem::engine::{Expiry, Keyspace};
use tandem::store::{Commit, Position, Store, StoreError};

use super::{block_on, open, settings};

fn set(keyspace: &mut Keyspace, key: &'static str, value: &'static str) -> Commit {
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
    keyspace.set_string(0, &key, value, None).expect("sets");
    Commit { delta: keyspace.take_delta().0, ..Commit::default() }
}

#[test]
fn migrations_run_once_however_many_start() {
    let postgres = Postgres::start();
    block_on(async {
        let starters = (0..6).map(|_| async {
            let store = Store::connect(&settings(&postgres)).await.expect("connects");
            store.migrate().await
        });
        for result in futures_util::future::join_all(starters).await {
            result.expect("migrates");
        }
        open(&postgres).await;
        let numbers =
            postgres.sql("SELECT count(*), count(DISTINCT number) FROM tandem.migrations");
        assert_eq!(numbers, "9|9");

        postgres.sql("INSERT INTO tandem.migrations VALUES (9999, 'x')");
        let store = Store::connect(&settings(&postgres)).await.expect("connects");
        let error = store.migrate().await.expect_err("newer");
        assert!(matches!(error, StoreError::NewerSchema { found: 9999, .. }), "{error}");
        postgres.sql(
            "DELETE FROM tandem.migrations WHERE number = 9999;
                      UPDATE tandem.migrations SET checksum = 'x' WHERE number = 2",
        );
        let error = store.migrate().await.expect_err("changed");
        assert!(matches!(error, StoreError::ChangedMigration { number: 2 }), "{error}");
    });
}

#[test]
fn an_earlier_writer_cannot_commit_any_more() {
    let postgres = Postgres::start();
    block_on(async {
        let old = open(&postgres).await;
        let mut keyspace = Keyspace::new(1, true, Expiry::ByLog, 1);
        old.persist(&set(&mut keyspace, "a", "1")).await.expect("writes");
        let new = open(&postgres).await;
        let error = old.persist(&set(&mut keyspace, "b", "2")).await.expect_err("fenced");
        assert!(matches!(error, StoreError::Fenced), "{error}");
        assert!(!error.outcome_unknown());
        let position = Position { replid: "x".into(), offset: 5, db: 0 };
        let commit = Commit { position: Some(position.clone()), ..set(&mut keyspace, "c", "3") };
        new.persist(&commit).await.expect("writes");
        assert_eq!(
            postgres.sql("SELECT string_agg(key, ',' ORDER BY key) FROM tandem.strings_text"),
            "a,c"
        );
        assert_eq!(new.position().await.expect("reads"), Some(position));
    });
}

#[test]
fn a_silent_server_is_noticed() {
    let postgres = Postgres::start();
    block_on(async {
        let mut quick = settings(&postgres);
        quick.query_timeout_ms = 300;
        let store = Store::connect(&quick).await.expect("connects");
        store.migrate().await.expect("migrates");
        store.position().await.expect("reads");
        let mut keyspace = Keyspace::new(1, true, Expiry::ByLog, 1);
        store.persist(&set(&mut keyspace, "a", "1")).await.expect("writes");
        // The whole process group: the backend of the session as well.
        postgres.pause();
        let start = std::time::Instant::now();
        let error = store.persist(&set(&mut keyspace, "b", "2")).await.expect_err("hangs");
        assert!(start.elapsed() < std::time::Duration::from_secs(3));
        postgres.resume();
        assert!(error.is_connection() && error.outcome_unknown(), "{error}");
        let again = store.persist(&set(&mut keyspace, "c", "3")).await.expect_err("is closed");
        assert!(again.is_connection(), "{again}");
    });
}

#[test]
fn views_show_text() {
    let postgres = Postgres::start();
    block_on(async {
        let store = open(&postgres).await;
        let mut keyspace = Keyspace::new(1, true, Expiry::ByLog, 1);
        let key = Bytes::from_static("schlüssel".as_bytes());
        keyspace
            .set_string(3, &key, Bytes::from_static(b"\xff\0a"), Some(1_700_000_000_123))
            .expect("sets");
        let hash = Bytes::from_static(b"h");
        keyspace.hash_set(0, &hash, &hash, Bytes::from_static(b"v")).expect("sets");
        let commit = Commit { delta: keyspace.take_delta().0, ..Commit::default() };
        store.persist(&commit).await.expect("writes");
        let sql = "SELECT db, key, value, expires_at AT TIME ZONE 'UTC' FROM tandem.strings_text";
        assert_eq!(postgres.sql(sql), r"3|schlüssel|\377\000a|2023-11-14 22:13:20.123");
        assert_eq!(postgres.sql("SELECT key, field, value FROM tandem.hashes_text"), "h|h|v");
        let views = postgres.sql("SELECT viewname FROM pg_views WHERE schemaname = 'tandem'");
        for view in views.lines() {
            postgres.sql(&format!("SELECT * FROM tandem.{view}"));
        }
        let sql = "SELECT type, len FROM tandem.keys_text ORDER BY type";
        assert_eq!(postgres.sql(sql), "hash|1\nstring|1");
    });
}
