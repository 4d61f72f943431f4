//! Changes of single keys: each goes into memory and into the delta in one step.

use bytes::Bytes;

use super::{Entry, Keyspace, Slot, What, stream, walk, window};
use crate::engine::Db;
use crate::engine::delta::{KeyChange, ListEnds, Rows};
use crate::engine::stop::{Answer, Part};
use crate::engine::value::{Kind, List, Members, Stream, Value, ZSet};

impl Keyspace {
    /// Makes sure that a key of type `kind` is there, creating an empty complete one.
    /// The caller puts something into it.
    pub(super) fn ensure(
        &mut self,
        db: Db,
        key: &Bytes,
        kind: Kind,
        part: impl FnOnce() -> Part,
    ) -> Answer<()> {
        if self.typed(db, key, kind, part)?.is_some() {
            return Ok(());
        }
        let value = match kind {
            Kind::String => Value::String(Some(Bytes::new())),
            Kind::List => Value::List(List::default()),
            Kind::Set => Value::Set(Members::new()),
            Kind::ZSet => Value::ZSet(ZSet::new()),
            Kind::Hash => Value::Hash(Members::new()),
            Kind::Stream => Value::Stream(Box::<Stream>::default()),
            Kind::Opaque => Value::Opaque(Some(Bytes::new())),
        };
        self.grown += key.len() + 128;
        self.insert(db, key, value, None);
        Ok(())
    }

    pub(super) fn insert(&mut self, db: Db, key: &Bytes, value: Value, expires_at_ms: Option<i64>) {
        self.keep(db, key);
        self.rebind(db, key);
        self.count(db, 1, expires_at_ms.is_some());
        self.touch(db, key, What::Made);
        let id = self.next_id;
        self.next_id += 1;
        self.keep_change(id);
        let (born, used) = (self.seq, self.tick);
        let entry = Entry {
            id,
            value,
            expires_at_ms,
            version: 0,
            born,
            touched: born,
            used,
            looked_at_ms: self.now_ms,
            views: window::Views::default(),
            walk: walk::Walk::default(),
        };
        self.space(db).slots.insert(key.clone(), Slot::Present(Box::new(entry)));
    }

    /// Changes the value of a key that is there, records it in the delta, and removes the key when
    /// nothing is left of it.
    pub(super) fn change<R>(
        &mut self,
        db: Db,
        key: &Bytes,
        f: impl FnOnce(&mut Value, &mut Rows) -> R,
    ) -> Option<R> {
        self.mutations += 1;
        self.keep(db, key);
        self.touch(db, key, What::Changed);
        let seq = self.seq;
        let space = self.dbs.get_mut(&db)?;
        let Some(Slot::Present(entry)) = space.slots.get_mut(key) else { return None };
        let change = self.changes.keys.entry(entry.id).or_insert_with(|| {
            entry.version += 1;
            KeyChange {
                db,
                key: key.clone(),
                kind: entry.value.kind(),
                expires_at_ms: None,
                len: 0,
                version: entry.version,
                created: entry.born == seq,
                renamed: false,
                rows: Rows::none(entry.value.kind()),
                ends: ends(&entry.value).map(|ends| [ends; 2]),
            }
        });
        let result = f(&mut entry.value, &mut change.rows);
        if let (Value::Stream(stream), Rows::Stream(rows)) = (&entry.value, &mut change.rows) {
            rows.set_counters(stream);
        }
        if let (Some([_, after]), Some(ends)) = (&mut change.ends, ends(&entry.value)) {
            *after = ends;
        }
        change.len = entry.value.len();
        change.expires_at_ms = entry.expires_at_ms;
        entry.touched = seq;
        entry.views = window::Views::default();
        entry.walk.stale = true;
        if entry.value.is_empty() && entry.value.kind() != Kind::Stream {
            self.drop_key(db, key);
        }
        Some(result)
    }

    /// Takes the entry out of memory and remembers that the key is absent.
    pub(super) fn take_entry(&mut self, db: Db, key: &Bytes) -> Option<Box<Entry>> {
        let used = self.tick;
        if self.dbs.get(&db)?.slots.contains_key(key) {
            self.keep_all(db, key);
        }
        let space = self.dbs.get_mut(&db)?;
        let slot = space.slots.get_mut(key)?;
        if matches!(slot, Slot::Absent { .. }) {
            return None;
        }
        let slot = std::mem::replace(slot, Slot::Absent { used });
        if space.whole {
            space.slots.remove(key);
        }
        let Slot::Present(entry) = slot else { return None };
        self.rebind(db, key);
        self.count(db, -1, entry.expires_at_ms.is_some());
        Some(entry)
    }

    /// Takes a key away, whatever it is.
    pub(super) fn drop_key(&mut self, db: Db, key: &Bytes) {
        if self.discard(db, key) {
            self.touch(db, key, What::Gone);
        }
    }

    /// As [`Keyspace::drop_key`], without a word to those who listen; false when there is no such key.
    pub(super) fn discard(&mut self, db: Db, key: &Bytes) -> bool {
        let Some(entry) = self.take_entry(db, key) else { return false };
        if !self.moved.is_empty() {
            self.keep_places();
            self.moved.retain(|_, place| (place.0, &place.1) != (db, key));
        }
        self.mutations += 1;
        self.changes.keys.remove(&entry.id);
        if entry.born != self.seq {
            self.changes.dropped.insert(entry.id, entry.value.kind());
        }
        true
    }
}

pub(super) fn ends(value: &Value) -> Option<ListEnds> {
    match value {
        Value::List(list) => Some((list.head, list.tail)),
        _ => None,
    }
}

/// Every row of a complete value, for one that PostgreSQL has not seen.
pub(super) fn all_rows(value: &Value) -> Rows {
    match value {
        Value::String(content) => Rows::String(content.clone()),
        Value::Opaque(dump) => Rows::Opaque(dump.clone()),
        Value::List(list) => {
            Rows::List(list.front.iter().map(|(pos, v)| (*pos, Some(v.clone()))).collect())
        }
        Value::Set(set) => {
            Rows::Set(set.iter().map(|(member, ())| (member.clone(), Some(()))).collect())
        }
        Value::ZSet(zset) => {
            Rows::ZSet(zset.known.iter().map(|(m, score)| (m.clone(), *score)).collect())
        }
        Value::Hash(hash) => {
            Rows::Hash(hash.iter().map(|(f, v)| (f.clone(), Some(v.clone()))).collect())
        }
        Value::Stream(stream) => Rows::Stream(Box::new(stream::all_rows(stream))),
    }
}
