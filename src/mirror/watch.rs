//! Decides whether replies to writes wait for PostgreSQL, and keeps the lag up to date.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use super::apply::now_ms;
use crate::config::{Ack, Mode, Strategy};
use crate::strategy::MirrorState;

const TICK: Duration = Duration::from_millis(20);

/// True when replies to writes wait for PostgreSQL as configured.
pub fn waits_for_postgres(strategy: &Strategy) -> bool {
    strategy.mode == Mode::DualWrite && strategy.ack == Ack::Postgres
}

/// Runs until it is dropped.
pub async fn watch(shared: Arc<Shared>) {
    let wanted = waits_for_postgres(&shared.config.strategy);
    let patience = Duration::from_millis(shared.config.strategy.ack_timeout_ms);
    let mut healthy_at = Instant::now();
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
        let late = Duration::from_millis(lag) > patience || shared.gate.stalled_for() > patience;
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
