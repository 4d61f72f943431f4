//! MULTI, EXEC and WATCH. Source: <https://redis.io/docs/manual/transactions/>.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use hashbrown::HashMap;

use super::keeper::Gone;
use super::run::too_small;
use super::session::Session;
use crate::engine::delta::KeyId;
use crate::engine::{Db, Keyspace, Need, Part, Stop};
use crate::resp::Reply;

/// Tries of a transaction that finds something missing each time.
const MAX_LOADS: usize = 1000;

/// A transaction that is being put together.
#[derive(Debug, Default)]
pub(super) struct Multi {
    pub queued: Vec<Vec<Bytes>>,
    /// A command was refused: EXEC will fail.
    pub broken: bool,
}

/// The key's identity, and what changes with every change of it; `None`: there is no such key.
type Seen = Option<(KeyId, (i64, u64))>;

/// A key as it was when it was watched.
#[derive(Debug)]
pub(super) struct Watched {
    db: Db,
    key: Bytes,
    seen: Seen,
    /// It was not there, and came into being since; it may have gone again.
    appeared: Rc<Cell<bool>>,
}

/// Watched keys that are not there: a look at them afterwards may find the same, although they were.
#[derive(Debug, Default)]
pub(super) struct Awaited(HashMap<(Db, Bytes), Vec<Weak<Cell<bool>>>>);

impl Awaited {
    fn add(&mut self, db: Db, key: &Bytes, appeared: &Rc<Cell<bool>>) {
        self.0.retain(|_, watchers| watchers.iter().any(|watcher| watcher.strong_count() > 0));
        self.0.entry((db, key.clone())).or_default().push(Rc::downgrade(appeared));
    }

    /// Looks at them after a command that has changed something.
    pub fn look(&mut self, keyspace: &Keyspace) {
        self.0.retain(|(db, key), watchers| {
            let there = keyspace.peek(*db, key).is_some();
            if there {
                watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.set(true));
            }
            !there
        });
    }
}

impl Session {
    pub fn begin(&mut self) {
        if self.multi.is_some() {
            return self.answer(&Reply::error("ERR MULTI calls can not be nested"));
        }
        self.multi = Some(Multi::default());
        self.answer(&Reply::OK);
    }

    pub fn discard(&mut self) {
        if self.multi.take().is_none() {
            return self.answer(&Reply::error("ERR DISCARD without MULTI"));
        }
        self.watched.clear();
        self.answer(&Reply::OK);
    }

    pub async fn watch(&mut self, keys: &[Bytes]) -> Result<(), Gone> {
        if self.multi.is_some() {
            self.answer(&Reply::error("ERR WATCH inside MULTI is not allowed"));
            return Ok(());
        }
        let db = self.db;
        self.know(keys.iter().map(|key| (db, key))).await?;
        for key in keys {
            if !self.watched.iter().any(|watched| watched.db == db && watched.key == *key) {
                let (seen, appeared) = (self.seen(db, key), Rc::default());
                if seen.is_none() {
                    self.period.awaited.borrow_mut().add(db, key, &appeared);
                }
                self.watched.push(Watched { db, key: key.clone(), seen, appeared });
            }
        }
        self.answer(&Reply::OK);
        Ok(())
    }

    pub async fn exec(&mut self) -> Result<(), Gone> {
        let Some(multi) = self.multi.take() else {
            self.answer(&Reply::error("ERR EXEC without MULTI"));
            return Ok(());
        };
        let watched = std::mem::take(&mut self.watched);
        if multi.broken {
            self.answer(&Reply::error(
                "EXECABORT Transaction discarded because of previous errors.",
            ));
            return Ok(());
        }
        self.know(watched.iter().map(|watched| (watched.db, &watched.key))).await?;
        let queued = &multi.queued;
        self.period.load_ahead(queued.iter().map(|args| (self.db, &args[..]))).await?;
        let db = self.db;
        for _ in 0..MAX_LOADS {
            // Both are looked at in the step in which the commands run.
            if watched.iter().any(|watched| self.has_changed(watched)) {
                self.answer(&Reply::NilArray);
                return Ok(());
            }
            match self.try_all(queued) {
                Ok(replies) => {
                    self.answer(&Reply::Array(replies));
                    return Ok(());
                }
                Err(needs) => {
                    self.db = db;
                    self.period.load(needs).await?;
                }
            }
        }
        self.answer(&too_small());
        Ok(())
    }

    /// Runs the commands one behind the other; when something is missing, none of them has run.
    fn try_all(&mut self, queued: &[Vec<Bytes>]) -> Result<Vec<Reply>, Vec<Need>> {
        let savepoint = self.period.keyspace.borrow_mut().savepoint();
        let mut replies = Vec::with_capacity(queued.len());
        for args in queued {
            match self.try_run(args) {
                Ok(reply) => replies.push(reply),
                Err(Stop::Error(text)) => replies.push(Reply::Error(text)),
                Err(Stop::NotLoaded(needs)) => {
                    self.period.keyspace.borrow_mut().rollback(savepoint);
                    return Err(needs);
                }
            }
        }
        self.period.keyspace.borrow_mut().release(savepoint);
        Ok(replies)
    }

    /// Loads these keys' rows.
    async fn know<'a>(&self, keys: impl Iterator<Item = (Db, &'a Bytes)>) -> Result<(), Gone> {
        let needs: Vec<Need> = {
            let keyspace = self.period.keyspace.borrow();
            let need = |(db, key): (Db, &Bytes)| Need { db, key: key.clone(), part: Part::Meta };
            keys.map(need).filter_map(|need| keyspace.lacks(&need)).collect()
        };
        if needs.is_empty() { Ok(()) } else { self.period.load(needs).await }
    }

    fn has_changed(&self, watched: &Watched) -> bool {
        watched.appeared.get() || self.seen(watched.db, &watched.key) != watched.seen
    }

    fn seen(&self, db: Db, key: &Bytes) -> Seen {
        let mut keyspace = self.period.keyspace.borrow_mut();
        keyspace.now_ms = super::run::now_ms();
        // A key past its time is gone for those who look.
        let _ = keyspace.kind(db, key);
        keyspace.peek(db, key).map(|entry| (entry.id, entry.stamp()))
    }
}
