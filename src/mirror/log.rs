//! The log between the link to Redis and the applier: commands received and not yet handed to
//! PostgreSQL, in memory, and beyond a bound in the spool.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::snapshot::Snapshot;
use super::spool::{Spool, SpoolError};

/// Commands held in memory before the spool takes over, in bytes.
const MEMORY_BYTES: usize = 32 << 20;
/// Read back from the spool at once, in bytes.
const REFILL_BYTES: usize = 4 << 20;

/// One command of the replication stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub args: Vec<Bytes>,
    /// Replication offset behind the command.
    pub end_offset: i64,
    /// When it was received, Unix time in ms.
    pub at_ms: i64,
}

impl Received {
    /// A command in memory of its own, so that what is kept of it keeps no read buffer alive.
    pub fn detached(args: &[Bytes], end_offset: i64, at_ms: i64) -> Received {
        let mut all = BytesMut::with_capacity(args.iter().map(Bytes::len).sum());
        args.iter().for_each(|arg| all.extend_from_slice(arg));
        let mut all = all.freeze();
        Received { args: args.iter().map(|arg| all.split_to(arg.len())).collect(), end_offset, at_ms }
    }

    /// Memory held, roughly, in bytes.
    pub fn weight(&self) -> usize {
        64 + self.args.iter().map(|arg| arg.len() + 32).sum::<usize>()
    }
}

/// What the applier takes from the log, in order.
#[derive(Debug)]
pub enum Entry {
    Command(Received),
    /// The commands behind belong to this replication id.
    Lineage(Arc<str>),
    /// Everything before is superseded by a snapshot; the commands behind follow it.
    Snapshot(Box<Snapshot>),
}

#[derive(Debug)]
struct Inner {
    memory: VecDeque<Entry>,
    memory_bytes: usize,
    spool: Spool,
    /// Lineage and offset of the end of the log: where the link goes on after a cut.
    end: Option<(Arc<str>, i64)>,
    /// Lineage last handed out.
    handed: Option<Arc<str>>,
    /// A stretch was given up because the spool was full; only a full resync helps.
    broken: bool,
}

/// One producer (the link), one consumer (the applier), both on the mirror's thread.
#[derive(Debug)]
pub struct Log {
    inner: Mutex<Inner>,
    /// Something was appended.
    pub appended: Notify,
}

impl Log {
    pub fn new(spool: Spool) -> Log {
        let end = spool.stretch().map(|(replid, _, end)| (Arc::from(replid), end));
        let inner =
            Inner { memory: VecDeque::new(), memory_bytes: 0, spool, end, handed: None, broken: false };
        Log { inner: Mutex::new(inner), appended: Notify::new() }
    }

    /// Lineage and offset from which the link has to go on; `None`: there is nothing to go on from.
    pub fn end(&self) -> Option<(Arc<str>, i64)> {
        self.inner.lock().end.clone()
    }

    /// The stretch that a former process left in the spool.
    pub fn stretch(&self) -> Option<(String, i64, i64)> {
        self.inner.lock().spool.stretch().map(|(replid, begin, end)| (replid.to_owned(), begin, end))
    }

    pub fn spool_bytes(&self) -> u64 {
        self.inner.lock().spool.bytes()
    }

    /// Starts anew at a position: nothing is waiting, the link goes on from there.
    pub fn restart(&self, position: Option<(Arc<str>, i64)>) -> Result<(), SpoolError> {
        let mut inner = self.inner.lock();
        inner.memory.clear();
        inner.memory_bytes = 0;
        inner.spool.clear()?;
        (inner.end, inner.handed, inner.broken) = (position, None, false);
        Ok(())
    }

    /// The link goes on under another replication id from the same offset.
    pub fn rename(&self, replid: &str) {
        if let Some(end) = &mut self.inner.lock().end {
            end.0 = Arc::from(replid);
        }
    }

    /// A snapshot supersedes everything that waits.
    pub fn push_snapshot(&self, snapshot: Snapshot) -> Result<(), SpoolError> {
        let position = (Arc::from(snapshot.replid.as_str()), snapshot.offset);
        self.restart(Some(position))?;
        self.inner.lock().memory.push_back(Entry::Snapshot(Box::new(snapshot)));
        self.appended.notify_one();
        Ok(())
    }

    /// Appends commands from the link. With a full memory they go to disk; they keep going there
    /// until the applier has caught up, so that the order is kept.
    pub fn push(&self, commands: Vec<Received>) -> Result<(), SpoolError> {
        let mut inner = self.inner.lock();
        let (Some((replid, begin)), Some(last)) = (inner.end.clone(), commands.last()) else { return Ok(()) };
        let end = last.end_offset;
        if inner.memory_bytes >= MEMORY_BYTES || !inner.spool.is_drained() {
            inner.spool.append(&replid, begin, &commands)?;
        } else {
            inner.push_memory(&replid, commands);
        }
        inner.end = Some((replid, end));
        self.appended.notify_one();
        Ok(())
    }

    /// Takes the next entries: commands up to about `max_bytes`, or one other entry.
    pub fn take(&self, max_count: usize, max_bytes: usize, into: &mut Vec<Entry>) -> Result<(), SpoolError> {
        let mut inner = self.inner.lock();
        if inner.memory.is_empty() && !inner.spool.is_drained() {
            let (replid, commands) = inner.spool.read(REFILL_BYTES)?;
            inner.push_memory(&Arc::from(replid), commands);
        }
        let (mut count, mut bytes) = (0, 0);
        while count < max_count && bytes < max_bytes {
            let Some(entry) = inner.memory.pop_front() else { break };
            count += 1;
            if let Entry::Command(command) = &entry {
                bytes += command.weight();
                inner.memory_bytes = inner.memory_bytes.saturating_sub(command.weight());
            }
            into.push(entry);
        }
        Ok(())
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.memory.is_empty() && inner.spool.is_drained()
    }

    /// When the oldest waiting command was received, Unix time in ms.
    pub fn oldest_at_ms(&self) -> Option<i64> {
        self.inner.lock().memory.iter().find_map(|entry| match entry {
            Entry::Command(command) => Some(command.at_ms),
            _ => None,
        })
    }

    /// PostgreSQL is away: `uncommitted`, which was taken and did not arrive, and everything that
    /// waits in memory goes to disk, so that a restart of this process finds it there. `replid` and
    /// `begin` are the position that PostgreSQL has.
    /// `taken` was taken too, and comes before what waits.
    pub fn spill(
        &self,
        replid: &Arc<str>,
        begin: i64,
        uncommitted: Vec<Received>,
        taken: VecDeque<Entry>,
    ) -> Result<(), SpoolError> {
        let mut inner = self.inner.lock();
        let mut memory = taken;
        memory.append(&mut inner.memory);
        if memory.iter().any(|entry| matches!(entry, Entry::Snapshot(_))) {
            // The snapshot supersedes what did not arrive.
            inner.memory = memory;
            return Ok(());
        }
        inner.memory_bytes = 0;
        inner.handed = None;
        let mut runs = vec![Run { replid: Arc::clone(replid), commands: uncommitted }];
        for entry in memory {
            match (entry, runs.last_mut()) {
                (Entry::Command(command), Some(run)) => run.commands.push(command),
                (Entry::Lineage(replid), _) => runs.push(Run { replid, commands: Vec::new() }),
                _ => {}
            }
        }
        inner.spool.rewind();
        let held = inner.spool.stretch().map(|(_, begin, end)| (begin, end));
        let (mut at, mut before) = (begin, VecDeque::new());
        for Run { replid, commands } in runs {
            // What the spool holds already is not written again.
            let (low, high): (Vec<_>, Vec<_>) =
                commands.into_iter().partition(|c| held.is_some_and(|(begin, _)| c.end_offset <= begin));
            let high: Vec<_> =
                high.into_iter().filter(|c| held.is_none_or(|(_, end)| c.end_offset > end)).collect();
            if let Some(last) = low.last() {
                let end = last.end_offset;
                before.push_front((Arc::clone(&replid), at, low));
                at = end;
            }
            if let Some(last) = high.last() {
                let end = last.end_offset;
                inner.spool.append(&replid, at.max(held.map_or(at, |(_, end)| end)), &high)?;
                at = end;
            }
        }
        for (replid, begin, commands) in before {
            inner.spool.prepend(&replid, begin, &commands)?;
        }
        Ok(())
    }

    /// Everything up to `offset` is in PostgreSQL.
    pub fn committed(&self, offset: i64) -> Result<(), SpoolError> {
        self.inner.lock().spool.committed(offset)
    }
}

impl Inner {
    fn push_memory(&mut self, replid: &Arc<str>, commands: Vec<Received>) {
        if self.handed.as_deref() != Some(&**replid) {
            self.memory.push_back(Entry::Lineage(Arc::clone(replid)));
            self.handed = Some(Arc::clone(replid));
        }
        for command in commands {
            self.memory_bytes += command.weight();
            self.memory.push_back(Entry::Command(command));
        }
    }
}

/// Commands of one lineage.
struct Run {
    replid: Arc<str>,
    commands: Vec<Received>,
}
