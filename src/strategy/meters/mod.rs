//! What the data path counts. Every worker counts for itself, so that no two threads meet on a
//! counter; who looks adds them up.

mod histogram;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

pub use histogram::{Buckets, Histogram, SIZES};

use crate::commands::Group;

/// Errors that the proxy itself answers or ends a client with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Fault {
    /// Redis cannot be reached; the command was not run.
    Unavailable,
    /// Redis does not let the client's user in.
    Refused,
    /// Redis went away before it answered.
    UnknownOutcome,
    /// What a client sent is not RESP, or beyond the limits.
    Protocol,
    /// One client more than `listen.max_clients`.
    TooManyClients,
    /// PostgreSQL is away and `strategy.on_unavailable` refuses writes.
    WriteRefused,
}

impl Fault {
    pub const ALL: [Fault; 6] = [
        Fault::Unavailable,
        Fault::Refused,
        Fault::UnknownOutcome,
        Fault::Protocol,
        Fault::TooManyClients,
        Fault::WriteRefused,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Unavailable => "unavailable",
            Fault::Refused => "refused",
            Fault::UnknownOutcome => "unknown_outcome",
            Fault::Protocol => "protocol",
            Fault::TooManyClients => "too_many_clients",
            Fault::WriteRefused => "write_refused",
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct Meter {
    commands: [AtomicU64; Group::ALL.len()],
    faults: [AtomicU64; Fault::ALL.len()],
    /// Connections to Redis that are open: shared ones, and those that one client has.
    pub lanes: AtomicU64,
    pub pins: AtomicU64,
    /// From a request's arrival to its answer, the wait for PostgreSQL not included; of reads and of
    /// what may write. One command at a time is timed on each lane.
    pub reads: Histogram,
    pub writes: Histogram,
    /// The proxy's part of that, and Redis's with the way there and back.
    pub own: Histogram,
    pub redis: Histogram,
    /// From the answer to a write until PostgreSQL has committed it.
    pub commit_waits: Histogram,
}

impl Meter {
    pub fn count(&self, group: Group, commands: u64) {
        self.commands[group as usize].fetch_add(commands, Ordering::Relaxed);
    }

    pub fn fault(&self, fault: Fault, times: u64) {
        self.faults[fault as usize].fetch_add(times, Ordering::Relaxed);
    }

    /// One command that was timed on its way: `total` of it all, `redis` of that for Redis.
    pub fn timed(&self, writes: bool, total: Duration, redis: Duration) {
        let class = if writes { &self.writes } else { &self.reads };
        class.record_duration(total);
        self.redis.record_duration(redis);
        self.own.record_duration(total.saturating_sub(redis));
    }
}

/// Commands on their way through one worker's loop, counted when the loop ends.
#[derive(Debug, Default)]
pub struct Tally([u32; Group::ALL.len()]);

impl Tally {
    pub fn add(&mut self, group: Group, commands: usize) {
        self.0[group as usize] += commands as u32;
    }

    /// Adds them to `meter`; how many there were.
    pub fn settle(&self, meter: &Meter) -> u64 {
        let counted = Group::ALL.into_iter().zip(self.0).filter(|(_, commands)| *commands > 0);
        counted.fold(0, |total, (group, commands)| {
            meter.count(group, u64::from(commands));
            total + u64::from(commands)
        })
    }
}

/// All workers' counters.
#[derive(Debug, Default)]
pub struct Meters {
    workers: RwLock<Vec<Arc<Meter>>>,
}

impl Meters {
    /// The counters of one more worker.
    pub fn add(&self) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        self.workers.write().push(Arc::clone(&meter));
        meter
    }

    pub fn commands(&self, group: Group) -> u64 {
        self.sum(|meter| meter.commands[group as usize].load(Ordering::Relaxed))
    }

    pub fn faults(&self, fault: Fault) -> u64 {
        self.sum(|meter| meter.faults[fault as usize].load(Ordering::Relaxed))
    }

    /// All commands of clients.
    pub fn all_commands(&self) -> u64 {
        Group::ALL.into_iter().map(|group| self.commands(group)).sum()
    }

    pub fn all_faults(&self) -> u64 {
        Fault::ALL.into_iter().map(|fault| self.faults(fault)).sum()
    }

    /// One per worker, in the order of their start.
    pub fn each(&self) -> Vec<Arc<Meter>> {
        self.workers.read().clone()
    }

    pub fn sum(&self, of: impl Fn(&Meter) -> u64) -> u64 {
        self.workers.read().iter().map(|meter| of(meter)).sum()
    }

    /// The workers' histograms as one.
    pub fn merged(&self, of: impl Fn(&Meter) -> &Histogram) -> Buckets {
        let mut all = Buckets::default();
        for meter in self.workers.read().iter() {
            all.add(&of(meter).read());
        }
        all
    }
}
