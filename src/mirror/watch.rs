//! Decides whether replies to writes wait for PostgreSQL, and keeps the lag up to date.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use super::apply::now_ms;
use crate::config::{Ack, Changeable, Mode, OnUnavailable};
use crate::strategy::{MirrorState, Status};

const TICK: Duration = Duration::from_millis(20);
/// After so long without progress the news of a commit may have been lost on its way.
const LOST: Duration = Duration::from_millis(250);

/// True when replies to writes wait for PostgreSQL as the strategy says.
pub fn waits_for_postgres(status: &Status) -> bool {
    status.strategy() == Mode::DualWrite && status.ack == Ack::Postgres
}

/// Keeps writes from Redis while PostgreSQL cannot commit them. At once when PostgreSQL is known to be away,
/// otherwise when its time is over, and then what waits is given up.
fn refuse(shared: &Shared, healthy: bool, over: bool, lag_ms: u64, patience: Duration) {
    let gate = &shared.gate;
    let mirror = &shared.status.mirror;
    let state = mirror.state();
    if healthy {
        if Duration::from_millis(lag_ms) < patience / 4 && gate.refuse(false) {
            tracing::info!("writes are taken again: PostgreSQL is back and has caught up");
        }
        return;
    }
    // A snapshot is being taken over, and PostgreSQL is there.
    if state == MirrorState::Syncing || !(over || state == MirrorState::Spooling) {
        return;
    }
    if gate.refuse(true) {
        tracing::warn!(
            state = state.as_str(),
            lag_ms,
            "writes are refused until PostgreSQL is back and has caught up"
        );
    }
    if over {
        gate.give_up();
    }
}

/// Runs until it is dropped.
pub async fn watch(shared: Arc<Shared>) {
    let mut healthy_at = Instant::now();
    let mut nudged_at = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let lag = shared.oldest_at_ms().map_or(0, |at| (now_ms() - at).max(0).unsigned_abs());
        let mirror = &shared.status.mirror;
        mirror.lag_ms.store(lag, Ordering::Relaxed);
        mirror.spool_bytes.store(shared.log.spool_bytes(), Ordering::Relaxed);
        if !waits_for_postgres(&shared.status) {
            if shared.gate.holding() {
                tracing::info!("writes are acknowledged when Redis has them");
                shared.gate.refuse(false);
                shared.gate.open();
            }
            healthy_at = Instant::now();
            continue;
        }
        if nudged_at.elapsed() >= LOST {
            shared.gate.nudge(LOST);
            nudged_at = Instant::now();
        }
        let Changeable { ack_timeout: patience, on_unavailable, .. } = shared.config.now();
        let late = Duration::from_millis(lag) > patience || shared.gate.stalled_for() > patience;
        let healthy = mirror.state() == MirrorState::Streaming && !late;
        let refuses = on_unavailable == OnUnavailable::Refuse;
        if refuses {
            // A link that looks for Redis says nothing of PostgreSQL.
            let silent = mirror.state() != MirrorState::Connecting;
            let over = late || silent && healthy_at.elapsed() >= patience;
            refuse(&shared, healthy, over, lag, patience);
        }
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
            } else if refuses {
                // Nothing is acknowledged that PostgreSQL does not have.
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
