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
mod ending;
mod evictions;
mod info;
mod link;
mod log;
mod recall;
pub mod replica;
mod shared;
mod snapshot;
mod spool;
mod warm;
mod watch;

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::strategy::{CommitGate, Gap, Missing, Presence, Status};
use crate::upstream::{Connector, SideManager, SidePool};
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
        status: Arc<Status>,
        presence: Arc<Presence>,
        missing: UnboundedReceiver<Missing>,
    ) -> Result<Mirror, MirrorError> {
        Store::check(&config.postgres)?;
        let spool = spool::Spool::open(&config.mirror.spool_dir, config.mirror.spool_max_bytes)?;
        let side = SideManager::new(connector.clone());
        if watch::waits_for_postgres(&config.strategy) {
            // From the first write on; a first sync, or a PostgreSQL that stays away, opens it.
            gate.close();
        }
        let shared = Arc::new(Shared::new(config, gate, status, presence, log::Log::new(spool)));
        evictions::remember(&shared);
        shared.presence.set(Gap::Unknown, true);
        Ok(Mirror { shared, side, missing })
    }

    /// Mirrors until `shutdown`, then commits what Redis had done until then. The parts share one thread:
    /// call it on a current-thread runtime of its own.
    pub async fn run(self, shutdown: CancellationToken) {
        let Mirror { shared, side, missing } = self;
        let evictions = tokio::spawn(evictions::keep(Arc::clone(&shared), side.clone()));
        let warm = tokio::spawn(warm::serve(Arc::clone(&shared), side.clone()));
        let recall = tokio::spawn(recall::serve(Arc::clone(&shared), side.clone(), missing));
        let side = SidePool::new(side, &shared.config.redis);
        let received = CancellationToken::new();
        let ending = tokio::spawn(ending::wait(
            Arc::clone(&shared),
            side.clone(),
            shutdown.clone(),
            received.clone(),
        ));
        let link = tokio::spawn(link::keep(Arc::clone(&shared), side.clone()));
        let watch = tokio::spawn(watch::watch(Arc::clone(&shared)));
        let applier = tokio::select! {
            applier = apply::Applier::start(Arc::clone(&shared), side, received.clone()) => Some(applier),
            () = received.cancelled() => None,
        };
        if let Some(mut applier) = applier {
            applier.run().await;
        }
        ending.abort();
        link.abort();
        watch.abort();
        recall.abort();
        warm.abort();
        evictions.abort();
        shared.gate.open();
    }
}
