//! Decides whether replies to writes wait for PostgreSQL, and keeps the lag up to date.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use super::apply::now_ms;
use crate::config::{Ack, Mode};
use crate::strategy::MirrorState;

const TICK: Duration = Duration::from_millis(20);

/// Runs until it is dropped.
pub async fn watch(shared: Arc<Shared>) {
    let wanted = shared.config.strategy.mode == Mode::DualWrite
        && shared.config.strategy.ack == Ack::Postgres;
    let patience = Duration::from_millis(shared.config.strategy.ack_timeout_ms);
    let mut healthy_at = Instant::now();
    if wanted {
        // From the first write on; a first sync or a PostgreSQL that stays away opens it.
        shared.gate.close();
    }
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let lag = shared.oldest_at_ms().map_or(0, |at| (now_ms() - at).max(0).unsigned_abs());
        let mirror = &shared.status.mirror;
        mirror.lag_ms.store(lag, Ordering::Relaxed);
        mirror.spool_bytes.store(shared.log.spool_bytes(), Ordering::Relaxed);
        if !wanted {
            continue;
        }
        let late = Duration::from_millis(lag) > patience;
        let healthy = mirror.state() == MirrorState::Streaming && !late;
        if healthy {
            healthy_at = Instant::now();
            // Holding starts only near the end of the log: nobody waits for an old backlog.
            if !shared.gate.holding() && Duration::from_millis(lag) < patience / 4 {
                tracing::info!("writes are acknowledged when PostgreSQL has committed them");
                shared.gate.close();
            }
        } else if shared.gate.holding() {
            if mirror.state() == MirrorState::Syncing {
                // The link has said so already; it is no fault.
                shared.gate.open();
            } else if late || healthy_at.elapsed() >= patience {
                tracing::warn!(
                    state = mirror.state().as_str(),
                    lag_ms = lag,
                    "writes are acknowledged by Redis alone until the mirror has caught up"
                );
                shared.gate.open();
            }
        }
    }
}
