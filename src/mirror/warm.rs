//! Fills a Redis that has lost its data from PostgreSQL, behind the backs of clients: they are served meanwhile,
//! and what they miss first is brought back first ([`super::recall`]). Keys are brought back in the way in
//! which one key is, so nothing that clients write or delete meanwhile is overwritten.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use bb8_redis::redis::aio::MultiplexedConnection;
use bytes::Bytes;

use super::{Shared, recall};
use crate::engine::Db;
use crate::store::{Behind, Store, StoreError};
use crate::strategy::{Gap, RecallError, Recalled};
use crate::upstream::{SideError, SideManager};

/// Keys brought back at once.
const KEYS: u32 = 512;
/// Between two lines of the log.
const LINES: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum WarmError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Recall(#[from] RecallError),
    #[error(transparent)]
    Redis(#[from] SideError),
}

/// Runs until it is dropped.
pub async fn serve(shared: Arc<Shared>, manager: SideManager) {
    let mut said = false;
    loop {
        shared.warm.notified().await;
        while let Err(error) = fill(&shared, &manager).await {
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(%error, "filling Redis from PostgreSQL is interrupted");
            }
            tokio::time::sleep(RETRY).await;
        }
        said = false;
    }
}

/// Until Redis has them, or nobody has. Fewer at once each time: one that a client writes meanwhile
/// keeps the others from being restored with it.
async fn bring_back(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    db: Db,
    mut names: Vec<Bytes>,
) -> Result<(), WarmError> {
    let mut at_once = names.len();
    while !names.is_empty() {
        let mut again = Vec::new();
        for some in names.chunks(at_once.max(1)) {
            let recalled = shared.presence.recall(db, some.to_vec()).await?;
            let unsure = some.iter().zip(recalled).filter(|(_, r)| *r == Recalled::Again);
            again.extend(unsure.map(|(name, _)| (db, name.clone())));
        }
        let lacking = recall::lacking(connection, again).await?;
        names = lacking.into_iter().map(|(_, name)| name).collect();
        at_once /= 4;
    }
    Ok(())
}

async fn fill(shared: &Shared, manager: &SideManager) -> Result<(), WarmError> {
    let store = Store::connect(&shared.config.postgres).await?;
    let mut connection = manager.connect().await?;
    let to_warm = &shared.presence.counters.to_warm;
    let total = store.redis_lacks().await?.unsigned_abs();
    to_warm.store(total, Ordering::Relaxed);
    if total > 0 {
        tracing::info!(keys = total, "Redis is filled from PostgreSQL");
    }
    let mut said_at = Instant::now();
    loop {
        let keys = store.redis_behind(Behind::Missing, KEYS).await?;
        if keys.is_empty() {
            break;
        }
        if shared.begun_anew.load(Ordering::Relaxed) {
            recall::drop_copies(shared, &mut connection, &keys).await?;
        }
        for chunk in keys.chunk_by(|(a, _), (b, _)| a == b) {
            let names = chunk.iter().map(|(_, key)| key.clone()).collect();
            bring_back(shared, &mut connection, chunk[0].0, names).await?;
        }
        store.redis_caught_up(&keys).await?;
        let left = to_warm.load(Ordering::Relaxed).saturating_sub(keys.len() as u64);
        to_warm.store(left, Ordering::Relaxed);
        if said_at.elapsed() >= LINES {
            tracing::info!(left, of = total, "Redis is being filled from PostgreSQL");
            said_at = Instant::now();
        }
    }
    if shared.presence.set(Gap::Warming, false) {
        tracing::info!(keys = total, "Redis has been brought up to PostgreSQL");
    }
    Ok(())
}
