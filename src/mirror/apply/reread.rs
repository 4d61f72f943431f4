//! Re-reading keys from Redis whose effect the engine cannot follow.
//!
//! A key's state is read and its place in the stream is marked in one transaction
//! (`DUMP`, expiry, `PUBLISH`). Until the mark comes by, commands on the key are passed over; there,
//! the state that was read is exactly what all of them have led to.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{self, Value};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use tokio::sync::oneshot;

use super::plan::Mark;
use crate::engine::Db;
use crate::rdb::{self, Object};
use crate::upstream::{Backoff, SideError, SidePool};

/// How long the applier waits for an answer whose mark it has seen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A key and the database it is in.
pub type KeyName = (Db, Bytes);

/// What Redis had at the mark; `None`: no such key.
pub type State = Option<(Object, Option<i64>)>;

/// What was read, and in which attempt.
enum Answer {
    Awaited(oneshot::Receiver<(State, u32)>),
    Here(State, u32),
}

/// A key that waits.
struct Pending {
    name: KeyName,
    answer: Answer,
    /// The number of its first mark: writes before that one have not reached PostgreSQL.
    since: u64,
}

/// Keys that are waiting for their mark.
pub struct Rereads {
    side: SidePool,
    channel: Arc<str>,
    next: u64,
    suspended: HashSet<KeyName>,
    /// By the number of the mark.
    pending: HashMap<u64, Pending>,
    /// Keys that began or ended to wait since the last commit, for PostgreSQL to remember.
    added: Vec<KeyName>,
    done: Vec<KeyName>,
}

impl Rereads {
    pub fn new(side: SidePool, channel: &str) -> Rereads {
        // Marks of a former process may still be in the stream; numbers by the clock do not meet them.
        let next = super::now_ms().unsigned_abs() << 16;
        Rereads {
            side,
            channel: channel.into(),
            next,
            suspended: HashSet::new(),
            pending: HashMap::new(),
            added: Vec::new(),
            done: Vec::new(),
        }
    }

    /// True when no key is waiting, the usual case.
    pub fn is_idle(&self) -> bool {
        self.suspended.is_empty()
    }

    /// Where the stream stands, for [`Rereads::behind`].
    pub fn place(&self) -> u64 {
        self.next
    }

    /// True when every key that began to wait up to `place` has been read again.
    pub fn behind(&self, place: u64) -> bool {
        self.pending.values().all(|pending| pending.since > place)
    }

    pub fn is_suspended(&self, db: Db, key: &Bytes) -> bool {
        !self.suspended.is_empty() && self.suspended.contains(&(db, key.clone()))
    }

    /// Starts to re-read a key. From here on its commands are passed over. A key that is waiting goes
    /// on waiting for its mark: whatever comes before the mark is in what was read there. False then.
    pub fn start(&mut self, db: Db, key: &Bytes) -> bool {
        self.start_since(None, db, key)
    }

    fn start_since(&mut self, since: Option<u64>, db: Db, key: &Bytes) -> bool {
        let name = (db, key.clone());
        if !self.suspended.insert(name.clone()) {
            return false;
        }
        self.next += 1;
        let number = self.next;
        self.done.retain(|done| *done != name);
        self.added.push(name.clone());
        let (sender, receiver) = oneshot::channel();
        let since = since.unwrap_or(number);
        self.pending.insert(number, Pending { name, answer: Answer::Awaited(receiver), since });
        let (side, channel, key) = (self.side.clone(), Arc::clone(&self.channel), key.clone());
        tokio::spawn(async move {
            let mut backoff = Backoff::default();
            let mut sender = Some(sender);
            let mut mark = Mark { number, attempt: 0 };
            while sender.as_ref().is_some_and(|s| !s.is_closed()) {
                mark.attempt += 1;
                match read(&side, db, &key, &channel, mark).await {
                    Ok(state) => {
                        if let Some(sender) = sender.take() {
                            // Nobody may wait for it any more.
                            let _ = sender.send((state, mark.attempt));
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a key could not be re-read yet");
                        tokio::time::sleep(backoff.next_delay()).await;
                    }
                }
            }
        });
        true
    }

    /// Two databases change places: what a waiting key had in one of them is unknown in the other.
    pub fn swap(&mut self, a: Db, b: Db) {
        let moved: Vec<KeyName> =
            self.suspended.iter().filter(|(db, _)| *db == a || *db == b).cloned().collect();
        for (db, key) in moved {
            self.start(if db == a { b } else { a }, &key);
        }
    }

    /// A mark came by: the key and its state there. `None`: it is not one of ours, it is that of an
    /// attempt whose answer was lost, or the key has to be read once more.
    pub async fn arrived(&mut self, mark: Mark) -> Option<(Db, Bytes, State)> {
        let Pending { name, answer, since } = self.pending.remove(&mark.number)?;
        let answer = match answer {
            Answer::Here(state, attempt) => Some((state, attempt)),
            // The transaction has run, its answer is on the way; a lost connection starts it again.
            Answer::Awaited(receiver) => {
                let answer = tokio::time::timeout(ANSWER_TIMEOUT, receiver).await;
                answer.ok().and_then(Result::ok)
            }
        };
        match answer {
            Some((state, attempt)) if attempt == mark.attempt => {
                self.suspended.remove(&name);
                self.added.retain(|added| *added != name);
                self.done.push(name.clone());
                Some((name.0, name.1, state))
            }
            Some((state, attempt)) => {
                let answer = Answer::Here(state, attempt);
                self.pending.insert(mark.number, Pending { name, answer, since });
                None
            }
            None => {
                self.suspended.remove(&name);
                self.start_since(Some(since), name.0, &name.1);
                None
            }
        }
    }

    /// Keys that began and keys that ended to wait since the last call.
    pub fn take_changes(&mut self) -> (Vec<KeyName>, Vec<KeyName>) {
        (std::mem::take(&mut self.added), std::mem::take(&mut self.done))
    }

    /// The keys of a command that the table does not know, as Redis sees them.
    pub async fn keys_of(&self, args: &[Bytes]) -> Vec<Bytes> {
        let Ok(mut connection) = self.side.get().await else { return Vec::new() };
        let mut ask = redis::cmd("COMMAND");
        ask.arg("GETKEYS");
        args.iter().for_each(|arg| {
            ask.arg(&arg[..]);
        });
        let keys: Result<Vec<Vec<u8>>, _> = ask.query_async(&mut *connection).await;
        keys.unwrap_or_default().into_iter().map(Bytes::from).collect()
    }

    /// Forgets all marks and starts to re-read these keys.
    pub fn restart(&mut self, keys: Vec<(Db, Bytes)>) {
        self.suspended.clear();
        self.pending.clear();
        (self.added, self.done) = (Vec::new(), Vec::new());
        for (db, key) in keys {
            self.start_since(Some(0), db, &key);
        }
    }
}

async fn read(
    side: &SidePool,
    db: Db,
    key: &[u8],
    channel: &str,
    mark: Mark,
) -> Result<State, SideError> {
    let mut connection = side.get().await?;
    // Redis 5 and 6 know no PEXPIRETIME; there the expiry is exact to a millisecond only.
    let probe: Result<i64, _> =
        redis::cmd("PEXPIRETIME").arg(key).query_async(&mut *connection).await;
    let absolute = probe.is_ok();
    let mut pipe = redis::pipe();
    pipe.atomic();
    pipe.cmd("SELECT").arg(db).ignore();
    pipe.cmd("DUMP").arg(key);
    pipe.cmd(if absolute { "PEXPIRETIME" } else { "PTTL" }).arg(key);
    pipe.cmd("TIME");
    pipe.cmd("PUBLISH").arg(channel).arg(mark.message()).ignore();
    pipe.cmd("SELECT").arg(0).ignore();
    let answers: (Value, i64, (i64, i64)) = pipe.query_async(&mut *connection).await?;
    let (dump, expiry, (seconds, micros)) = answers;
    let Value::BulkString(dump) = dump else { return Ok(None) };
    let now = if absolute { 0 } else { seconds * 1000 + micros / 1000 };
    let expires_at_ms = (expiry >= 0).then(|| now + expiry);
    let dump = Bytes::from(dump);
    let object = match rdb::decode_dump(&dump) {
        Ok(object) => object,
        // What cannot be decoded is kept as it is.
        Err(_) => Object::Opaque { type_byte: dump.first().copied().unwrap_or_default(), dump },
    };
    Ok(Some((object, expires_at_ms)))
}
