//! The store against real PostgreSQL servers.

mod bulk;
mod commit;
mod random;
mod schema;

use std::collections::BTreeMap;

use bytes::Bytes;
use support::Postgres;
use tandem::config;
use tandem::engine::value::Value;
use tandem::engine::{Db, Loaded, Need, Part};
use tandem::store::Store;

/// `[postgres]` for a test server.
pub fn settings(postgres: &Postgres) -> config::Postgres {
    config::Postgres { url: postgres.url(), query_timeout_ms: 10_000, ..Default::default() }
}

/// Connected, migrated, and the writer.
pub async fn open(postgres: &Postgres) -> Store {
    let store = Store::connect(&settings(postgres)).await.expect("connects");
    store.migrate().await.expect("migrates");
    store.position().await.expect("has a position");
    store
}

/// Runs async code on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// A value in a form that compares by content: scores by their bits, lists by order.
pub fn content(value: &Value) -> Vec<Vec<u8>> {
    let pair = |a: &[u8], b: &[u8]| [&(a.len() as u64).to_be_bytes(), a, b].concat();
    match value {
        Value::String(value) | Value::Opaque(value) => {
            vec![value.as_ref().expect("loaded").to_vec()]
        }
        Value::List(list) => list.iter().map(|element| element.to_vec()).collect(),
        Value::Set(set) => sorted(set.iter().map(|(member, ())| member.to_vec())),
        Value::Hash(hash) => sorted(hash.iter().map(|(field, value)| pair(field, value))),
        Value::ZSet(zset) => sorted(zset.known.iter().filter_map(|(member, score)| {
            Some(pair(member, &score.as_ref()?.to_bits().to_be_bytes()))
        })),
        Value::Stream(stream) => vec![format!("{stream:?}").into_bytes()],
    }
}

fn sorted(rows: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut rows: Vec<Vec<u8>> = rows.collect();
    rows.sort();
    rows
}

/// Type, expiry, version and content of keys.
pub type Contents = BTreeMap<(Db, Bytes), (&'static str, Option<i64>, i64, Vec<Vec<u8>>)>;

/// What PostgreSQL has of these keys.
pub async fn stored(store: &Store, keys: &[(Db, Bytes)]) -> Contents {
    let needs: Vec<Need> =
        keys.iter().map(|(db, key)| Need { db: *db, key: key.clone(), part: Part::All }).collect();
    let loaded = store.load(&needs).await.expect("loads");
    loaded
        .into_iter()
        .filter_map(|Loaded { db, key, found }| {
            let found = found?;
            assert!(found.value.is_complete(), "{key:?} is complete");
            let (kind, content) = (found.value.kind().as_str(), content(&found.value));
            Some(((db, key), (kind, found.expires_at_ms, found.version, content)))
        })
        .collect()
}
