//! The applier: takes the log, runs it in the engine and commits it to PostgreSQL in batches.
//!
//! While one batch is being committed the next one is being run, and grows: that is the group
//! commit. A batch is never a part of a source transaction, and carries the replication position
//! that it reaches. When PostgreSQL fails, what is not committed goes back into the log, and the
//! engine starts again from the position that PostgreSQL has.

mod error;
mod flush;
mod inspect;
mod plan;
mod recall;
mod reread;
mod restore;
mod route;
mod run;
mod snapshot;
mod start;
mod withheld;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use error::ApplyError;
use plan::{Batch, Passed, Session, barrier_of};
pub use plan::{PASS_OVER, recall_message};
use reread::Rereads;
use withheld::{Released, Withheld};

use super::Shared;
use super::log::{Entry, Received};
use super::snapshot::Snapshot;
use crate::engine::{Expiry, Keyspace};
use crate::store::{Commit, Flushed, Position, Store, StoreError};
use crate::strategy::Barrier;
use crate::traces;
use crate::upstream::{Backoff, SidePool};

/// How often a position is written when nothing but the position has changed.
const IDLE_POSITION: Duration = Duration::from_secs(1);
/// Commands that are run before commits are looked after again.
const RUN_COMMANDS: usize = 4096;

/// How long PostgreSQL may take for the last changes when the process ends.
const DRAIN: Duration = Duration::from_secs(8);
/// How often it is asked whether the process ends meanwhile.
const TICK: Duration = Duration::from_millis(100);

/// Unix time in ms.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A commit under way, and what has to be done again if it fails.
struct InFlight {
    task: JoinHandle<Result<(), StoreError>>,
    received: Vec<Received>,
    released: Released,
    position: Position,
    /// The number of the changes, for the keyspace.
    seq: u64,
    began: Instant,
    /// Redis was flushed alone: it is filled when this has been committed.
    refill: bool,
}

pub struct Applier {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    store: Arc<Store>,
    side: SidePool,
    keyspace: Keyspace,
    session: Session,
    rereads: Rereads,
    /// Replication id of the commands being applied.
    lineage: Arc<str>,
    /// What PostgreSQL has; `None` before the first snapshot.
    position: Option<Position>,
    /// Offset and database reached by commands without effect, ahead of `position`.
    reached: i64,
    position_written: Instant,
    /// Taken from the log and not looked at yet.
    taken: VecDeque<Entry>,
    /// The beginning of a source transaction whose end has not come yet.
    partial: Batch,
    /// When the oldest command of the batch that is being run was received, Unix time in ms.
    running_at_ms: Option<i64>,
    /// Run and not yet committed.
    open: Batch,
    in_flight: Option<InFlight>,
    /// Databases that were flushed in Redis alone, by commands of `open`.
    flushed: Vec<Flushed>,
    withheld: Withheld,
    committed_seq: u64,
    /// Between attempts to go on, until a commit succeeds: a server that lets us in may still take nothing.
    backoff: Backoff,
}

impl Applier {
    /// Applies the log until `shutdown`, then commits what has been received: true when PostgreSQL has it.
    /// Not `patiently`, it has [`DRAIN`] for that.
    pub async fn run(&mut self, patiently: impl Fn() -> bool) -> bool {
        let shutdown = self.shutdown.clone();
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
            while patiently() {
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::select! {
            drained = self.apply() => drained,
            // As after a crash: what is in the spool and in PostgreSQL fits together.
            () = late => {
                tracing::warn!(
                    "PostgreSQL has not taken the last changes within {DRAIN:?}: they follow after the next start"
                );
                false
            }
        }
    }

    async fn apply(&mut self) -> bool {
        let shutdown = self.shutdown.clone();
        while !shutdown.is_cancelled() {
            // A batch that has begun to run is run to its end: half of it is in the keyspace.
            if let Err(error) = self.step().await {
                tokio::select! {
                    () = self.recover(error) => {}
                    () = shutdown.cancelled() => return false,
                }
            }
        }
        if let Err(error) = self.drain().await {
            tracing::warn!(%error, "the last changes wait in the spool");
            self.spill();
            return false;
        }
        true
    }

    /// Commits everything that has been received.
    async fn drain(&mut self) -> Result<(), ApplyError> {
        while self.take_some().await? {}
        self.settle().await?;
        self.commit(true).await?;
        self.settle().await
    }

    async fn step(&mut self) -> Result<(), ApplyError> {
        let took = self.take_some().await?;
        if self.in_flight.as_ref().is_some_and(|flight| flight.task.is_finished()) {
            self.settle().await?;
        }
        if self.in_flight.is_none() && !self.open.received.is_empty() {
            self.commit(false).await?;
        }
        if took {
            return Ok(());
        }
        let log = Arc::clone(&self.shared.log);
        let shutdown = self.shutdown.clone();
        match &mut self.in_flight {
            Some(flight) => {
                let full = self.open.received.len() >= self.shared.config.mirror.batch_commands
                    || self.open.bytes >= self.shared.config.mirror.batch_bytes;
                tokio::select! {
                    result = &mut flight.task => {
                        let result = result.map_err(|_| ApplyError::Panicked)?;
                        return self.landed(result);
                    }
                    () = log.appended.notified(), if !full => {}
                    () = shutdown.cancelled() => {}
                }
            }
            None => {
                tokio::select! {
                    () = log.appended.notified() => {}
                    () = tokio::time::sleep(IDLE_POSITION) => self.commit(true).await?,
                    () = shutdown.cancelled() => {}
                }
            }
        }
        Ok(())
    }

    /// Takes entries from the log and runs them; false when there is nothing to take now.
    async fn take_some(&mut self) -> Result<bool, ApplyError> {
        let mirror = &self.shared.config.mirror;
        let (max_count, max_bytes) = (mirror.batch_commands, mirror.batch_bytes);
        if self.open.received.len() >= max_count || self.open.bytes >= max_bytes {
            return Ok(false);
        }
        let max_count = max_count.min(RUN_COMMANDS);
        if self.taken.is_empty() {
            let mut entries = Vec::new();
            self.shared.log.take(max_count, max_bytes, &mut entries)?;
            self.taken.extend(entries);
        }
        if self.taken.is_empty() {
            return Ok(false);
        }
        let mut fresh = std::mem::take(&mut self.partial);
        while let Some(entry) = self.taken.pop_front() {
            match entry {
                Entry::Command(command) if self.is_behind(command.end_offset) => {
                    self.release_behind(&command);
                }
                Entry::Command(command) => {
                    self.session.add(&mut fresh, command);
                    let full = fresh.received.len() >= max_count || fresh.inspection.is_some();
                    if self.session.at_boundary() && full {
                        break;
                    }
                }
                other if self.session.at_boundary() && !fresh.received.is_empty() => {
                    self.taken.push_front(other);
                    break;
                }
                Entry::Lineage(replid) => {
                    self.partial = fresh;
                    self.change_lineage(replid).await?;
                    return Ok(true);
                }
                Entry::Snapshot(snapshot) => {
                    self.take_snapshot(*snapshot).await?;
                    return Ok(true);
                }
            }
        }
        if !self.session.at_boundary() {
            self.partial = fresh;
            return Ok(true);
        }
        self.running_at_ms = fresh.oldest_at_ms();
        self.note_oldest();
        let result = self.run_batch(&fresh).await;
        self.running_at_ms = None;
        let inspection = fresh.inspection;
        match result {
            Ok(()) => self.open.append(fresh),
            // It has not reached the store: it goes back into the log with the rest.
            Err(_) => self.partial = fresh,
        }
        result?;
        if let Some(number) = inspection {
            self.inspect(number).await?;
        }
        Ok(true)
    }

    /// True for commands that PostgreSQL has already: they come again after a restart.
    fn is_behind(&self, end_offset: i64) -> bool {
        self.position.as_ref().is_some_and(|position| end_offset <= position.offset)
    }

    /// Another proxy, or a former process, has committed past this command: so has what waits for it.
    fn release_behind(&mut self, command: &Received) {
        let Some(barrier) = barrier_of(command, self.shared.gate.channel()) else { return };
        if self.in_flight.is_none() {
            let released = self.withheld.pass(vec![barrier], &self.rereads);
            self.withheld.landed();
            self.acknowledge(&released.barriers);
        }
    }

    /// Everything before these barriers is in PostgreSQL.
    fn acknowledge(&self, barriers: &[Passed]) {
        let own = barriers.iter().filter(|passed| passed.of.is_none());
        let own: Vec<Barrier> = own.map(|passed| passed.barrier).collect();
        self.shared.gate.commit(&own);
        for passed in barriers {
            if let Some(channel) = &passed.of {
                self.shared.others.tell(channel, passed.barrier);
                self.shared.presence.hear_of_other();
            }
        }
    }

    async fn change_lineage(&mut self, replid: Arc<str>) -> Result<(), ApplyError> {
        if self.lineage == replid {
            return Ok(());
        }
        self.settle().await?;
        self.commit(true).await?;
        self.settle().await?;
        self.lineage = replid;
        *self.shared.status.mirror.replid.write() = self.lineage.to_string();
        self.position_written = Instant::now() - IDLE_POSITION;
        Ok(())
    }

    /// Starts to commit what was run. Nothing may be in flight. Without changes only barriers are
    /// released; the position is then written now and then, or when `force` is set.
    async fn commit(&mut self, force: bool) -> Result<(), ApplyError> {
        let open = std::mem::take(&mut self.open);
        let released = self.withheld.pass(open.barriers, &self.rereads);
        let (delta, seq) = self.keyspace.take_delta();
        let (rereads_added, rereads_done) = self.rereads.take_changes();
        let flushed = std::mem::take(&mut self.flushed);
        let refill = !flushed.is_empty();
        let reached = if open.received.is_empty() { self.reached } else { open.end_offset };
        self.reached = self.reached.max(reached);
        let Some(durable) = &self.position else { return Ok(()) };
        let position = Position {
            replid: self.lineage.to_string(),
            offset: self.reached,
            db: self.session.db,
        };
        let only_position =
            delta.is_empty() && rereads_added.is_empty() && rereads_done.is_empty() && !refill;
        let moved = *durable != position || self.shared.is_out();
        if only_position && !(moved && (force || self.position_written.elapsed() >= IDLE_POSITION))
        {
            self.withheld.landed();
            self.acknowledge(&released.barriers);
            self.applied(self.reached);
            return Ok(());
        }
        self.position_written = Instant::now();
        let commit = Commit {
            delta,
            position: Some(position.clone()),
            rereads_added,
            rereads_done,
            flushed,
            ..Commit::default()
        };
        let store = Arc::clone(&self.store);
        let task = tokio::spawn(async move { store.persist(&commit).await });
        let (received, began) = (open.received, Instant::now());
        self.in_flight = Some(InFlight { task, received, released, position, seq, began, refill });
        self.note_oldest();
        self.keyspace.sweep(self.shared.config.mirror.cache_bytes, self.committed_seq);
        Ok(())
    }

    /// Waits for the commit under way.
    async fn settle(&mut self) -> Result<(), ApplyError> {
        let Some(flight) = &mut self.in_flight else { return Ok(()) };
        let result = (&mut flight.task).await.map_err(|_| ApplyError::Panicked)?;
        self.landed(result)
    }

    /// The commit under way has ended.
    fn landed(&mut self, result: Result<(), StoreError>) -> Result<(), ApplyError> {
        if let Some(flight) = &self.in_flight {
            traces::record("mirror commit", flight.began.elapsed(), result.is_ok(), || {
                let commands = flight.received.len() as i64;
                let barriers = flight.released.barriers.len() as i64;
                [("tandem.commands", commands.into()), ("tandem.barriers", barriers.into())]
            });
        }
        result?;
        let Some(flight) = self.in_flight.take() else { return Ok(()) };
        self.committed_seq = flight.seq;
        self.backoff.reset();
        if self.shared.is_out() {
            self.shared.postgres_proven();
        }
        let mirror = &self.shared.status.mirror;
        mirror.commits.fetch_add(1, Ordering::Relaxed);
        mirror.effects.fetch_add(flight.received.len() as u64, Ordering::Relaxed);
        mirror.commit_time.record_duration(flight.began.elapsed());
        mirror.batches.record(flight.received.len() as u64);
        if flight.refill {
            self.shared.refill_after_flush();
        }
        self.shared.log.committed(flight.position.offset)?;
        self.withheld.landed();
        self.acknowledge(&flight.released.barriers);
        let offset = flight.position.offset;
        self.shared.set_stored(Some(flight.position.clone()));
        self.position = Some(flight.position);
        self.applied(offset);
        Ok(())
    }

    fn applied(&self, offset: i64) {
        self.shared.status.mirror.applied.store(offset, Ordering::Relaxed);
        self.note_oldest();
    }

    /// Says since when the oldest command that has left the log waits for its commit.
    fn note_oldest(&self) {
        let flight = self.in_flight.as_ref().and_then(|flight| flight.received.first());
        let oldest = flight.map(|first| first.at_ms).or_else(|| self.open.oldest_at_ms());
        self.shared.set_oldest(oldest.or(self.running_at_ms));
    }

    /// Puts everything that is not committed back into the log, on disk.
    fn spill(&mut self) {
        let mut uncommitted = Vec::new();
        let mut released = Released::default();
        if let Some(flight) = self.in_flight.take() {
            flight.task.abort();
            released = flight.released;
            uncommitted.extend(flight.received);
        }
        self.withheld.undo(released);
        // It is seen again.
        self.flushed.clear();
        for batch in [&mut self.open, &mut self.partial] {
            uncommitted.append(&mut std::mem::take(batch).received);
        }
        let mut rest = VecDeque::new();
        for entry in std::mem::take(&mut self.taken) {
            match entry {
                Entry::Command(command) if rest.is_empty() => uncommitted.push(command),
                other => rest.push_back(other),
            }
        }
        self.shared.set_oldest(None);
        let begin = self.position.as_ref().map_or(0, |position| position.offset);
        if let Err(error) =
            self.shared.log.spill(&self.lineage, begin, uncommitted, rest, self.reached)
        {
            self.shared.lose_log(&error);
        }
    }

    async fn take_snapshot(&mut self, snapshot: Snapshot) -> Result<(), ApplyError> {
        // What was run before is superseded by the snapshot.
        self.settle().await?;
        self.open = Batch::default();
        self.partial = Batch::default();
        snapshot::load(self, snapshot).await
    }

    /// A keyspace that knows nothing yet of what PostgreSQL has.
    fn fresh_keyspace(next_id: i64, empty: bool) -> Keyspace {
        Keyspace::new(next_id, empty, Expiry::ByLog, next_id.unsigned_abs())
    }
}
