//! The commit gate: how `ack = "postgres"` waits for PostgreSQL.
//!
//! A connection to Redis that carries writes owns a [`BarrierSource`]. Behind the writes of one flush
//! it sends `PUBLISH <channel> <source>.<number>`; the message travels in the replication stream
//! behind those writes. When the mirror has committed past it, it calls [`CommitGate::commit`], and
//! whoever waits for that barrier or an earlier one of the source goes on.
//!
//! While the gate holds it is in a *period*; opening it (no mirror, resync, PostgreSQL gone) ends the
//! period, and closing it begins another. Who waits has a [`Ticket`]. Invariants:
//!
//! - A ticket names the period it was taken in and the barrier that its source issues next, so that
//!   barrier is issued in the period too, behind the write.
//! - A ticket is released by the commit of its barrier or a later one, or for good by the end of its
//!   period, which may give up what waits; by nothing else.
//! - A source's numbers grow by one, and what is committed never exceeds what was issued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

/// One barrier as it was seen in the replication stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub source: u64,
    pub number: u64,
}

impl Barrier {
    /// Parses the message of a barrier, `<source>.<number>` in decimal.
    pub fn parse(message: &[u8]) -> Option<Barrier> {
        let (source, number) = std::str::from_utf8(message).ok()?.split_once('.')?;
        Some(Barrier { source: source.parse().ok()?, number: number.parse().ok()? })
    }
}

/// What a reply waits for, at the source that it was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    period: u64,
    number: u64,
}

/// Shared by the mirror (which commits and opens) and all connections that carry writes.
#[derive(Debug)]
pub struct CommitGate {
    channel: String,
    /// Odd while write replies wait for PostgreSQL; opening and closing add one each.
    period: AtomicU64,
    /// The first and the last of the latest periods in a row that ended without a commit of what waited.
    failed: [AtomicU64; 2],
    /// It stays closed, whoever opens it.
    fast: AtomicBool,
    /// Writes are refused before they reach Redis.
    refusing: AtomicBool,
    /// How often it has changed who answers.
    turns: AtomicU64,
    /// How often Redis has left the history that the mirror follows.
    histories: AtomicU64,
    next_source: AtomicU64,
    sources: Mutex<HashMap<u64, Arc<Shared>>>,
}

/// What the gate and a source know of the source's barriers.
#[derive(Debug)]
struct Shared {
    progress: Mutex<Progress>,
    /// The highest number committed.
    committed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Progress {
    issued: u64,
    /// How many of them Redis has answered.
    answered: u64,
    /// Since when there is no progress though Redis has a barrier that the mirror has not committed, or a
    /// reply is there that waits for one.
    since: Option<Instant>,
    /// Another barrier is wanted behind those that are not committed.
    nudged: bool,
}

impl Ticket {
    /// For what is in no barrier's history.
    pub const NEVER: Ticket = Ticket { period: 0, number: u64::MAX };
}

impl CommitGate {
    /// A gate that holds nothing yet. `instance` tells this proxy's barriers from another's, and from
    /// those of a former process: both may still be in the stream.
    pub fn new(instance: &str) -> Arc<CommitGate> {
        Arc::new(CommitGate {
            channel: format!("__tandem:{instance}"),
            period: AtomicU64::new(0),
            failed: [AtomicU64::new(1), AtomicU64::new(0)],
            fast: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            histories: AtomicU64::new(0),
            next_source: AtomicU64::new(1),
            sources: Mutex::new(HashMap::new()),
        })
    }

    /// The channel that barriers are published on.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// True while replies to writes have to wait for a commit.
    pub fn holding(&self) -> bool {
        self.holding_period().is_some()
    }

    fn holding_period(&self) -> Option<u64> {
        Some(self.period.load(Ordering::Acquire)).filter(|period| period % 2 == 1)
    }

    /// From now on replies to writes wait for the mirror's commit.
    pub fn close(&self) {
        if self.holding() {
            return;
        }
        for source in self.sources.lock().values() {
            source.progress.lock().since = None;
        }
        self.period.fetch_or(1, Ordering::AcqRel);
    }

    /// Nobody answers, and what clients send meanwhile goes to whoever answers next: its replies wait for a commit, unless
    /// the gate is opened after [`CommitGate::let_go`].
    pub fn hold_fast(&self) {
        self.fast.store(true, Ordering::Release);
        self.close();
    }

    /// Somebody answers from now on, and the gate may be opened.
    pub fn let_go(&self) {
        self.fast.store(false, Ordering::Release);
    }

    /// Releases everything that is held, and holds nothing until [`CommitGate::close`]. Nothing happens
    /// between [`CommitGate::hold_fast`] and [`CommitGate::let_go`].
    pub fn open(&self) {
        if self.fast.load(Ordering::Acquire) {
            return;
        }
        let end = |period: u64| (period % 2 == 1).then_some(period + 1);
        if self.period.fetch_update(Ordering::AcqRel, Ordering::Acquire, end).is_err() {
            return;
        }
        for source in self.sources.lock().values() {
            source.progress.lock().since = None;
            // Nothing more is committed, but who waits has to look.
            source.committed.send_modify(|_| ());
        }
    }

    /// What waits is given up: its outcome is unknown. What comes later waits as before.
    pub fn give_up(&self) {
        let Some(period) = self.holding_period() else { return };
        if self.fast.load(Ordering::Acquire) {
            return;
        }
        let [first, last] = &self.failed;
        if last.load(Ordering::Acquire) + 2 != period {
            first.store(period, Ordering::Release);
        }
        // Said before the period ends: nobody may take its end for a commit.
        last.store(period, Ordering::Release);
        self.period.store(period + 2, Ordering::Release);
        for source in self.sources.lock().values() {
            source.progress.lock().since = None;
            source.committed.send_modify(|_| ());
        }
    }

    /// Redis has left the history in which what waits was done: barriers of another one tell nothing of it. What comes
    /// later waits as before.
    pub fn leave_history(&self) {
        self.histories.fetch_add(1, Ordering::AcqRel);
        self.give_up();
    }

    /// How often [`CommitGate::leave_history`] was called. What a command sent before that has done is not in the history
    /// of a barrier that is sent behind it.
    pub fn histories(&self) -> u64 {
        self.histories.load(Ordering::Acquire)
    }

    /// Somebody else answers from now on, who has all that will ever be committed of what Redis was sent: who waits for
    /// more than that, without a connection, has to look.
    pub fn turned(&self) {
        self.turns.fetch_add(1, Ordering::AcqRel);
        for source in self.sources.lock().values() {
            source.committed.send_modify(|_| ());
        }
    }

    /// How often [`CommitGate::turned`] was called.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// From now on writes are refused before they reach Redis, or taken again; true when that is news.
    pub fn refuse(&self, refuse: bool) -> bool {
        self.refusing.swap(refuse, Ordering::AcqRel) != refuse
    }

    /// True while PostgreSQL cannot commit writes and the configuration has them refused.
    pub fn refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Everything before these barriers is durable in PostgreSQL.
    pub fn commit(&self, barriers: &[Barrier]) {
        if barriers.is_empty() {
            return;
        }
        let sources = self.sources.lock();
        for barrier in barriers {
            if let Some(source) = sources.get(&barrier.source) {
                source.commit(barrier.number);
            }
        }
    }

    /// For how long Redis has had a barrier on which the mirror makes no progress: beyond what the
    /// mirror's own lag tells, this notices barriers that never reach the stream.
    pub fn stalled_for(&self) -> Duration {
        let sources = self.sources.lock();
        let since = sources.values().filter_map(|source| source.progress.lock().since).min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Has sources that have made no progress for `patience` issue another barrier: the news of the commit of one may
    /// have been lost.
    pub fn nudge(&self, patience: Duration) {
        for source in self.sources.lock().values() {
            let mut progress = source.progress.lock();
            if progress.since.is_some_and(|since| since.elapsed() >= patience) {
                progress.nudged = true;
                drop(progress);
                source.committed.send_modify(|_| ());
            }
        }
    }

    /// A place in the log for one connection that carries writes.
    pub fn source(self: &Arc<Self>) -> BarrierSource {
        let id = self.next_source.fetch_add(1, Ordering::Relaxed);
        let (committed, receiver) = watch::channel(0);
        let shared = Arc::new(Shared { progress: Mutex::default(), committed });
        self.sources.lock().insert(id, Arc::clone(&shared));
        BarrierSource { gate: Arc::clone(self), id, shared, receiver }
    }
}

impl Shared {
    fn commit(&self, number: u64) {
        let mut progress = self.progress.lock();
        // Anybody may publish on the channel; a number that was never issued releases nothing ahead.
        let number = number.min(progress.issued);
        let newer = self.committed.send_if_modified(|committed| {
            let newer = number > *committed;
            *committed = number.max(*committed);
            newer
        });
        if newer {
            progress.since = (progress.answered > number).then(Instant::now);
        }
    }
}

/// One connection's barriers. Dropping it takes it off the gate.
#[derive(Debug)]
pub struct BarrierSource {
    gate: Arc<CommitGate>,
    id: u64,
    shared: Arc<Shared>,
    receiver: watch::Receiver<u64>,
}

impl BarrierSource {
    pub fn gate(&self) -> &CommitGate {
        &self.gate
    }

    /// What the reply to a write that has been handed in waits for: the next barrier, which has to be
    /// issued behind the write. `None` while the gate is open.
    pub fn ticket(&self) -> Option<Ticket> {
        let period = self.gate.holding_period()?;
        Some(Ticket { period, number: self.shared.progress.lock().issued + 1 })
    }

    /// Issues the next barrier: the message to publish behind the writes.
    pub fn issue(&self) -> String {
        let mut progress = self.shared.progress.lock();
        progress.issued += 1;
        format!("{}.{}", self.id, progress.issued)
    }

    /// As [`BarrierSource::issue`], for who asks with [`BarrierSource::reached`].
    pub fn issue_numbered(&self) -> (u64, String) {
        let message = self.issue();
        (self.shared.progress.lock().issued, message)
    }

    /// True when the barrier of this number is committed, whether the gate holds or not.
    pub fn reached(&self, number: u64) -> bool {
        *self.receiver.borrow() >= number
    }

    /// True once after each [`CommitGate::nudge`] that was meant for this source.
    pub fn take_nudge(&self) -> bool {
        std::mem::take(&mut self.shared.progress.lock().nudged)
    }

    /// A reply is there already that waits for the barrier issued next.
    pub fn awaited(&self) {
        self.shared.progress.lock().since.get_or_insert_with(Instant::now);
    }

    /// Redis has answered the oldest barrier that it had not answered yet, by taking or refusing it.
    pub fn answered(&self, taken: bool) {
        let mut progress = self.shared.progress.lock();
        progress.answered += 1;
        if taken && progress.answered > *self.receiver.borrow() {
            progress.since.get_or_insert_with(Instant::now);
        }
    }

    /// The connection is gone: nobody waits for its barriers any more.
    pub fn retire(&self) {
        self.shared.progress.lock().since = None;
    }

    /// True when what waits with this ticket may go on.
    #[cfg(test)]
    fn released(&self, ticket: Ticket) -> bool {
        self.is_over(ticket) || self.committed(ticket)
    }

    /// True when the barrier of this ticket is committed.
    pub fn committed(&self, ticket: Ticket) -> bool {
        *self.receiver.borrow() >= ticket.number
    }

    /// True when the period of this ticket has ended.
    pub fn is_over(&self, ticket: Ticket) -> bool {
        self.gate.holding_period() != Some(ticket.period)
    }

    /// True when what waits with this ticket was given up before it was committed.
    pub fn given_up(&self, ticket: Ticket) -> bool {
        let [first, last] = &self.gate.failed;
        ticket.period <= last.load(Ordering::Acquire)
            && ticket.period >= first.load(Ordering::Acquire)
            && !self.committed(ticket)
    }

    /// Waits for releases beside the source, while the source itself stays usable.
    pub fn watcher(&self) -> Watcher {
        Watcher(self.receiver.clone())
    }
}

/// See [`BarrierSource::watcher`].
#[derive(Debug)]
pub struct Watcher(watch::Receiver<u64>);

impl Watcher {
    /// Resolves when something may have been released; false when the source is gone. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Drop for BarrierSource {
    fn drop(&mut self) {
        self.gate.sources.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
