//! `database_first`: what PostgreSQL has committed is brought to Redis, in order.
//!
//! Clients are answered by the engine, so nobody reads Redis while PostgreSQL is there. When it is gone,
//! Redis answers reads, provided that it has everything that was acknowledged. So this keeps account
//! of what Redis lacks:
//!
//!  - *the queue*: commands for commits that have landed ([`translate`]);
//!  - *owed*: keys that Redis has otherwise, to be sent whole ([`refill`]);
//!  - *doubts*: keys of a commit of which nobody knows whether it landed; they become owed when
//!    PostgreSQL is back;
//!  - *a refill* of everything, when Redis is another one than before, or was not followed to the end.
//!
//! Redis forgets nothing while its process lives (`run_id` of `INFO`), unless it evicts. A restarted
//! Redis is refilled.

mod adopt;
mod debts;
mod refill;
mod send;
mod streams;
mod translate;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

pub use adopt::LeadError;
pub use debts::Debts;
pub use send::OWN;
pub use translate::{Plan, Run};

use crate::engine::Db;
use crate::engine::delta::KeyId;
use crate::strategy::{Following, Status};
use crate::tenure::Tenure;

/// A key and the database it is in.
pub(super) type Name = (Db, Bytes);

/// Commands that wait, in bytes. Beyond that their keys are remembered instead.
const QUEUE_BYTES: usize = 64 << 20;
/// What a refill keeps waiting, in bytes.
const ENOUGH_BYTES: usize = 4 << 20;
/// Keys that are remembered one by one. Beyond that everything is sent anew.
const OWED_KEYS: usize = 1_000_000;

/// How far a refill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refill {
    None,
    /// Redis is to be emptied first.
    Due,
    /// Every key up to this id has been sent.
    Until(KeyId),
}

/// Why Redis follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `database_first`: it is there for when PostgreSQL is gone.
    Copy,
    /// Redis leads, and was gone: it gets the lead back when it has everything.
    Failover,
}

/// What Redis lacks of what PostgreSQL has.
pub(super) struct Follower {
    pub role: Role,
    /// What has changed since PostgreSQL took over.
    pub debts: Debts,
    /// Nothing is sent: changed keys are owed.
    reserved: Cell<bool>,
    /// Redis was being looked at, or told, when something happened that is not about single keys.
    upset: Cell<bool>,
    queue: RefCell<VecDeque<Run>>,
    queued_bytes: Cell<usize>,
    /// Commands sent and not yet answered.
    in_flight: Cell<usize>,
    owed: RefCell<BTreeSet<Name>>,
    doubts: RefCell<BTreeSet<Name>>,
    refill: Cell<Refill>,
    /// Keys sent by the refill so far.
    refilled: Cell<u64>,
    not_before: Cell<Instant>,
    /// The process that is followed; empty until Redis was first reached.
    run_id: RefCell<String>,
    /// Redis has evicted keys: it is no copy any more.
    evicted: Cell<bool>,
    connected: Cell<bool>,
    /// There is something to send.
    work: Notify,
    /// The writer's number in PostgreSQL as of the last period; 0: there was none.
    epoch: Cell<i64>,
    /// Something was sent: there is room, or an end.
    progress: Notify,
    tenure: Arc<Tenure>,
    status: Arc<Status>,
}

impl Follower {
    pub fn new(tenure: Arc<Tenure>, status: Arc<Status>, role: Role) -> Follower {
        Follower {
            role,
            debts: Debts::default(),
            reserved: Cell::new(role == Role::Failover),
            upset: Cell::new(false),
            queue: RefCell::default(),
            queued_bytes: Cell::new(0),
            in_flight: Cell::new(0),
            owed: RefCell::default(),
            doubts: RefCell::default(),
            refill: Cell::new(Refill::None),
            refilled: Cell::new(0),
            not_before: Cell::new(Instant::now()),
            run_id: RefCell::default(),
            evicted: Cell::new(false),
            connected: Cell::new(false),
            epoch: Cell::new(0),
            work: Notify::new(),
            progress: Notify::new(),
            tenure,
            status,
        }
    }

    /// What was planned has been committed.
    pub fn committed(&self, plan: Plan) {
        if self.reserved.get() {
            if plan.runs.iter().any(|run| run.key.is_none()) {
                self.upset.set(true);
            }
            // Otherwise the debts tell.
            if self.debts.all() {
                let keys = plan.runs.into_iter().filter_map(|run| Some((run.db, run.key?)));
                self.owe(plan.owed.into_iter().chain(keys));
            }
            return;
        }
        self.owe(plan.owed);
        for (a, b) in plan.runs.iter().filter_map(|run| run.swaps) {
            let swapped = also_swapped(self.owed.borrow().iter(), a, b);
            self.owe(swapped);
        }
        let owed = self.owed.borrow();
        // A whole value, which is loaded later, has these changes in it.
        let told =
            |run: &Run| run.key.as_ref().is_none_or(|key| !owed.contains(&(run.db, key.clone())));
        let runs = plan.runs.into_iter().filter(told).collect();
        drop(owed);
        self.enqueue(runs);
        self.report();
    }

    /// Nobody knows whether what was planned has been committed.
    pub fn doubt(&self, plan: Plan) {
        let mut doubts = self.doubts.borrow_mut();
        for run in plan.runs {
            match run.key {
                Some(key) => drop(doubts.insert((run.db, key))),
                None => self.lacks_all(),
            }
        }
        doubts.extend(plan.owed);
    }

    fn enqueue(&self, runs: Vec<Run>) {
        if runs.is_empty() {
            return;
        }
        let bytes: usize = runs.iter().map(weight).sum();
        self.queued_bytes.set(self.queued_bytes.get() + bytes);
        self.queue.borrow_mut().extend(runs);
        if self.queued_bytes.get() > QUEUE_BYTES {
            self.collapse();
        }
        self.work.notify_one();
    }

    fn owe(&self, names: impl IntoIterator<Item = Name>) {
        let mut owed = self.owed.borrow_mut();
        owed.extend(names);
        if owed.len() > OWED_KEYS {
            owed.clear();
            self.lacks_all();
        }
    }

    /// Single keys do not tell what Redis lacks.
    fn lacks_all(&self) {
        match self.role {
            Role::Copy => self.refill.set(Refill::Due),
            Role::Failover => {
                self.upset.set(true);
                self.debts.set_all();
            }
        }
    }

    /// Remembers the keys instead of the commands.
    fn collapse(&self) {
        let runs = self.queue.take();
        self.queued_bytes.set(0);
        runs.iter().for_each(|run| self.owe_for(run, std::iter::empty()));
    }

    /// The command has not, or perhaps not, reached Redis, in contrast to those after it.
    fn owe_for<'a>(&self, run: &Run, after: impl Iterator<Item = &'a Run>) {
        let Some(key) = &run.key else { return self.lacks_all() };
        let mut names = vec![(run.db, key.clone())];
        for (a, b) in after.filter_map(|run| run.swaps) {
            let swapped = also_swapped(names.iter(), a, b);
            names.extend(swapped);
        }
        self.owe(names);
    }

    /// PostgreSQL leads as writer number `epoch`; `run_id` is the Redis that has everything, if any has.
    fn begin(&self, epoch: i64, run_id: Option<&str>) {
        let first = self.epoch.replace(epoch);
        let same = run_id.is_some_and(|known| {
            let mut now = self.run_id.borrow_mut();
            if now.is_empty() {
                known.clone_into(&mut now);
            }
            *now == *known
        });
        if first != 0 && first + 1 == epoch {
            // Nobody else has written.
            self.owe(self.doubts.take());
        } else {
            self.start_over();
            if same {
                // Whoever led meanwhile has brought it up.
                self.refill.set(Refill::None);
            }
        }
        self.work.notify_one();
    }

    /// The Redis that has everything.
    pub fn followed(&self) -> Option<String> {
        self.is_whole().then(|| self.run_id.borrow().clone())
    }

    pub async fn progress(&self) {
        self.progress.notified().await;
    }

    /// True when there is room for no more.
    fn is_full(&self) -> bool {
        self.queued_bytes.get() > ENOUGH_BYTES
    }

    /// Redis may hold anything: everything is sent anew.
    fn start_over(&self) {
        self.queue.take();
        self.queued_bytes.set(0);
        self.owed.take();
        self.doubts.take();
        self.refill.set(Refill::Due);
    }

    /// True when Redis has everything that was acknowledged.
    pub fn is_whole(&self) -> bool {
        self.is_drained()
            && self.refill.get() == Refill::None
            && self.owed.borrow().is_empty()
            && !self.evicted.get()
            && self.connected.get()
            && !self.run_id.borrow().is_empty()
            // Until PostgreSQL has led, nobody knows what Redis lacks.
            && self.epoch.get() != 0
    }

    /// True when Redis has everything that it lacked, whatever it may evict.
    pub fn is_level(&self) -> bool {
        self.is_drained()
            && self.refill.get() == Refill::None
            && self.owed.borrow().is_empty()
            && self.connected.get()
            && !self.reserved.get()
    }

    /// From now on Redis is told: first the values of these keys, then what changes.
    pub fn release(&self, names: impl IntoIterator<Item = Name>) {
        self.reserved.set(false);
        self.owe(names);
        self.progress.notify_waiters();
        self.work.notify_one();
    }

    /// Redis has this key otherwise, if it has been told of it at all.
    pub fn tell_again(&self, name: &Name) {
        if !self.reserved.get() {
            self.release([name.clone()]);
        }
    }

    /// True when Redis has to be looked at as a whole again.
    pub fn is_upset(&self) -> bool {
        self.upset.get()
    }

    /// Nothing is sent any more.
    pub fn reserve(&self) {
        self.reserved.set(true);
        self.upset.set(false);
        self.connected.set(false);
        self.queue.take();
        self.queued_bytes.set(0);
        self.owed.take();
        self.refill.set(Refill::None);
        self.report();
    }

    fn is_drained(&self) -> bool {
        self.queue.borrow().is_empty() && self.in_flight.get() == 0
    }

    /// Returns when the queue is empty, or Redis is not there to take it.
    pub async fn drained(&self) {
        while !self.is_drained() && self.connected.get() {
            self.progress.notified().await;
        }
    }

    /// Tells the operator.
    fn report(&self) {
        let following = match () {
            () if !self.connected.get() => Following::Away,
            () if self.refill.get() != Refill::None => Following::Refilling,
            () if self.evicted.get() => Following::Evicting,
            () if self.owed.borrow().is_empty() && self.is_drained() => Following::Whole,
            () => Following::Behind,
        };
        let queued = self.queued_bytes.get() as u64;
        self.status.follower.set(following, queued, self.owed.borrow().len() as u64);
    }
}

/// Where keys of these names are after two databases were swapped.
fn also_swapped<'a>(names: impl Iterator<Item = &'a Name>, a: Db, b: Db) -> Vec<Name> {
    let other = |db: Db| if db == a { b } else { a };
    let concerned = names.filter(|(db, _)| *db == a || *db == b);
    concerned.map(|(db, key)| (other(*db), key.clone())).collect()
}

/// Memory that a waiting command takes, roughly, in bytes.
fn weight(run: &Run) -> usize {
    run.command
        .args_iter()
        .map(|arg| match arg {
            bb8_redis::redis::Arg::Simple(bytes) => bytes.len() + 16,
            _ => 16,
        })
        .sum::<usize>()
        + 128
}
