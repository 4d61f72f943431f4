//! Rows of keys whose time is over. Redis says when a key of its own expires; of one that it lacks, because it was
//! evicted or never brought back, it will never say anything. Those are treated as if somebody missed them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Shared;
use crate::store::{Store, StoreError};
use crate::strategy::{MirrorState, Presence, RecallError};

/// Between two looks when there is nothing to do.
const INTERVAL: Duration = Duration::from_secs(5);
/// So long Redis may take to say it by itself.
const GRACE: Duration = Duration::from_secs(2);
const KEYS: u32 = 512;
/// How often the same keys are met before they are left alone; their rows go with the next commit.
const MEETINGS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Recall(#[from] RecallError),
}

/// Runs until it is dropped.
pub async fn serve(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let follows = shared.status.mirror.state() == MirrorState::Streaming;
        if follows
            && shared.status.postgres_up.load(Ordering::Relaxed)
            && let Err(error) = sweep_old(&shared).await
        {
            // Whoever watches that side says so; it is tried again.
            tracing::debug!(%error, "rows of expired keys are looked for later");
        }
    }
}

async fn sweep_old(shared: &Shared) -> Result<bool, SweepError> {
    let store = Store::connect(&shared.config.postgres).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    sweep(&shared.presence, &store, now.saturating_sub(GRACE).as_millis() as i64).await
}

/// Has all keys noticed whose time was over at `past_ms` (Unix time in ms). False: some of them are still there.
pub async fn sweep(presence: &Presence, store: &Store, past_ms: i64) -> Result<bool, SweepError> {
    let (mut before, mut met) = (Vec::new(), 0);
    loop {
        let mut names = store.expired(past_ms, KEYS).await?;
        if names.is_empty() {
            return Ok(true);
        }
        names.sort_unstable();
        met = if names == before { met + 1 } else { 0 };
        if met == MEETINGS {
            return Ok(false);
        }
        if met > 0 {
            tokio::time::sleep(PAUSE).await;
        } else {
            for some in names.chunk_by(|(a, _), (b, _)| a == b) {
                let keys = some.iter().map(|(_, key)| key.clone()).collect();
                presence.recall(some[0].0, keys).await?;
            }
        }
        before = names;
    }
}
