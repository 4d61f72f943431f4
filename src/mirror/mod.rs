//! The mirror: attaches to Redis as a replica and keeps PostgreSQL equal to it.
//!
//! ```text
//!  Redis ──replica──▶ link ──▶ log (memory, spool) ──▶ applier: plan ▶ engine ▶ store ──▶ PostgreSQL
//!                                                            └─ barriers ──▶ CommitGate ──▶ clients
//! ```
//!
//! The link receives and never waits for PostgreSQL; the applier commits in batches, each with the
//! replication position that it reaches, so every effect is applied exactly once.

mod apply;
mod canary;
mod ending;
mod evictions;
mod history;
mod info;
mod link;
mod log;
mod others;
mod recall;
pub mod replica;
mod shared;
mod snapshot;
mod spool;
mod standby;
mod sweep;
mod warm;
mod watch;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

pub use apply::PASS_OVER;
pub use canary::{Canaries, Swaps};
pub use evictions::{declare as declare_partial, declare_whole};
pub use sweep::{SweepError, sweep};

use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::strategy::{CommitGate, Missing, Presence, Status};
use crate::tenure::Tenure;
use crate::upstream::{Connector, SideManager, SidePool};
pub use history::{head, reach};
use shared::Shared;

/// Why the mirror cannot begin. What goes wrong later is retried.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    #[error(transparent)]
    Postgres(#[from] StoreError),
}

/// A mirror that is ready to run.
pub struct Mirror {
    shared: Arc<Shared>,
    side: SideManager,
    missing: UnboundedReceiver<Missing>,
}

impl Mirror {
    /// Opens the spool; neither Redis nor PostgreSQL has to be there. To be made before clients are
    /// served: it decides whether their first write waits.
    pub fn new(
        config: Arc<Config>,
        connector: &Connector,
        gate: Arc<CommitGate>,
        tenure: Arc<Tenure>,
        status: Arc<Status>,
        presence: Arc<Presence>,
    ) -> Result<Mirror, MirrorError> {
        Store::check(&config.postgres)?;
        let spool = spool::Spool::open(&config.mirror.spool_dir, config.mirror.spool_max_bytes)?;
        let side = SideManager::new(connector.clone());
        if watch::waits_for_postgres(&status) {
            // From the first write on; a first sync, or a PostgreSQL that stays away, opens it.
            gate.close();
        }
        let shared =
            Arc::new(Shared::new(config, gate, tenure, status, presence, log::Log::new(spool)));
        evictions::remember(&shared);
        let missing = shared.presence.attend();
        Ok(Mirror { shared, side, missing })
    }

    /// Signalled when PostgreSQL turns out to lead: it has taken over from Redis, and has not given back.
    pub fn led(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.led)
    }

    /// Mirrors until it is stopped, then commits what Redis had done until then. True when all of that is in PostgreSQL. The
    /// parts share one thread: call it on a current-thread runtime of its own.
    pub async fn run(self, stop: Stop) -> bool {
        let Mirror { shared, side, missing } = self;
        let Stop { gently: shutdown, received, yields } = stop;
        let others = tokio::spawn(others::serve(Arc::clone(&shared), side.clone()));
        let evictions = tokio::spawn(evictions::keep(Arc::clone(&shared), side.clone()));
        let warm = tokio::spawn(warm::serve(Arc::clone(&shared), side.clone()));
        let recall = tokio::spawn(recall::serve(Arc::clone(&shared), side.clone(), missing));
        let sweep = tokio::spawn(sweep::serve(Arc::clone(&shared)));
        let side = SidePool::new(side, &shared.config.redis);
        let ending = tokio::spawn(ending::wait(
            Arc::clone(&shared),
            side.clone(),
            shutdown.clone(),
            received.clone(),
        ));
        let link = tokio::spawn(link::keep(Arc::clone(&shared), side.clone()));
        let watch = tokio::spawn(watch::watch(Arc::clone(&shared)));
        let work = async {
            let mut applier = tokio::select! {
                applier = apply::Applier::start(Arc::clone(&shared), side, received.clone()) => applier,
                () = received.cancelled() => return false,
            };
            applier.run(|| !shutdown.is_cancelled()).await
        };
        let drained = tokio::select! {
            drained = work => drained,
            () = yields.cancelled() => false,
        };
        ending.abort();
        link.abort();
        watch.abort();
        recall.abort();
        warm.abort();
        sweep.abort();
        evictions.abort();
        others.abort();
        if yields.is_cancelled() {
            // Who waits is answered under another proxy's lead.
            return false;
        }
        shared.gate.refuse(false);
        shared.gate.open();
        shared.over();
        drained
    }
}

/// How a mirror is stopped.
#[derive(Clone)]
pub struct Stop {
    /// The process ends: the rest of Redis's stream is waited for, and PostgreSQL, both for a while.
    pub gently: CancellationToken,
    /// Redis is gone: what has been received is committed, however long it takes.
    pub received: CancellationToken,
    /// Another proxy leads, or this one does from now on: replies that wait go on waiting.
    pub yields: CancellationToken,
}

impl Stop {
    pub fn new(gently: CancellationToken) -> Stop {
        Stop { gently, received: CancellationToken::new(), yields: CancellationToken::new() }
    }
}
