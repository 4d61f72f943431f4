//! The keys that are in memory, wholly or in part, and the changes made to them.
//!
//! Reads answer from memory or raise [`Stop::NotLoaded`] with a precise need. Changes go through
//! methods that keep three things together: the value, the delta for the store, and the rule that an
//! empty collection is no key. Memory always leads: what is loaded later fills gaps and never
//! overwrites what is known.

mod census;
mod change;
mod databases;
mod hash;
mod journal;
mod list;
mod load;
mod memory;
mod savepoint;
mod set;
mod slots;
mod stream;
mod string;
mod walk;
mod window;
mod zset;

use bytes::Bytes;
use hashbrown::HashMap;
use rand::SeedableRng;
use rand::rngs::SmallRng;

pub use census::Count;
pub use journal::{Touch, What};
pub use list::{End, LIST_WINDOW};
pub use load::{Found, Loaded};
pub use savepoint::Savepoint;
pub use stream::{StreamChange, StreamRange};
pub use window::{LARGE, MOST, View, places};

use super::Db;
use super::delta::{Changes, Delta, KeyId, Step};
use super::events::{Class, Happened};
use super::stop::{Answer, Need, Part, Stop};
use super::value::{Kind, Value};

/// Who decides that a key has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The replication stream deletes it; the own clock is not looked at.
    ByLog,
    /// A key past its time is gone at the first look.
    ByClock,
}

/// One key in memory.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: KeyId,
    pub value: Value,
    /// Unix time in ms.
    pub expires_at_ms: Option<i64>,
    pub version: i64,
    /// The changes in which this id was made; while they are open, PostgreSQL has no rows for it.
    born: u64,
    /// The last changes that touched it; it stays in memory until they are committed.
    touched: u64,
    /// When it was last used, in ticks.
    used: u64,
    /// When a command last used it, Unix time in ms; 0 when it was loaded since.
    looked_at_ms: i64,
    /// What PostgreSQL shows of it, which has not changed since.
    views: window::Views,
    /// For those who scan its members.
    walk: walk::Walk,
}

impl Entry {
    /// When a command last used it, Unix time in ms.
    pub fn looked_at_ms(&self) -> i64 {
        self.looked_at_ms
    }

    /// Memory held beside the key, roughly, in bytes.
    fn weight(&self) -> usize {
        self.value.weight() + self.views.weight() + self.walk.weight()
    }
}

#[derive(Clone, Debug)]
enum Slot {
    Absent { used: u64 },
    Present(Box<Entry>),
}

#[derive(Debug, Default)]
struct DbSpace {
    slots: slots::Slots,
    /// Every key that PostgreSQL has is in `slots`: what is not there does not exist.
    whole: bool,
}

#[derive(Debug)]
pub struct Keyspace {
    dbs: HashMap<Db, DbSpace>,
    /// A database that was never looked at is whole too (a new schema; tests).
    new_dbs_whole: bool,
    changes: Changes,
    steps: Vec<Step>,
    /// The databases swapped in `steps`: until these are taken, the store has the former numbers.
    swaps: Vec<(Db, Db)>,
    /// Where the values are now that were renamed or moved in `steps`, by the place in which the
    /// store still has them: only those that are partly in memory, since no other is loaded again.
    /// So no two of them have one place.
    moved: HashMap<(Db, Bytes), (Db, Bytes), ahash::RandomState>,
    /// Numbers the changes; `changes` is number `seq`.
    seq: u64,
    /// The last changes that the store has.
    committed: u64,
    next_id: KeyId,
    tick: u64,
    /// Bytes added since the last sweep, roughly.
    grown: usize,
    undo: savepoint::UndoLog,
    /// How many keys there are, in memory or not; `None`: nobody has said.
    census: Option<census::Census>,
    /// Names that come to stand for something else are listed in the delta.
    notes_names: bool,
    journal: journal::Journal,
    /// Mutations so far, to check that `NotLoaded` comes before the first of a command.
    mutations: u64,
    pub expiry: Expiry,
    /// What is looked at counts as used (`OBJECT IDLETIME`).
    pub leaves_marks: bool,
    /// Reads of values with more elements ask for windows where these are enough; `u64::MAX`: none does.
    pub large: u64,
    /// The clock as the caller sees it, Unix time in ms.
    pub now_ms: i64,
    pub rng: SmallRng,
    /// Entries of a stream that Redis keeps together; `~` trims only so many at once.
    pub stream_node: u64,
    /// How many databases a client may select.
    pub databases_configured: u32,
}

impl Keyspace {
    /// A view onto a store whose greatest key id is below `next_id`. With `whole`, nothing is stored.
    pub fn new(next_id: KeyId, whole: bool, expiry: Expiry, seed: u64) -> Keyspace {
        Keyspace {
            dbs: HashMap::new(),
            new_dbs_whole: whole,
            changes: Changes::default(),
            steps: Vec::new(),
            swaps: Vec::new(),
            moved: HashMap::default(),
            seq: 1,
            committed: 0,
            next_id,
            tick: 1,
            grown: 0,
            mutations: 0,
            undo: savepoint::UndoLog::default(),
            census: None,
            notes_names: false,
            journal: journal::Journal::default(),
            expiry,
            leaves_marks: true,
            large: u64::MAX,
            now_ms: 0,
            rng: SmallRng::seed_from_u64(seed),
            stream_node: 100,
            databases_configured: 16,
        }
    }

    /// From here on, deltas tell which names stand for another value or for none.
    pub fn note_names(&mut self) {
        self.notes_names = true;
    }

    fn rebind(&mut self, db: Db, key: &Bytes) {
        if self.notes_names {
            self.changes.rebound.insert((db, key.clone()));
        }
    }

    pub fn mutations(&self) -> u64 {
        self.mutations
    }

    /// The key's entry, `None` when it is known to be absent. `part` is what the need will say when
    /// the key is not in memory at all.
    fn entry(
        &mut self,
        db: Db,
        key: &Bytes,
        part: impl FnOnce() -> Part,
    ) -> Answer<Option<&mut Entry>> {
        self.expire_if_due(db, key);
        let new_dbs_whole = self.new_dbs_whole;
        let space = self
            .dbs
            .entry(db)
            .or_insert_with(|| DbSpace { whole: new_dbs_whole, ..DbSpace::default() });
        match space.slots.get_mut(key) {
            Some(Slot::Present(entry)) => {
                entry.used = self.tick;
                if self.leaves_marks || entry.looked_at_ms == 0 {
                    entry.looked_at_ms = self.now_ms;
                }
                Ok(Some(entry))
            }
            Some(Slot::Absent { used }) => {
                *used = self.tick;
                Ok(None)
            }
            None if space.whole => Ok(None),
            None => Err(Stop::need(db, key, part())),
        }
    }

    fn expire_if_due(&mut self, db: Db, key: &Bytes) {
        if self.expiry == Expiry::ByLog {
            return;
        }
        let expires_at_ms = self.peek(db, key).and_then(|entry| entry.expires_at_ms);
        if expires_at_ms.is_some_and(|at_ms| self.is_past(at_ms)) {
            self.discard(db, key);
            if self.is_heard() {
                self.event(Class::Expired, "expired", db, key);
                self.happen(Happened::Changed { db, key: key.clone(), by: 0 });
            }
        }
    }

    /// True when a key with this expiry (Unix time in ms) is no longer there.
    pub fn is_past(&self, at_ms: i64) -> bool {
        at_ms < self.past_before()
    }

    /// Keys with an expiry below this one (Unix time in ms) are no longer there.
    fn past_before(&self) -> i64 {
        match self.expiry {
            Expiry::ByClock => self.now_ms,
            Expiry::ByLog => i64::MIN,
        }
    }

    /// The entry if it is in memory, without any side effect.
    pub fn peek(&self, db: Db, key: &[u8]) -> Option<&Entry> {
        match self.dbs.get(&db)?.slots.get(key)? {
            Slot::Present(entry) => Some(entry),
            Slot::Absent { .. } => None,
        }
    }

    /// True when it is known that there is no such key.
    pub fn is_absent(&self, db: Db, key: &[u8]) -> bool {
        match self.dbs.get(&db) {
            Some(space) => match space.slots.get(key) {
                Some(slot) => matches!(slot, Slot::Absent { .. }),
                None => space.whole,
            },
            None => self.new_dbs_whole,
        }
    }

    /// The type of the value, `None` when there is no such key.
    pub fn kind(&mut self, db: Db, key: &Bytes) -> Answer<Option<Kind>> {
        Ok(self.entry(db, key, || Part::Meta)?.map(|entry| entry.value.kind()))
    }

    /// The length of a value of type `kind`; 0 when there is no such key.
    pub fn len(&mut self, db: Db, key: &Bytes, kind: Kind) -> Answer<u64> {
        Ok(self.typed(db, key, kind, || Part::Meta)?.map_or(0, |value| value.len()))
    }

    /// The value, which has to be of type `kind`.
    fn typed(
        &mut self,
        db: Db,
        key: &Bytes,
        kind: Kind,
        part: impl FnOnce() -> Part,
    ) -> Answer<Option<&mut Value>> {
        match self.entry(db, key, part)? {
            None => Ok(None),
            Some(entry) if entry.value.kind() == kind => Ok(Some(&mut entry.value)),
            Some(_) => Err(Stop::WRONG_TYPE),
        }
    }

    /// The complete value of any type.
    pub fn whole_value(&mut self, db: Db, key: &Bytes) -> Answer<Option<&Entry>> {
        match self.entry(db, key, || Part::All)? {
            None => Ok(None),
            Some(entry) if entry.value.is_complete() => Ok(Some(entry)),
            Some(_) => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// Unix time in ms at which the key expires; outer `None`: no such key.
    pub fn expires_at(&mut self, db: Db, key: &Bytes) -> Answer<Option<Option<i64>>> {
        Ok(self.entry(db, key, || Part::Meta)?.map(|entry| entry.expires_at_ms))
    }

    /// Sets or removes the expiry; false when there is no such key.
    pub fn set_expiry(&mut self, db: Db, key: &Bytes, at_ms: Option<i64>) -> Answer<bool> {
        let Some(entry) = self.entry(db, key, || Part::Meta)? else { return Ok(false) };
        if entry.expires_at_ms != at_ms {
            self.write_expiry(db, key, at_ms);
            self.change(db, key, |_, _| ());
        }
        Ok(true)
    }

    /// Has the key look unused for this long.
    pub fn set_idle(&mut self, db: Db, key: &Bytes, seconds: i64) {
        let now_ms = self.now_ms;
        let slot = self.dbs.get_mut(&db).and_then(|space| space.slots.get_mut(key));
        if let Some(Slot::Present(entry)) = slot {
            entry.looked_at_ms = now_ms.saturating_sub(seconds.saturating_mul(1000)).max(1);
        }
    }

    /// Sets the expiry of a key that is there; the caller changes it afterwards.
    fn write_expiry(&mut self, db: Db, key: &Bytes, at_ms: Option<i64>) {
        self.keep(db, key);
        let slot = self.dbs.get_mut(&db).and_then(|space| space.slots.get_mut(key));
        if let Some(Slot::Present(entry)) = slot {
            let before = std::mem::replace(&mut entry.expires_at_ms, at_ms);
            self.count_expiry(db, before.is_some(), at_ms.is_some());
        }
    }

    /// Removes the key; false when there is none.
    pub fn remove(&mut self, db: Db, key: &Bytes) -> Answer<bool> {
        let there = self.entry(db, key, || Part::Meta)?.is_some();
        if there {
            self.drop_key(db, key);
        }
        Ok(there)
    }

    /// Replaces whatever is at `key` by a complete value. An empty collection removes the key.
    pub fn put(
        &mut self,
        db: Db,
        key: &Bytes,
        value: Value,
        expires_at_ms: Option<i64>,
    ) -> Answer<()> {
        debug_assert!(value.is_complete());
        self.entry(db, key, || Part::Meta)?;
        self.drop_key(db, key);
        if value.is_empty() && value.kind() != Kind::Stream {
            return Ok(());
        }
        self.grown += value.weight() + key.len();
        self.insert(db, key, value, expires_at_ms);
        self.change(db, key, |value, rows| *rows = change::all_rows(value));
        Ok(())
    }

    /// Moves a value to another name or database, replacing what is there.
    /// False when there is no source.
    pub fn rename(&mut self, from: (Db, &Bytes), to: (Db, &Bytes)) -> Answer<bool> {
        if self.entry(from.0, from.1, || Part::Meta)?.is_none() {
            return Ok(false);
        }
        self.entry(to.0, to.1, || Part::Meta)?;
        if from == to {
            return Ok(true);
        }
        self.keep_all(to.0, to.1);
        self.drop_key(to.0, to.1);
        let Some(entry) = self.take_entry(from.0, from.1) else { return Ok(false) };
        self.touch(from.0, from.1, What::Gone);
        let id = entry.id;
        self.rebind(to.0, to.1);
        let stored = self.stored(from.0, from.1);
        if !self.moved.is_empty() {
            // It may have been moved in part and be complete since.
            self.keep_places();
            self.moved.retain(|_, place| (place.0, &place.1) != from);
        }
        if !entry.value.is_complete() {
            self.keep_places();
            self.moved.insert(stored, (to.0, to.1.clone()));
        }
        self.count(to.0, 1, entry.expires_at_ms.is_some());
        self.space(to.0).slots.insert(to.1.clone(), Slot::Present(entry));
        self.change(to.0, to.1, |_, _| ());
        if let Some(change) = self.changes.keys.get_mut(&id) {
            change.renamed = true;
            (change.db, change.key) = (to.0, to.1.clone());
        }
        Ok(true)
    }

    /// Records a step that concerns no key.
    pub fn push_step(&mut self, step: Step) {
        self.close_changes();
        self.keep_step();
        self.steps.push(step);
        self.mutations += 1;
    }

    /// The delta since the last call, which has to be committed before anything is loaded, and the number under which
    /// [`Keyspace::sweep`] is told that it is.
    pub fn take_delta(&mut self) -> (Delta, u64) {
        self.close_changes();
        self.swaps.clear();
        self.moved.clear();
        self.tick += 1;
        (Delta { steps: std::mem::take(&mut self.steps) }, self.seq - 1)
    }

    fn close_changes(&mut self) {
        self.keep_closing();
        if !self.changes.is_empty() {
            self.steps.push(Step::Changes(std::mem::take(&mut self.changes)));
        }
        self.seq += 1;
    }
}
