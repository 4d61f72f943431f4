//! Whether Redis may lack keys that PostgreSQL has, and the way to have such keys brought back.
//!
//! The mirror says why Redis may be partial; clients ask with one relaxed load, and while there is no
//! reason they are served without any care. A reason is given before the first key can be missing.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{RwLock, mpsc, oneshot, watch};

use super::inspect::Inspections;
use crate::engine::Db;

/// Why Redis may lack keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Gap {
    /// It may evict at any moment.
    Evicting = 1,
    /// It has evicted, or copies were dropped from it.
    Lacking = 2,
    /// It has just been reached or was lost: nobody has looked yet which history it has.
    Unknown = 4,
    /// It lost its data and is being filled from PostgreSQL.
    Warming = 8,
}

impl Gap {
    pub const ALL: [(Gap, &'static str); 4] = [
        (Gap::Evicting, "evicting"),
        (Gap::Lacking, "lacking"),
        (Gap::Unknown, "unknown"),
        (Gap::Warming, "warming"),
    ];
}

/// Another proxy that is not heard of for so long is gone. It asks twice a second.
const OTHERS: Duration = Duration::from_secs(10);

/// How long it may take until misses are attended to again, when a proxy comes to lead or to stand by.
const SUCCESSION: Duration = Duration::from_secs(1);

/// What became of a key that somebody missed. Where several are asked for together, the answers other than
/// [`Recalled::Again`] hold at one moment after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Redis has it, or somebody has just touched it: look again.
    Again,
    /// Neither Redis nor PostgreSQL had it.
    Absent,
    /// It was brought back to Redis, a string with this content.
    Back(Bytes),
}

/// Why missing keys could not be looked for. The first two are the reply of a command that needs them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecallError {
    #[error(
        "UNAVAILABLE Redis lacks a key that PostgreSQL may have, and PostgreSQL cannot be asked: the command was not run"
    )]
    Postgres,
    #[error("UNAVAILABLE a key could not be brought back to Redis ({0}): the command was not run")]
    Redis(String),
    /// Nobody misses anything any more, as somebody else answers: what needed the keys starts afresh.
    #[error("who answers clients has changed, and nobody misses keys any more")]
    Over,
}

/// Keys that somebody misses in Redis.
#[derive(Debug)]
pub struct Missing {
    pub db: Db,
    pub keys: Vec<Bytes>,
    pub answer: oneshot::Sender<Result<Vec<Recalled>, RecallError>>,
}

/// Shared by the mirror and all workers.
#[derive(Debug)]
pub struct Presence {
    gaps: AtomicU8,
    /// To whoever brings keys back.
    missing: watch::Sender<mpsc::UnboundedSender<Missing>>,
    /// When another proxy before the same Redis was heard of last.
    others: Mutex<Option<Instant>>,
    /// Held for reading from the moment at which a command's keys are looked for until it has run, and for writing by
    /// `SWAPDB`: `WATCH` does not show it for keys that both databases lack. Whoever brings keys back must not wait
    /// for it, since readers wait for them.
    pub swaps: RwLock<()>,
    pub counters: PresenceCounters,
    pub inspections: Inspections,
}

/// Counted since the start.
#[derive(Debug, Default)]
pub struct PresenceCounters {
    /// Deletes in the stream that were evictions.
    pub evictions: AtomicU64,
    /// Deletes in the stream of which nobody could tell what they were.
    pub doubtful: AtomicU64,
    /// Keys looked for in PostgreSQL because Redis lacked them.
    pub misses: AtomicU64,
    /// Keys brought back to Redis.
    pub recalled: AtomicU64,
    /// Keys that a Redis without its data still lacks, while it is being filled.
    pub to_warm: AtomicU64,
}

impl Default for Presence {
    fn default() -> Presence {
        Presence::new()
    }
}

impl Presence {
    /// Redis counts as whole until somebody says otherwise. Misses wait a moment for somebody who
    /// [attends](Presence::attend) to them, and are errors then.
    pub fn new() -> Presence {
        let (missing, _) = mpsc::unbounded_channel();
        Presence {
            gaps: AtomicU8::new(0),
            missing: watch::Sender::new(missing),
            others: Mutex::default(),
            swaps: RwLock::default(),
            counters: PresenceCounters::default(),
            inspections: Inspections::default(),
        }
    }

    /// From now on misses come here, and to nobody else.
    pub fn attend(&self) -> mpsc::UnboundedReceiver<Missing> {
        let (missing, receiver) = mpsc::unbounded_channel();
        self.missing.send_replace(missing);
        receiver
    }

    /// Nobody misses anything any more: Redis does not answer.
    pub fn clear(&self) {
        self.gaps.store(0, Ordering::Release);
        // Who waits for somebody to attend has to look.
        self.missing.send_modify(|_| ());
    }

    /// True when Redis may lack keys that PostgreSQL has.
    pub fn partial(&self) -> bool {
        self.gaps.load(Ordering::Relaxed) != 0
    }

    pub fn has(&self, gap: Gap) -> bool {
        self.gaps.load(Ordering::Acquire) & gap as u8 != 0
    }

    /// Gives or takes back a reason; true when that changed anything.
    pub fn set(&self, gap: Gap, there: bool) -> bool {
        let bit = gap as u8;
        let before = match there {
            true => self.gaps.fetch_or(bit, Ordering::AcqRel),
            false => self.gaps.fetch_and(!bit, Ordering::AcqRel),
        };
        (before & bit != 0) != there
    }

    /// All reasons, for [`Presence::adopt`].
    pub fn reasons(&self) -> u8 {
        self.gaps.load(Ordering::Acquire)
    }

    /// Takes over what another proxy says of the same Redis, except for `own` reasons, which stay what they are.
    pub fn adopt(&self, reasons: u8, own: &[Gap]) {
        let own = own.iter().fold(0, |bits, gap| bits | *gap as u8);
        let adopted = |now: u8| Some(now & own | reasons & !own);
        // It always succeeds.
        let _ = self.gaps.fetch_update(Ordering::AcqRel, Ordering::Acquire, adopted);
    }

    /// Another proxy before the same Redis is there.
    pub fn hear_of_other(&self) {
        *self.others.lock() = Some(Instant::now());
    }

    /// True when other proxies have to learn of a new reason.
    pub fn has_others(&self) -> bool {
        self.others.lock().is_some_and(|heard| heard.elapsed() < OTHERS)
    }

    /// For people: `whole`, or the reasons.
    pub fn describe(&self) -> String {
        let reasons = Gap::ALL.iter().filter(|(gap, _)| self.has(*gap)).map(|(_, name)| *name);
        match reasons.collect::<Vec<_>>().join(",") {
            none if none.is_empty() => "whole".to_owned(),
            reasons => reasons,
        }
    }

    /// Has keys that Redis lacks brought back from PostgreSQL; one answer per key, in their order.
    pub async fn recall(&self, db: Db, keys: Vec<Bytes>) -> Result<Vec<Recalled>, RecallError> {
        let mut attending = self.missing.subscribe();
        loop {
            let (answer, answered) = oneshot::channel();
            let missing = Missing { db, keys: keys.clone(), answer };
            let sent = attending.borrow_and_update().send(missing).is_ok();
            if sent && let Ok(answer) = answered.await {
                return answer;
            }
            if !self.partial() {
                return Err(RecallError::Over);
            }
            // Whoever attended has ended, and another one may follow.
            match tokio::time::timeout(SUCCESSION, attending.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(RecallError::Postgres),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_reason_counts_until_it_is_taken_back() {
        let presence = Presence::new();
        let receiver = presence.attend();
        assert!(!presence.partial());
        assert!(presence.set(Gap::Evicting, true) && !presence.set(Gap::Evicting, true));
        assert!(presence.set(Gap::Lacking, true));
        assert!(presence.set(Gap::Evicting, false));
        assert!(presence.partial() && presence.describe() == "lacking");
        drop(receiver);
        assert_eq!(presence.recall(0, Vec::new()).await, Err(RecallError::Postgres));
        presence.set(Gap::Lacking, false);
        assert!(!presence.partial());
        assert_eq!(presence.recall(0, Vec::new()).await, Err(RecallError::Over));
    }

    #[tokio::test]
    async fn who_waits_for_a_successor_is_told_that_none_is_needed() {
        let presence = Presence::new();
        presence.set(Gap::Evicting, true);
        let began = Instant::now();
        let over = async { presence.clear() };
        let (answer, ()) = tokio::join!(presence.recall(0, Vec::new()), over);
        assert_eq!(answer, Err(RecallError::Over));
        assert!(began.elapsed() < SUCCESSION);
    }

    #[tokio::test]
    async fn who_comes_to_attend_is_asked_what_the_former_one_left() {
        let presence = Presence::new();
        presence.set(Gap::Evicting, true);
        let mut former = presence.attend();
        let succession = async {
            drop(former.recv().await.expect("asked"));
            drop(former);
            let mut next = presence.attend();
            let missing = next.recv().await.expect("asked again");
            missing.answer.send(Ok(vec![Recalled::Absent])).expect("still waiting");
        };
        let keys = vec![Bytes::from_static(b"k")];
        let (answer, ()) = tokio::join!(presence.recall(0, keys), succession);
        assert_eq!(answer, Ok(vec![Recalled::Absent]));
    }
}
