//! Whole databases: what is known of them, and what changes all their keys at once.

use bytes::Bytes;

use super::{DbSpace, Entry, Keyspace, Slot, load};
use crate::engine::Db;
use crate::engine::delta::Step;
use crate::engine::events::Happened;

impl Keyspace {
    /// All keys in memory, in no order. Complete only when the database is whole.
    pub fn iter(&self, db: Db) -> impl Iterator<Item = (&Bytes, &Entry)> {
        self.dbs.get(&db).into_iter().flat_map(|space| &space.slots).filter_map(|(key, slot)| {
            match slot {
                Slot::Present(entry) => Some((key, &**entry)),
                Slot::Absent { .. } => None,
            }
        })
    }

    /// The keys that have not expired, from a position of `SCAN` on and in its order. Complete only when the
    /// database is whole.
    pub fn iter_from(
        &mut self,
        db: Db,
        position: u64,
    ) -> impl Iterator<Item = (u64, &Bytes, &Entry)> {
        let past_before = self.past_before();
        let is_past = move |at_ms: i64| at_ms < past_before;
        let slots = self.dbs.get_mut(&db).map(|space| space.slots.from(position));
        slots.into_iter().flatten().filter_map(move |(position, key, slot)| match slot {
            Slot::Present(entry) if entry.expires_at_ms.is_some_and(is_past) => None,
            Slot::Present(entry) => Some((position, key, &**entry)),
            Slot::Absent { .. } => None,
        })
    }

    /// True when everything of the database is in memory, as far as keys go.
    pub fn is_whole(&self, db: Db) -> bool {
        self.dbs.get(&db).map_or(self.new_dbs_whole, |space| space.whole)
    }

    /// Databases that were looked at.
    pub fn databases(&self) -> impl Iterator<Item = Db> {
        self.dbs.keys().copied()
    }

    /// Removes all keys of one database.
    pub fn flush_db(&mut self, db: Db) {
        self.close_changes();
        self.keep_step();
        self.steps.push(Step::FlushDb(db));
        self.hear(Happened::Flushed(Some(db)));
        self.mutations += 1;
        self.keep_space(db);
        self.count_none(Some(db));
        if !self.moved.is_empty() {
            self.keep_places();
            self.moved.retain(|_, place| place.0 != db);
        }
        let space = self.space(db);
        space.slots.clear();
        space.whole = true;
    }

    /// Removes all keys.
    pub fn flush_all(&mut self) {
        self.close_changes();
        self.keep_step();
        self.steps.push(Step::FlushAll);
        self.hear(Happened::Flushed(None));
        self.mutations += 1;
        self.keep_spaces();
        self.count_none(None);
        if !self.moved.is_empty() {
            self.keep_places();
            self.moved.clear();
        }
        self.dbs.clear();
        self.new_dbs_whole = true;
    }

    /// Swaps two databases.
    pub fn swap_db(&mut self, a: Db, b: Db) {
        if a == b {
            return;
        }
        self.close_changes();
        self.keep_step();
        self.keep_swap(a, b);
        self.steps.push(Step::SwapDb(a, b));
        self.swaps.push((a, b));
        self.hear(Happened::Swapped(a, b));
        for (db, _) in self.moved.values_mut() {
            *db = load::swapped(*db, &(a, b));
        }
        self.mutations += 1;
        self.exchange(a, b);
    }

    pub(super) fn exchange(&mut self, a: Db, b: Db) {
        self.exchange_counts(a, b);
        let whole = self.new_dbs_whole;
        let fresh = || DbSpace { whole, ..DbSpace::default() };
        let (space_a, space_b) =
            (self.dbs.remove(&a).unwrap_or_else(fresh), self.dbs.remove(&b).unwrap_or_else(fresh));
        self.dbs.insert(a, space_b);
        self.dbs.insert(b, space_a);
    }

    pub(super) fn space(&mut self, db: Db) -> &mut DbSpace {
        let whole = self.new_dbs_whole;
        self.dbs.entry(db).or_insert_with(|| DbSpace { whole, ..DbSpace::default() })
    }
}
