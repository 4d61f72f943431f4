//! The commit gate: how `ack = "postgres"` waits for PostgreSQL.
//!
//! Every connection to Redis that carries writes owns a [`BarrierSource`]. After the writes of one
//! flush it sends `PUBLISH <channel> <source>.<n>`; the message travels in the replication stream
//! behind those writes. When the mirror has committed past it, it calls [`CommitGate::commit`], and
//! the source releases the replies that it held for barriers up to `n`.
//!
//! Invariants: a source's numbers only grow; `committed` never exceeds what was issued; once the gate
//! is open (no mirror, resync, PostgreSQL gone), nothing is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Released {
    committed: u64,
    /// Counts the times the gate opened, so that a waiter wakes up even when nothing was committed.
    openings: u64,
}

/// The gate's side of a source.
#[derive(Debug)]
struct Issuer {
    issued: Arc<AtomicU64>,
    sender: watch::Sender<Released>,
}

/// Shared by the mirror (which commits and opens) and all connections that carry writes.
#[derive(Debug)]
pub struct CommitGate {
    channel: String,
    /// True while write replies wait for PostgreSQL.
    holding: AtomicBool,
    next_source: AtomicU64,
    sources: Mutex<HashMap<u64, Issuer>>,
}

impl CommitGate {
    /// A gate that holds nothing yet. `instance` tells this proxy's barriers from another's.
    pub fn new(instance: &str) -> Arc<CommitGate> {
        Arc::new(CommitGate {
            channel: format!("__tandem:{instance}"),
            holding: AtomicBool::new(false),
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
        self.holding.load(Ordering::Acquire)
    }

    /// From now on replies to writes wait for the mirror's commit.
    pub fn close(&self) {
        self.holding.store(true, Ordering::Release);
    }

    /// Releases everything that is held, and holds nothing until [`CommitGate::close`].
    pub fn open(&self) {
        self.holding.store(false, Ordering::Release);
        for source in self.sources.lock().values() {
            // Released for good, even if the gate closes again before the source looks.
            // One more: writes may wait already for the barrier that is issued next.
            let issued = source.issued.load(Ordering::Acquire) + 1;
            source.sender.send_modify(|released| {
                released.openings += 1;
                released.committed = released.committed.max(issued);
            });
        }
    }

    /// Everything before these barriers is durable in PostgreSQL.
    pub fn commit(&self, barriers: &[Barrier]) {
        if barriers.is_empty() {
            return;
        }
        let sources = self.sources.lock();
        for barrier in barriers {
            if let Some(source) = sources.get(&barrier.source) {
                source.sender.send_if_modified(|released| {
                    let newer = barrier.number > released.committed;
                    released.committed = released.committed.max(barrier.number);
                    newer
                });
            }
        }
    }

    /// A place in the log for one connection that carries writes.
    pub fn source(self: &Arc<Self>) -> BarrierSource {
        let id = self.next_source.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = watch::channel(Released::default());
        let issued = Arc::new(AtomicU64::new(0));
        self.sources.lock().insert(id, Issuer { issued: Arc::clone(&issued), sender });
        BarrierSource { gate: Arc::clone(self), id, issued, receiver }
    }
}

/// One connection's barriers. Dropping it takes it off the gate.
#[derive(Debug)]
pub struct BarrierSource {
    gate: Arc<CommitGate>,
    id: u64,
    issued: Arc<AtomicU64>,
    receiver: watch::Receiver<Released>,
}

impl BarrierSource {
    /// Issues the next barrier: its number and the `PUBLISH` message to send behind the writes.
    pub fn issue(&mut self) -> (u64, String) {
        let number = self.issued.fetch_add(1, Ordering::AcqRel) + 1;
        (number, format!("{}.{number}", self.id))
    }

    pub fn gate(&self) -> &CommitGate {
        &self.gate
    }

    /// True when replies held for barrier `number` may go out.
    pub fn released(&self, number: u64) -> bool {
        !self.gate.holding() || self.receiver.borrow().committed >= number
    }

    /// The highest committed barrier number; `u64::MAX` while the gate is open.
    pub fn committed(&self) -> u64 {
        if self.gate.holding() { self.receiver.borrow().committed } else { u64::MAX }
    }

    /// Waits for releases beside the source, while the source itself stays usable.
    pub fn watcher(&self) -> Watcher {
        Watcher(self.receiver.clone())
    }

    /// Resolves when a commit or an opening may have released something. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender lives in the gate as long as this source does; never spin if it is gone.
            std::future::pending::<()>().await;
        }
    }
}

/// See [`BarrierSource::watcher`].
#[derive(Debug)]
pub struct Watcher(watch::Receiver<Released>);

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
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_waits_for_its_own_barrier() {
        let gate = CommitGate::new("test");
        let (mut one, mut two) = (gate.source(), gate.source());
        gate.close();
        let (n, message) = one.issue();
        let (m, _) = two.issue();
        assert!(!one.released(n) && !two.released(m));
        let barrier = Barrier::parse(message.as_bytes()).expect("own message");
        gate.commit(&[barrier]);
        one.changed().await;
        assert!(one.released(n) && !two.released(m));
        gate.open();
        two.changed().await;
        assert!(two.released(m));
    }

    #[test]
    fn foreign_messages_are_no_barriers() {
        for message in ["", "1", "1.", ".1", "a.b", "1.2.3", "-1.2"] {
            assert_eq!(Barrier::parse(message.as_bytes()), None, "{message}");
        }
    }
}
