//! The end of the mirror: what Redis has done for clients that are gone is still on its way.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis;
use tokio_util::sync::CancellationToken;

use super::{Shared, info};
use crate::strategy::MirrorState;
use crate::upstream::SidePool;

/// How long the rest of the stream may take. What is late comes at the next start.
const PATIENCE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(5);

/// Waits for `shutdown`, then until the stream has come as far as Redis was at that moment, and says so
/// to `received`.
pub async fn wait(
    shared: Arc<Shared>,
    side: SidePool,
    shutdown: CancellationToken,
    received: CancellationToken,
) {
    shutdown.cancelled().await;
    // A Redis that is away has nothing to wait for.
    let _ = tokio::time::timeout(PATIENCE, rest(&shared, &side)).await;
    received.cancel();
}

async fn rest(shared: &Shared, side: &SidePool) -> Option<()> {
    if shared.status.mirror.state() != MirrorState::Streaming {
        return None;
    }
    let mut connection = side.get().await.ok()?;
    let mut info = redis::cmd("INFO");
    let text: String = info.arg("replication").query_async(&mut *connection).await.ok()?;
    let reached: i64 = info::field(&text, "master_repl_offset")?.parse().ok()?;
    while shared.log.end().is_some_and(|(_, end)| end < reached) {
        tokio::time::sleep(TICK).await;
    }
    Some(())
}
