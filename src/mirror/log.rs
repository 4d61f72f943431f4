//! The log between the link to Redis and the applier: commands received and not yet handed to
//! PostgreSQL, in memory, and beyond a bound in the spool.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::replica::Resume;
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
        Received {
            args: args.iter().map(|arg| all.split_to(arg.len())).collect(),
            end_offset,
            at_ms,
        }
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
    memory_bound: usize,
    spool: Spool,
    /// PostgreSQL is away: everything goes to disk at once.
    outage: bool,
    /// Receipt of the first command that went to disk since the spool was last drained.
    spooled_at_ms: Option<i64>,
    /// Lineage and offset of the end of the log: where the link goes on after a cut.
    end: Option<(Arc<str>, i64)>,
    /// Lineage last handed out.
    handed: Option<Arc<str>>,
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
        Log::with_memory(spool, MEMORY_BYTES)
    }

    fn with_memory(spool: Spool, memory_bound: usize) -> Log {
        let end = spool.stretch().map(|(replid, _, end)| (Arc::from(replid), end));
        let memory = VecDeque::new();
        let inner = Inner {
            memory,
            memory_bytes: 0,
            memory_bound,
            spool,
            outage: false,
            spooled_at_ms: None,
            end,
            handed: None,
        };
        Log { inner: Mutex::new(inner), appended: Notify::new() }
    }

    /// Lineage and offset from which the link has to go on; `None`: there is nothing to go on from.
    pub fn end(&self) -> Option<(Arc<str>, i64)> {
        self.inner.lock().end.clone()
    }

    /// The stretch that a former process left in the spool.
    pub fn stretch(&self) -> Option<(String, i64, i64)> {
        self.inner
            .lock()
            .spool
            .stretch()
            .map(|(replid, begin, end)| (replid.to_owned(), begin, end))
    }

    /// True when the spool has reached its bound: the next push may fail.
    pub fn is_full(&self) -> bool {
        self.inner.lock().spool.is_full()
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
        (inner.end, inner.handed) = (position, None);
        Ok(())
    }

    /// The link goes on behind `from`, under a replication id that may be another one; false when the
    /// log does not end there any more.
    pub fn rename(&self, from: Option<&Resume>, replid: &str) -> bool {
        let mut inner = self.inner.lock();
        let ends = |end: &&mut (Arc<str>, i64), from: &Resume| {
            *end.0 == *from.replid && end.1 == from.offset
        };
        match inner.end.as_mut().filter(|end| from.is_some_and(|from| ends(end, from))) {
            Some(end) => end.0 = Arc::from(replid),
            None => return false,
        }
        true
    }

    /// A snapshot supersedes everything that waits.
    pub fn push_snapshot(&self, snapshot: Snapshot) -> Result<(), SpoolError> {
        let position = (Arc::from(snapshot.replid.as_str()), snapshot.offset);
        self.restart(Some(position))?;
        self.inner.lock().memory.push_back(Entry::Snapshot(Box::new(snapshot)));
        self.appended.notify_one();
        Ok(())
    }

    /// Appends commands from the link that follow offset `begin` of `replid`; false, and nothing is
    /// appended, when the log does not end there (it was restarted under the link). With a full
    /// memory they go to disk; they keep going there until the applier has caught up, so that the
    /// order is kept.
    pub fn push(
        &self,
        replid: &str,
        begin: i64,
        commands: Vec<Received>,
    ) -> Result<bool, SpoolError> {
        let mut inner = self.inner.lock();
        let end = inner.end.clone().filter(|(id, offset)| **id == *replid && *offset == begin);
        let Some((replid, _)) = end else { return Ok(false) };
        let Some(end) = commands.last().map(|last| last.end_offset) else { return Ok(true) };
        let drained = inner.spool.is_drained();
        if inner.outage || inner.memory_bytes >= inner.memory_bound || !drained {
            if drained {
                inner.spooled_at_ms = commands.first().map(|first| first.at_ms);
            }
            inner.spool.append(&replid, begin, &commands)?;
        } else {
            inner.push_memory(&replid, commands);
        }
        inner.end = Some((replid, end));
        self.appended.notify_one();
        Ok(true)
    }

    /// Takes the next entries: commands up to about `max_bytes`, or one other entry.
    pub fn take(
        &self,
        max_count: usize,
        max_bytes: usize,
        into: &mut Vec<Entry>,
    ) -> Result<(), SpoolError> {
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

    /// When the oldest waiting command was received, Unix time in ms.
    pub fn oldest_at_ms(&self) -> Option<i64> {
        let inner = self.inner.lock();
        let in_memory = inner.memory.iter().find_map(|entry| match entry {
            Entry::Command(command) => Some(command.at_ms),
            _ => None,
        });
        in_memory.or_else(|| inner.spooled_at_ms.filter(|_| !inner.spool.is_drained()))
    }

    /// PostgreSQL is away: `uncommitted`, which was taken and did not arrive, and everything that
    /// waits in memory goes to disk, so that a restart of this process finds it there. `replid` and
    /// `begin` are the position that PostgreSQL has.
    /// `taken` was taken too, and comes before what waits. Of what was taken up to the offset `reached`, that which
    /// is not among these has changed nothing.
    pub fn spill(
        &self,
        replid: &Arc<str>,
        begin: i64,
        uncommitted: Vec<Received>,
        taken: VecDeque<Entry>,
        reached: i64,
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
        inner.outage = true;
        let mut runs = vec![Run { replid: Arc::clone(replid), commands: uncommitted }];
        for entry in memory {
            match (entry, runs.last_mut()) {
                (Entry::Command(command), Some(run)) => run.commands.push(command),
                (Entry::Lineage(replid), _) => runs.push(Run { replid, commands: Vec::new() }),
                _ => {}
            }
        }
        inner.spool.rewind();
        let oldest = runs.iter().flat_map(|run| &run.commands).next().map(|first| first.at_ms);
        inner.spooled_at_ms = oldest.or(inner.spooled_at_ms);
        let mut at = begin;
        for Run { replid, commands } in runs {
            // What the spool holds already is not written again.
            let mut missing: Vec<Received> = Vec::new();
            let mut from = at;
            for command in commands {
                let end = command.end_offset;
                let held = inner.spool.holds(end);
                // What is on disk may end with commands that changed nothing and are in nobody's hands.
                let on_disk = if held { Some(end) } else { inner.spool.end_before(end) };
                if let Some(behind) = on_disk.filter(|behind| *behind > at) {
                    if !missing.is_empty() {
                        inner.spool.insert(&replid, from, &missing)?;
                        missing.clear();
                    }
                    from = behind;
                }
                at = end;
                if !held {
                    missing.push(command);
                }
            }
            if !missing.is_empty() {
                inner.spool.insert(&replid, from, &missing)?;
            }
        }
        inner.close_gaps(begin, reached)
    }

    /// PostgreSQL is back: what waits on disk is handed out, and memory serves again behind it.
    pub fn outage_over(&self) {
        self.inner.lock().outage = false;
        self.appended.notify_one();
    }

    /// Everything up to `offset` is in PostgreSQL.
    pub fn committed(&self, offset: i64) -> Result<(), SpoolError> {
        self.inner.lock().spool.committed(offset)
    }
}

impl Inner {
    /// What was taken and changed nothing is not on disk, and a later process would not see that what
    /// is before and behind it belongs together: something that does nothing stands for it.
    fn close_gaps(&mut self, begin: i64, reached: i64) -> Result<(), SpoolError> {
        let Some((replid, end)) = self.end.clone() else { return Ok(()) };
        let gaps = self.spool.gaps(begin, &replid, end);
        let at_ms = self.spooled_at_ms.unwrap_or(0);
        for (from, to, replid) in gaps.into_iter().filter(|(_, to, _)| *to <= reached) {
            let nothing =
                Received { args: vec![Bytes::from_static(b"PING")], end_offset: to, at_ms };
            self.spool.insert(&replid, from, &[nothing])?;
        }
        Ok(())
    }

    fn push_memory(&mut self, replid: &Arc<str>, commands: Vec<Received>) {
        if commands.is_empty() {
            // The end of the spool, which belongs to no lineage.
            return;
        }
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

#[cfg(test)]
mod tests;
