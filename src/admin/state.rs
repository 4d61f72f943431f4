use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::backends::Backends;
use super::rates::Rates;
use super::{AdminError, Subject};
use crate::config::Config;
use crate::failover::Switcher;
use crate::log::LogLevel;
use crate::strategy::{MirrorState, Presence, Status};
use crate::sync::Syncer;

/// What all handlers share.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    subject: Subject,
    backends: Backends,
    rates: Rates,
    syncer: Arc<Syncer>,
    ready: AtomicBool,
    stopping: CancellationToken,
}

impl App {
    pub fn new(subject: Subject, stopping: CancellationToken) -> Result<App, AdminError> {
        let backends =
            Backends::new(&subject.config, &subject.connector, Arc::clone(&subject.status))?;
        let (rates, ready) = (Rates::default(), AtomicBool::new(false));
        let syncer = Arc::new(Syncer::new(
            Arc::clone(&subject.config),
            &subject.connector.to_redis(),
            Arc::clone(&subject.status),
            Arc::clone(&subject.gate),
            Arc::clone(&subject.presence),
            Arc::clone(&subject.jobs),
        ));
        Ok(App(Arc::new(Inner { subject, backends, rates, syncer, ready, stopping })))
    }

    pub fn config(&self) -> &Config {
        &self.0.subject.config
    }

    pub fn status(&self) -> &Status {
        &self.0.subject.status
    }

    pub fn log_level(&self) -> &LogLevel {
        &self.0.subject.log_level
    }

    pub fn backends(&self) -> &Backends {
        &self.0.backends
    }

    pub fn syncer(&self) -> &Arc<Syncer> {
        &self.0.syncer
    }

    pub fn switcher(&self) -> &Switcher {
        &self.0.subject.switcher
    }

    pub fn rates(&self) -> &Rates {
        &self.0.rates
    }

    pub fn presence(&self) -> &Presence {
        &self.0.subject.presence
    }

    /// For how long nobody has answered clients, all changes of who does together.
    pub fn unanswered(&self) -> Duration {
        self.0.subject.connector.route().map_or(Duration::ZERO, |route| route.held_for())
    }

    /// True while replies to writes wait for PostgreSQL.
    pub fn holding(&self) -> bool {
        self.0.subject.gate.holding()
    }

    /// True from when clients could be served for the first time: Redis was reachable, and the mirror
    /// had taken the first snapshot or found PostgreSQL away.
    pub fn is_ready(&self) -> bool {
        let status = self.status();
        let follows = match status.mirror.state() {
            MirrorState::Streaming | MirrorState::Spooling => true,
            MirrorState::Off => !status.strategy().has_mirror(),
            MirrorState::Connecting | MirrorState::Syncing => false,
        };
        if follows && status.serves() {
            self.0.ready.store(true, Ordering::Relaxed);
        }
        self.0.ready.load(Ordering::Relaxed)
    }

    pub fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    /// Keeps the rates, until it is dropped.
    pub async fn watch_rates(self) {
        self.rates().watch(self.status()).await;
    }
}
