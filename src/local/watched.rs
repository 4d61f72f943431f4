//! WATCH: who has to hear that a key was touched. Source: <https://redis.io/docs/manual/transactions/>.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::keeper::Gone;
use super::period::Period;
use super::session::Session;
use crate::engine::{Db, Need, Part};
use crate::resp::Reply;

/// A key that a client watches.
#[derive(Debug)]
pub(super) struct Watched {
    pub db: Db,
    pub key: Bytes,
    /// It was there when it was watched.
    existed: bool,
    /// Somebody has changed it since.
    touched: Cell<bool>,
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct Watchers(HashMap<(Db, Bytes), Vec<Rc<Watched>>, ahash::RandomState>);

impl Watchers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, watched: &Rc<Watched>) {
        self.0.entry((watched.db, watched.key.clone())).or_default().push(Rc::clone(watched));
    }

    fn remove(&mut self, watched: &Rc<Watched>) {
        let name = (watched.db, watched.key.clone());
        let Some(same) = self.0.get_mut(&name) else { return };
        same.retain(|other| !Rc::ptr_eq(other, watched));
        if same.is_empty() {
            self.0.remove(&name);
        }
    }

    pub fn touch(&self, db: Db, key: &Bytes) {
        let watchers = self.0.get(&(db, key.clone())).into_iter().flatten();
        watchers.for_each(|watched| watched.touched.set(true));
    }

    /// All keys of the databases went elsewhere; `None`: of all of them. A key that comes there by it is found by a look.
    pub fn touch_all(&self, dbs: Option<&[Db]>) {
        let concerned = |db: &Db| dbs.is_none_or(|dbs| dbs.contains(db));
        let watchers = self.0.iter().filter(|((db, _), _)| concerned(db)).flat_map(|(_, all)| all);
        watchers.filter(|watched| watched.existed).for_each(|watched| watched.touched.set(true));
    }
}

impl Session {
    pub async fn watch(&mut self, keys: &[Bytes]) -> Result<(), Gone> {
        if self.multi.is_some() {
            self.answer(&Reply::error("ERR WATCH inside MULTI is not allowed"));
            return Ok(());
        }
        let db = self.db;
        self.know(keys.iter().map(|key| (db, key))).await?;
        for key in keys {
            if !self.watched.iter().any(|watched| watched.db == db && watched.key == *key) {
                let existed = self.period.is_there(db, key);
                let watched = Watched { db, key: key.clone(), existed, touched: Cell::new(false) };
                let watched = Rc::new(watched);
                self.period.watchers.borrow_mut().add(&watched);
                self.watched.push(watched);
            }
        }
        self.period.listen();
        self.answer(&Reply::OK);
        Ok(())
    }

    pub fn unwatch(&mut self) {
        if self.watched.is_empty() {
            return;
        }
        let mut watchers = self.period.watchers.borrow_mut();
        self.watched.drain(..).for_each(|watched| watchers.remove(&watched));
        let nobody = watchers.is_empty();
        drop(watchers);
        if nobody {
            self.period.listen();
        }
    }

    /// True when a watched key, all of whose rows are known, was touched. A key whose time is over has gone.
    pub fn is_disturbed(&self) -> bool {
        let there = |watched: &Rc<Watched>| self.period.is_there(watched.db, &watched.key);
        let changed = self.watched.iter().any(|watched| there(watched) != watched.existed);
        self.period.deliver();
        changed || self.watched.iter().any(|watched| watched.touched.get())
    }

    /// Loads these keys' rows.
    pub async fn know<'a>(&self, keys: impl Iterator<Item = (Db, &'a Bytes)>) -> Result<(), Gone> {
        let needs: Vec<Need> = {
            let keyspace = self.period.keyspace.borrow();
            let need = |(db, key): (Db, &Bytes)| Need { db, key: key.clone(), part: Part::Meta };
            keys.map(need).filter_map(|need| keyspace.lacks(&need)).collect()
        };
        if needs.is_empty() { Ok(()) } else { self.period.load(needs).await }
    }
}

impl Period {
    /// Whether a key of which the row is known is there.
    fn is_there(&self, db: Db, key: &Bytes) -> bool {
        let mut keyspace = self.keyspace.borrow_mut();
        keyspace.now_ms = super::run::now_ms();
        matches!(keyspace.kind(db, key), Ok(Some(_)))
    }
}
