//! Copies that nobody has used for `cache_ttl_s` of their family leave Redis; PostgreSQL has them.

use std::sync::Arc;
use std::time::Duration;

use super::clear::Clear;
use super::pace::Pace;
use super::{Name, PAGE, SyncError, Syncer};

/// Bounds of the time between two rounds; within them it is a quarter of the shortest time to live.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);

/// Runs until it is dropped; ends at once where no family asks for it.
pub async fn serve(syncer: Arc<Syncer>) {
    let Some(least) = syncer.families.least_cache_ttl_s() else { return };
    let pause = Duration::from_secs(least / 4).clamp(OFTEN, SELDOM);
    let mut said = false;
    loop {
        tokio::time::sleep(pause).await;
        if syncer.ready().is_err() {
            continue;
        }
        match round(&syncer).await {
            Ok(0) => said = false,
            Ok(copies) => {
                said = false;
                tracing::debug!(copies, "copies that nobody has used for long have left Redis");
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "copies that nobody uses (cache_ttl_s) stay in Redis for now");
                }
            }
        }
    }
}

/// Looks at all keys of such families once; the number of copies dropped.
async fn round(syncer: &Syncer) -> Result<u64, SyncError> {
    let mut clear = Clear::new(syncer).await?;
    let mut pace = Pace::new(syncer.config.sync.keys_per_second);
    for (db, _) in clear.redis.databases().await? {
        let mut cursor = 0;
        loop {
            let (next, keys) = clear.redis.scan(db, cursor, None, PAGE).await?;
            let seen = keys.len();
            let ttl = |key: &[u8]| {
                let rule = syncer.families.of(key).filter(|rule| rule.mirror);
                rule.and_then(|rule| rule.cache_ttl_s)
            };
            let (names, ttls): (Vec<Name>, Vec<u64>) =
                keys.into_iter().filter_map(|key| Some(((db, key.clone()), ttl(&key)?))).unzip();
            let idle = clear.redis.idle_s(&names).await?;
            let due = names.into_iter().zip(ttls).zip(idle);
            let due: Vec<Name> = due
                .filter(|((_, ttl), idle)| idle.is_some_and(|idle| idle >= *ttl))
                .map(|((name, _), _)| name)
                .collect();
            if !due.is_empty() {
                clear.declare().await;
                clear.clear(due).await?;
            }
            pace.after(seen).await;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(clear.counts.cleared)
}
