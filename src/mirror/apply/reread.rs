//! Re-reading keys from Redis whose effect the engine cannot follow.
//!
//! A key's state is read and its place in the stream is marked in one transaction
//! (`DUMP`, expiry, `PUBLISH`). Until the mark comes by, commands on the key are passed over; there,
//! the state that was read is exactly what all of them have led to.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{self, Value};
use bytes::Bytes;
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::plan::marker_message;
use crate::engine::Db;
use crate::rdb::{self, Object};
use crate::upstream::{Backoff, SideError, SidePool};

/// A key and the database it is in.
pub type KeyName = (Db, Bytes);

/// What Redis had at the mark; `None`: no such key.
pub type State = Option<(Object, Option<i64>)>;

/// Keys that are waiting for their mark.
pub struct Rereads {
    side: SidePool,
    channel: Arc<str>,
    next: u64,
    /// The mark that each key waits for; an older mark of the same key is void.
    suspended: HashMap<(Db, Bytes), u64>,
    pending: HashMap<u64, (Db, Bytes, oneshot::Receiver<State>)>,
    /// Keys that began or ended to wait since the last commit, for PostgreSQL to remember.
    added: Vec<(Db, Bytes)>,
    done: Vec<(Db, Bytes)>,
}

impl Rereads {
    pub fn new(side: SidePool, channel: &str) -> Rereads {
        // Marks of a former process may still be in the stream; numbers by the clock do not meet them.
        let next = super::now_ms().unsigned_abs() << 16;
        Rereads {
            side,
            channel: channel.into(),
            next,
            suspended: HashMap::new(),
            pending: HashMap::new(),
            added: Vec::new(),
            done: Vec::new(),
        }
    }

    /// True when no key is waiting, the usual case.
    pub fn is_idle(&self) -> bool {
        self.suspended.is_empty()
    }

    pub fn is_suspended(&self, db: Db, key: &Bytes) -> bool {
        !self.suspended.is_empty() && self.suspended.contains_key(&(db, key.clone()))
    }

    /// Starts to re-read a key. From here on its commands are passed over.
    pub fn start(&mut self, db: Db, key: &Bytes) {
        self.next += 1;
        let number = self.next;
        self.done.retain(|done| done.0 != db || done.1 != *key);
        self.added.push((db, key.clone()));
        self.suspended.insert((db, key.clone()), number);
        let (sender, receiver) = oneshot::channel();
        self.pending.insert(number, (db, key.clone(), receiver));
        let (side, channel, key) = (self.side.clone(), Arc::clone(&self.channel), key.clone());
        tokio::spawn(async move {
            let mut backoff = Backoff::default();
            let mut sender = Some(sender);
            while sender.as_ref().is_some_and(|s| !s.is_closed()) {
                match read(&side, db, &key, &channel, number).await {
                    Ok(state) => sender.take().map(|s| s.send(state)),
                    Err(error) => {
                        tracing::debug!(%error, "a key could not be re-read yet");
                        tokio::time::sleep(backoff.next_delay()).await;
                        None
                    }
                };
            }
        });
    }

    /// Two databases change places: a key that waits in one of them is now unknown in both.
    pub fn swap(&mut self, a: Db, b: Db) {
        let moved: Vec<(Db, Bytes)> =
            self.suspended.keys().filter(|(db, _)| *db == a || *db == b).cloned().collect();
        for (db, key) in moved {
            self.start(if db == a { b } else { a }, &key);
            self.start(db, &key);
        }
    }

    /// The mark came by: the key and its state there. `None`: the mark is void.
    pub async fn arrived(&mut self, number: u64) -> Option<(Db, Bytes, State)> {
        let (db, key, receiver) = self.pending.remove(&number)?;
        let current = self.suspended.get(&(db, key.clone())) == Some(&number);
        // The transaction has run, its answer is on the way; a lost connection starts it again.
        let answer = tokio::time::timeout(Duration::from_secs(10), receiver).await;
        if !current {
            return None;
        }
        let Ok(Ok(state)) = answer else {
            self.start(db, &key);
            return None;
        };
        self.suspended.remove(&(db, key.clone()));
        self.added.retain(|added| added.0 != db || added.1 != key);
        self.done.push((db, key.clone()));
        Some((db, key, state))
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
            self.start(db, &key);
        }
    }
}

async fn read(
    side: &SidePool,
    db: Db,
    key: &[u8],
    channel: &str,
    number: u64,
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
    pipe.cmd("PUBLISH").arg(channel).arg(marker_message(number)).ignore();
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
