use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::{Access, Registry};
use crate::config::Config;
use crate::failover::Switcher;
use crate::resp::RequestLimits;
use crate::strategy::{CommitGate, Families, Presence, Status};
use crate::sync::Jobs;
use crate::upstream::{Connector, ServerFacts};

/// What all workers share.
pub struct Shared {
    pub config: Config,
    pub limits: RequestLimits,
    pub access: Access,
    pub connector: Arc<Connector>,
    pub gate: Arc<CommitGate>,
    pub status: Arc<Status>,
    pub presence: Arc<Presence>,
    pub switcher: Switcher,
    pub jobs: Arc<Jobs>,
    pub families: Families,
    pub registry: Registry,
    pub facts: Arc<RwLock<ServerFacts>>,
    /// Set when the process is to end.
    pub shutdown: CancellationToken,
    start: Instant,
    /// End of a `CLIENT PAUSE`, in ms since `start`; 0: none.
    paused_until: AtomicU64,
}

impl Shared {
    pub fn new(
        config: Config,
        connector: Arc<Connector>,
        gate: Arc<CommitGate>,
        status: Arc<Status>,
        presence: Arc<Presence>,
        (switcher, jobs): (Switcher, Arc<Jobs>),
        shutdown: CancellationToken,
    ) -> Shared {
        Shared {
            limits: RequestLimits::from(&config.limits),
            access: Access::new(&config, connector.url()),
            families: Families::new(config.family.clone()),
            presence,
            switcher,
            jobs,
            config,
            connector,
            gate,
            status,
            registry: Registry::default(),
            facts: Arc::default(),
            shutdown,
            start: Instant::now(),
            paused_until: AtomicU64::new(0),
        }
    }

    /// The configuration has been read again: who has other rights now has to log in again.
    pub fn take_over_users(&self) {
        let before = self.access.set_users(self.config.now().users);
        for client in self.registry.all() {
            let name = client.user.lock().clone();
            if !client.peer.load(Ordering::Relaxed) && !self.access.keeps(&name, &before) {
                client.kill();
            }
        }
    }

    /// Remembers a `CLIENT PAUSE` of `ms` from now; 0 ends it. A longer one stays, as in Redis.
    pub fn pause(&self, ms: u64) {
        if ms == 0 {
            self.paused_until.store(0, Ordering::Relaxed);
        } else {
            let until = self.elapsed_ms().saturating_add(ms);
            self.paused_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// True while Redis may keep some clients waiting.
    pub fn paused(&self) -> bool {
        let until = self.paused_until.load(Ordering::Relaxed);
        until > 0 && self.elapsed_ms() < until
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
