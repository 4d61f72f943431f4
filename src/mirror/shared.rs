use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::evictions::Evictions;
use super::log::Log;
use super::others::Others;
use super::recall::Recalls;
use super::spool::SpoolError;
use super::standby::Standby;
use crate::config::Config;
use crate::store::Position;
use crate::strategy::{
    CommitGate, Condition, Families, Gap, MirrorState, Presence, Status, Witness,
};
use crate::tenure::Tenure;

/// What the parts of the mirror share.
pub struct Shared {
    pub config: Arc<Config>,
    pub families: Families,
    pub gate: Arc<CommitGate>,
    pub tenure: Arc<Tenure>,
    pub others: Others,
    pub status: Arc<Status>,
    pub presence: Arc<Presence>,
    pub evictions: Evictions,
    pub recalls: Recalls,
    /// Set while another proxy mirrors.
    pub standby: Standby,
    pub log: Arc<Log>,
    /// True once PostgreSQL has told the position to go on from.
    pub ready: watch::Sender<bool>,
    /// The position in the log has changed under the link: it has to attach anew.
    pub relink: Notify,
    /// Redis lacks keys since PostgreSQL led a resync.
    pub warm: Notify,
    /// PostgreSQL leads: it has taken over from Redis, and has not given back.
    pub led: Arc<Notify>,
    /// Redis was flushed while clients wrote: what it has of the keys that it lacks according to
    /// PostgreSQL may have been begun anew.
    pub begun_anew: AtomicBool,
    /// Whether the link follows the stream, and if not, why.
    link: Mutex<(bool, String)>,
    /// A snapshot is being taken over.
    syncing: AtomicBool,
    /// Why PostgreSQL is away.
    outage: Mutex<Option<String>>,
    /// The position that PostgreSQL has.
    stored: Mutex<Option<Position>>,
    /// Receipt of the oldest command that is not committed, Unix time in ms; 0: there is none.
    oldest_at_ms: AtomicI64,
}

impl Shared {
    pub fn new(
        config: Arc<Config>,
        gate: Arc<CommitGate>,
        tenure: Arc<Tenure>,
        status: Arc<Status>,
        presence: Arc<Presence>,
        log: Log,
    ) -> Shared {
        Shared {
            families: Families::new(config.family.clone()),
            evictions: Evictions::new(gate.channel()),
            recalls: Recalls::default(),
            standby: Standby::default(),
            config,
            gate,
            tenure,
            others: Others::default(),
            status,
            presence,
            log: Arc::new(log),
            ready: watch::Sender::new(false),
            relink: Notify::new(),
            warm: Notify::new(),
            led: Arc::default(),
            begun_anew: AtomicBool::new(false),
            link: Mutex::new((false, "starting".into())),
            syncing: AtomicBool::new(false),
            outage: Mutex::new(None),
            stored: Mutex::new(None),
            oldest_at_ms: AtomicI64::new(0),
        }
    }

    /// The position that PostgreSQL has; `None`: nothing was ever mirrored.
    pub fn stored(&self) -> Option<Position> {
        self.stored.lock().clone()
    }

    pub fn set_stored(&self, position: Option<Position>) {
        if position.is_some() {
            self.status.mirror.synced.store(true, Ordering::Relaxed);
        }
        *self.stored.lock() = position;
    }

    pub fn set_oldest(&self, at_ms: Option<i64>) {
        self.oldest_at_ms.store(at_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// Receipt of the oldest command that is not committed, Unix time in ms.
    pub fn oldest_at_ms(&self) -> Option<i64> {
        let known = Some(self.oldest_at_ms.load(Ordering::Relaxed)).filter(|at| *at > 0);
        known.or_else(|| self.log.oldest_at_ms())
    }

    /// Waits between two attempts; ends early when the operator asks for one.
    pub async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.status.reconnect.notified() => {}
        }
    }

    /// PostgreSQL does not take the stream; says so once per outage. `condition`: what that says of it.
    pub fn postgres_gone(&self, condition: Option<Condition>, error: &dyn Display) {
        if let Some(condition) = condition {
            self.status.postgres.note(Witness::Work, condition, error.to_string());
        }
        let first = {
            let mut outage = self.outage.lock();
            outage.replace(error.to_string()).is_none()
        };
        self.status.postgres_up.store(false, Ordering::Relaxed);
        // Redis alone serves now, with what it has.
        self.presence.set(Gap::Unknown, false);
        if first {
            tracing::warn!(%error, "PostgreSQL is away; the replication stream is kept until it is back");
        }
        self.refresh();
    }

    /// PostgreSQL lets us in. When it took no writes that proves nothing yet: see [`Shared::postgres_proven`].
    pub fn postgres_back(&self) {
        if !self.status.postgres.condition().0.refuses_writes() {
            self.postgres_proven();
        }
    }

    /// PostgreSQL is away, or has not shown yet that it is back.
    pub fn is_out(&self) -> bool {
        !self.status.postgres_up.load(Ordering::Relaxed) || self.outage.lock().is_some()
    }

    /// PostgreSQL takes the stream.
    pub fn postgres_proven(&self) {
        self.status.postgres_up.store(true, Ordering::Relaxed);
        self.status.postgres.well(Witness::Work);
        if self.outage.lock().take().is_some() {
            tracing::info!("PostgreSQL is back and takes the replication stream");
        }
        self.refresh();
    }

    /// The mirror has ended, and says nothing of anybody any more.
    pub fn over(&self) {
        self.status.mirror.set_state(MirrorState::Off, "");
        self.status.postgres.forget(Witness::Work);
    }

    /// PostgreSQL has noted what a flushed Redis lacks.
    pub fn refill_after_flush(&self) {
        self.begun_anew.store(true, Ordering::Relaxed);
        self.presence.set(Gap::Warming, true);
        self.warm.notify_one();
    }

    /// The link follows the stream, or does not, and why.
    pub fn set_link(&self, up: bool, reason: &str) {
        *self.link.lock() = (up, reason.to_owned());
        self.status.redis_up.store(up, Ordering::Relaxed);
        self.refresh();
    }

    /// A snapshot is being taken over. Barriers from before it do not come by any more: where it is of the `same`
    /// history, in which Redis has everything that waits for them, that is acknowledged, and otherwise given up.
    pub fn begin_snapshot(&self, same: bool) {
        self.syncing.store(true, Ordering::Relaxed);
        if !same {
            self.gate.leave_history();
        }
        self.gate.open();
        self.refresh();
    }

    /// The snapshot has been taken over, or could not be.
    pub fn end_snapshot(&self) {
        self.syncing.store(false, Ordering::Relaxed);
        self.refresh();
    }

    fn refresh(&self) {
        let (link_up, link_reason) = self.link.lock().clone();
        let outage = self.outage.lock().clone();
        let (state, reason) = match outage {
            Some(outage) => (MirrorState::Spooling, outage),
            None if self.syncing.load(Ordering::Relaxed) => (MirrorState::Syncing, String::new()),
            None if link_up => (MirrorState::Streaming, String::new()),
            None => (MirrorState::Connecting, link_reason),
        };
        self.status.mirror.set_state(state, reason);
    }

    /// The stretch that waits cannot be kept: what PostgreSQL misses comes by a full resync.
    pub fn lose_log(&self, error: &SpoolError) {
        tracing::error!(%error, "the waiting part of the replication stream is given up; a full resync will follow");
        let stored =
            self.stored().map(|position| (position.replid.as_str().into(), position.offset));
        if let Err(error) = self.log.restart(stored) {
            tracing::error!(%error, "the spool directory cannot be cleared");
        }
        self.relink.notify_one();
    }
}
