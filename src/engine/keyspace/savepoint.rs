//! Savepoints: a script or transaction that stops in the middle, because something is not in memory,
//! leaves no trace and is run again.
//!
//! While a savepoint is open, the first touch of a key keeps the key as it was, with its part of the
//! delta; of a large collection each member that changes is kept instead ([`members`]). Steps that concern more than
//! one key keep what they replace. Rolling back puts all that back in reverse order. Nothing is loaded, taken or
//! swept while a savepoint is open.

mod members;

use bytes::Bytes;
use hashbrown::HashMap;

use self::members::Before;
use super::census::Census;
use super::{DbSpace, Entry, Keyspace, Slot};
use crate::engine::Db;
use crate::engine::delta::{KeyChange, KeyId, Step};
use crate::engine::value::Kind;

type Moved = HashMap<(Db, Bytes), (Db, Bytes), ahash::RandomState>;

/// An open savepoint; ended by [`Keyspace::rollback`] or [`Keyspace::release`], the inner one first.
#[derive(Debug)]
#[must_use]
pub struct Savepoint {
    mark: usize,
    mutations: u64,
    census: Option<Census>,
    happened: usize,
}

/// What there was before.
#[derive(Debug)]
enum Undo {
    Slot(Db, Bytes, Option<Slot>),
    /// An entry but for its members.
    Hollow(Db, Bytes, Box<Entry>),
    /// A member of the entry that is there.
    Member(Db, Bytes, Bytes, Before),
    Change(KeyId, Option<KeyChange>, Option<Kind>),
    /// The changes were closed; true when they became a step.
    Closed(bool),
    /// A step was recorded.
    Step,
    Swapped(Db, Db),
    Space(Db, DbSpace),
    Spaces(HashMap<Db, DbSpace>, bool),
    Places(Moved, Vec<(Db, Db)>),
}

/// What open savepoints remember.
#[derive(Debug, Default)]
pub(super) struct UndoLog {
    open: usize,
    entries: Vec<Undo>,
    /// Keys kept since the last savepoint or step, and whether with their members.
    kept: HashMap<(Db, Bytes), bool, ahash::RandomState>,
}

impl Keyspace {
    /// From here on everything can be taken back.
    pub fn savepoint(&mut self) -> Savepoint {
        self.undo.open += 1;
        self.undo.kept.clear();
        Savepoint {
            mark: self.undo.entries.len(),
            mutations: self.mutations,
            census: self.census.clone(),
            happened: self.happened_so_far(),
        }
    }

    /// What was done since the savepoint stays.
    pub fn release(&mut self, _: Savepoint) {
        self.undo.open -= 1;
        self.undo.kept.clear();
        if self.undo.open == 0 {
            self.undo.entries.clear();
        }
    }

    /// Takes back what was done since the savepoint.
    pub fn rollback(&mut self, mut savepoint: Savepoint) {
        while self.undo.entries.len() > savepoint.mark {
            match self.undo.entries.pop() {
                Some(undo) => self.take_back(undo),
                None => break,
            }
        }
        self.mutations = savepoint.mutations;
        self.census = savepoint.census.take();
        self.forget_happened(savepoint.happened);
        self.release(savepoint);
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Slot(db, key, Some(slot)) => self.space(db).slots.insert(key, slot),
            Undo::Slot(db, key, None) => self.space(db).slots.remove(&key),
            Undo::Hollow(db, key, entry) => self.refill(db, key, entry),
            Undo::Member(db, key, member, before) => {
                self.take_back_member(db, &key, member, before)
            }
            Undo::Change(id, change, dropped) => {
                match change {
                    Some(change) => drop(self.changes.keys.insert(id, change)),
                    None => drop(self.changes.keys.remove(&id)),
                }
                match dropped {
                    Some(kind) => drop(self.changes.dropped.insert(id, kind)),
                    None => drop(self.changes.dropped.remove(&id)),
                }
            }
            Undo::Closed(became_a_step) => {
                self.seq -= 1;
                if became_a_step && let Some(Step::Changes(changes)) = self.steps.pop() {
                    self.changes = changes;
                }
            }
            Undo::Step => drop(self.steps.pop()),
            Undo::Swapped(a, b) => self.exchange(a, b),
            Undo::Space(db, space) => drop(self.dbs.insert(db, space)),
            Undo::Spaces(dbs, new_dbs_whole) => {
                self.dbs = dbs;
                self.new_dbs_whole = new_dbs_whole;
            }
            Undo::Places(moved, swaps) => {
                self.moved = moved;
                self.swaps = swaps;
            }
        }
    }

    /// Call before a key, or its part of the delta, changes.
    pub(super) fn keep(&mut self, db: Db, key: &Bytes) {
        if self.undo.open == 0 || self.undo.kept.contains_key(&(db, key.clone())) {
            return;
        }
        let slot = self.dbs.get(&db).and_then(|space| space.slots.get(key));
        let (undo, id, whole) = match slot {
            Some(Slot::Present(entry)) if members::are_many(&entry.value) => {
                (Undo::Hollow(db, key.clone(), Box::new(entry.hollow())), Some(entry.id), false)
            }
            slot => {
                let id = slot.and_then(|slot| match slot {
                    Slot::Present(entry) => Some(entry.id),
                    Slot::Absent { .. } => None,
                });
                (Undo::Slot(db, key.clone(), slot.cloned()), id, true)
            }
        };
        if let Some(id) = id {
            self.keep_change(id);
        }
        self.undo.entries.push(undo);
        self.undo.kept.insert((db, key.clone()), whole);
    }

    /// True when the key may have changed since the outermost savepoint: a rollback would take back what
    /// the store is to show.
    pub(super) fn is_unsettled(&self, db: Db, key: &Bytes) -> bool {
        self.undo.entries.iter().any(|undo| match undo {
            Undo::Slot(of, name, _) | Undo::Hollow(of, name, _) | Undo::Member(of, name, ..) => {
                (*of, name) == (db, key)
            }
            Undo::Change(..) => false,
            _ => true,
        })
    }

    /// Call before a key goes from where it is.
    pub(super) fn keep_all(&mut self, db: Db, key: &Bytes) {
        self.keep(db, key);
        if self.undo.open > 0
            && let Some(whole) = self.undo.kept.get_mut(&(db, key.clone()))
            && !std::mem::replace(whole, true)
        {
            let slot = self.dbs.get(&db).and_then(|space| space.slots.get(key)).cloned();
            self.undo.entries.push(Undo::Slot(db, key.clone(), slot));
        }
    }

    /// Call before a value's part of the delta changes, where [`Keyspace::keep`] cannot know it.
    pub(super) fn keep_change(&mut self, id: KeyId) {
        if self.undo.open > 0 {
            let change = self.changes.keys.get(&id).cloned();
            let dropped = self.changes.dropped.get(&id).copied();
            self.undo.entries.push(Undo::Change(id, change, dropped));
        }
    }

    pub(super) fn keep_closing(&mut self) {
        if self.undo.open > 0 {
            self.undo.kept.clear();
            self.undo.entries.push(Undo::Closed(!self.changes.is_empty()));
        }
    }

    pub(super) fn keep_step(&mut self) {
        if self.undo.open > 0 {
            self.undo.entries.push(Undo::Step);
        }
    }

    pub(super) fn keep_swap(&mut self, a: Db, b: Db) {
        if self.undo.open > 0 {
            self.keep_places();
            self.undo.entries.push(Undo::Swapped(a, b));
        }
    }

    pub(super) fn keep_places(&mut self) {
        if self.undo.open > 0 {
            self.undo.entries.push(Undo::Places(self.moved.clone(), self.swaps.clone()));
        }
    }

    pub(super) fn keep_space(&mut self, db: Db) {
        if self.undo.open > 0 {
            let space = std::mem::take(self.space(db));
            self.undo.entries.push(Undo::Space(db, space));
        }
    }

    pub(super) fn keep_spaces(&mut self) {
        if self.undo.open > 0 {
            let dbs = std::mem::take(&mut self.dbs);
            self.undo.entries.push(Undo::Spaces(dbs, self.new_dbs_whole));
        }
    }
}
