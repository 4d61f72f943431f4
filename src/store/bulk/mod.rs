//! Snapshots: whole keyspaces into the tables by `COPY`, in bounded memory.
//!
//! Into an empty schema the rows go straight into the tables. Otherwise they go into temporary tables
//! first and are merged, set by set. Either way everything becomes visible at once, in the transaction
//! that writes the position.

mod copy;
mod encode;
mod merge;
mod tables;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::connect::Connector;
use super::session::Session;
use super::{Position, StoreError, db_column};
use crate::engine::Db;
use crate::engine::delta::KeyId;
use crate::rdb::Object;
use crate::strategy::Condition;
use copy::Chunk;
use tables::Tables;

/// Rows of a table are sent in pieces of this size.
const CHUNK_BYTES: usize = 2 << 20;

/// What a snapshot may do to rows that PostgreSQL has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It is the truth: what it lacks goes, what differs is replaced.
    Authoritative,
    /// PostgreSQL leads: only keys that it lacks are taken over. What differs or is missing on the side of
    /// Redis is listed in `redis_behind`, differences in `conflicts` too.
    PostgresLeads,
}

/// What a snapshot has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkOutcome {
    /// Keys in the snapshot.
    pub keys: u64,
    /// Keys that PostgreSQL lacked.
    pub added: u64,
    /// Keys whose value or expiry was replaced.
    pub replaced: u64,
    /// Keys that were removed, because the snapshot lacks them.
    pub removed: u64,
    /// Keys that differ and were left as they are.
    pub conflicts: u64,
    /// Keys that the snapshot lacks and that were left as they are.
    pub missing_in_redis: u64,
    /// The first key id that is free.
    pub next_id: KeyId,
}

/// A snapshot on its way into PostgreSQL. Dropped before [`BulkLoader::finish`], it leaves nothing behind.
pub struct BulkLoader {
    tables: Tables,
    chunks: mpsc::Sender<Chunk>,
    feeder: JoinHandle<Result<Session, StoreError>>,
    /// The rows go into temporary tables.
    staged: bool,
    epoch: i64,
    next_id: KeyId,
    keys: u64,
}

impl BulkLoader {
    pub(super) async fn begin(connector: &Connector, epoch: i64) -> Result<BulkLoader, StoreError> {
        let (session, staged, next_id) = copy::open(connector).await?;
        // Two chunks wait while a third is being copied.
        let (chunks, waiting) = mpsc::channel(2);
        let feeder = tokio::spawn(copy::feed(session, staged, waiting));
        let tables = Tables::default();
        Ok(BulkLoader { tables, chunks, feeder, staged, epoch, next_id, keys: 0 })
    }

    /// Adds a key. Keys of the snapshot are different from each other.
    pub async fn push(
        &mut self,
        db: Db,
        key: &[u8],
        expires_at_ms: Option<i64>,
        object: &Object,
    ) -> Result<(), StoreError> {
        self.tables.add(self.next_id, db, key, expires_at_ms, object);
        self.next_id += 1;
        self.keys += 1;
        self.send(CHUNK_BYTES).await
    }

    /// Adds a function library.
    pub async fn push_function(&mut self, name: &[u8], source: &[u8]) -> Result<(), StoreError> {
        self.tables.add_function(name, source);
        self.send(CHUNK_BYTES).await
    }

    /// Sends what has at least `bytes`.
    async fn send(&mut self, bytes: usize) -> Result<(), StoreError> {
        while let Some((table, data)) = self.tables.take(bytes)? {
            if self.chunks.send(Chunk { table, data }).await.is_err() {
                return Err(self.failure().await);
            }
        }
        Ok(())
    }

    /// Why the feeder has ended.
    async fn failure(&mut self) -> StoreError {
        match (&mut self.feeder).await {
            Ok(Err(error)) => error,
            _ => StoreError::Connection {
                message: "the bulk load was ended".into(),
                outcome_unknown: false,
                condition: Condition::Lost,
            },
        }
    }

    /// Merges the rows and commits everything with the position that the snapshot stands for.
    /// Afterwards key ids go on from [`BulkOutcome::next_id`].
    pub async fn finish(
        mut self,
        position: &Position,
        merge: Merge,
    ) -> Result<BulkOutcome, StoreError> {
        self.send(1).await?;
        // The feeder ends when it has copied what was sent.
        let (closed, _) = mpsc::channel(1);
        self.chunks = closed;
        let session = match (&mut self.feeder).await {
            Ok(result) => result?,
            Err(_) => return Err(self.failure().await),
        };
        let mut outcome =
            BulkOutcome { keys: self.keys, next_id: self.next_id, ..BulkOutcome::default() };
        if self.staged {
            merge::merge(&session, merge, &mut outcome).await?;
        } else {
            outcome.added = self.keys;
        }
        copy::commit(&session, self.epoch, position).await?;
        Ok(outcome)
    }
}

impl Drop for BulkLoader {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Redis has them with another value.
    Differing,
    /// Redis lacks them.
    Missing,
}

/// Keys that Redis lacked or had with another value, for the caller to bring to Redis.
pub(super) async fn behind(
    session: &Session,
    which: Behind,
    limit: u32,
) -> Result<Vec<(Db, Bytes)>, StoreError> {
    let query = "SELECT db, key FROM redis_behind WHERE differs = $2
                 ORDER BY db, index_form(key) LIMIT $1";
    let differs = which == Behind::Differing;
    let rows = session.run(session.client().query(query, &[&i64::from(limit), &differs])).await?;
    super::db_keys(&rows)
}

/// Forgets keys that have been brought to Redis.
pub(super) async fn caught_up(session: &Session, keys: &[(Db, Bytes)]) -> Result<(), StoreError> {
    let dbs: Vec<i32> = keys.iter().map(|(db, _)| db_column(*db)).collect();
    let names: Vec<&[u8]> = keys.iter().map(|(_, key)| &key[..]).collect();
    let delete =
        "DELETE FROM redis_behind r USING unnest($1::integer[], $2::bytea[]) AS u (db, key)
                  WHERE r.db = u.db AND index_form(r.key) = index_form(u.key)";
    session.run(session.client().execute(delete, &[&dbs, &names])).await?;
    Ok(())
}
