//! Looks at PostgreSQL at a place in the replication stream.
//!
//! Whoever wants to know exactly what PostgreSQL has of some keys (the consistency check, the
//! synchronisation) registers a question, reads the keys from Redis and publishes the question's
//! message in one transaction. Where the message comes by in the stream the mirror commits what came
//! before it, reads the keys from the tables, and answers: both sides are seen at the same moment of
//! Redis's history, whatever the traffic.

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::engine::{Loaded, Need};
use crate::rdb::Object;

/// What Redis has of a key: value and expiry (Unix time in ms); `None`: no such key.
pub type RedisState = Option<(Object, Option<i64>)>;

/// What PostgreSQL is to take over, one for each need; `None` leaves the key as it is.
pub type Takeover = Vec<Option<RedisState>>;

/// What PostgreSQL has of each need, in their order; `None`: the key waits to be read again from Redis.
pub type Inspected = Vec<Option<Loaded>>;

/// A question that waits for its place.
#[derive(Debug)]
pub struct Question {
    pub needs: Vec<Need>,
    /// What PostgreSQL is to take over: what Redis has at this very place.
    pub take: Option<oneshot::Receiver<Takeover>>,
    /// Told when all of it is committed; dropped when it could not be.
    pub answer: oneshot::Sender<Inspected>,
}

/// Between those who ask and the mirror.
#[derive(Debug, Default)]
pub struct Inspections {
    waiting: Mutex<(u64, HashMap<u64, Question>)>,
}

impl Inspections {
    /// Registers a question; [`Inspections::message`] of the number has to be published.
    pub fn ask(
        &self,
        needs: Vec<Need>,
        take: Option<oneshot::Receiver<Takeover>>,
    ) -> (u64, oneshot::Receiver<Inspected>) {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        // Those who have given up meanwhile.
        waiting.1.retain(|_, question| !question.answer.is_closed());
        waiting.0 += 1;
        let number = waiting.0;
        waiting.1.insert(number, Question { needs, take, answer });
        (number, answered)
    }

    /// The question whose message has come by.
    pub fn take(&self, number: u64) -> Option<Question> {
        self.waiting.lock().1.remove(&number)
    }

    /// What to publish on the channel of the commit gate.
    pub fn message(number: u64) -> String {
        format!("inspect.{number}")
    }

    /// The number in a message.
    pub fn number(message: &[u8]) -> Option<u64> {
        std::str::from_utf8(message).ok()?.strip_prefix("inspect.")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Part;
    use bytes::Bytes;

    #[test]
    fn a_question_is_taken_once_and_forgotten_when_nobody_waits() {
        let inspections = Inspections::default();
        let need = Need { db: 0, key: Bytes::from_static(b"k"), part: Part::All };
        let (first, answered) = inspections.ask(vec![need], None);
        assert_eq!(Inspections::number(Inspections::message(first).as_bytes()), Some(first));
        drop(answered);
        let (second, _answered) = inspections.ask(Vec::new(), None);
        assert!(inspections.take(first).is_none());
        assert!(inspections.take(second).is_some() && inspections.take(second).is_none());
        assert_eq!(Inspections::number(b"recall.1"), None);
    }
}
