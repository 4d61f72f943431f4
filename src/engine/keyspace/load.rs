use bytes::Bytes;

use super::walk::Walk;
use super::window::Views;
use super::{Db, Entry, Keyspace, Need, Slot, View};
use crate::engine::delta::KeyId;
use crate::engine::stop::{Part, Window};
use crate::engine::value::{Kind, List, Members, Stream, Value, ZSet};

/// What the store found for one [`Need`], under the need's own database number and key.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub db: Db,
    pub key: Bytes,
    /// `None`: PostgreSQL has no such key.
    pub found: Option<Found>,
}

/// A key as PostgreSQL has it, with as much of the value as was asked for. `value.len()` is the
/// true length whatever is loaded; asked-for members that are absent are in `known` as `None`.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: KeyId,
    /// Unix time in ms.
    pub expires_at_ms: Option<i64>,
    pub version: i64,
    pub value: Value,
    /// Of a value of which a window was asked for.
    pub view: Option<(Window, View)>,
}

impl Keyspace {
    /// Takes in what was loaded. Memory leads: a key that is in memory keeps what it knows, and a
    /// load that belongs to an older value of it is ignored.
    pub fn load(&mut self, loaded: Loaded) {
        let Loaded { db, key, found } = loaded;
        let (db, key) = match self.moved.get(&(db, key.clone())) {
            Some(place) => place.clone(),
            None => (self.swaps.iter().fold(db, swapped), key),
        };
        let (tick, whole, committed) = (self.tick, self.is_whole(db), self.committed);
        self.grown += key.len() + 128 + found.as_ref().map_or(0, |found| found.value.weight());
        let slots = &mut self.space(db).slots;
        match (slots.get_mut(&key), found) {
            (None, _) if whole => {}
            (Some(Slot::Absent { .. }), _) | (Some(Slot::Present(_)), None) => {}
            (Some(Slot::Present(entry)), Some(found)) if entry.id == found.id => {
                fill(entry, found.value);
                // Of a value that has changed since the store was asked, the view is an old one.
                if let Some((window, view)) = found.view.filter(|_| entry.touched <= committed) {
                    self.grown += entry.views.keep(window, view);
                }
            }
            (Some(Slot::Present(_)), Some(_)) => {}
            (None, None) => slots.insert(key, Slot::Absent { used: tick }),
            (None, Some(found)) => {
                slots.insert(key, Slot::Present(Box::new(loaded_entry(found, tick))));
            }
        }
    }

    /// Takes in what the store has of a key now in place of what is in memory: somebody else may have
    /// changed it there. Only for a keyspace that is not counted, with everything committed.
    pub fn reload(&mut self, loaded: Loaded) {
        let Loaded { db, key, found } = loaded;
        let (tick, whole) = (self.tick, self.is_whole(db));
        let slots = &mut self.space(db).slots;
        slots.remove(&key);
        let Some(found) = found else {
            if !whole {
                slots.insert(key, Slot::Absent { used: tick });
            }
            return;
        };
        self.grown += key.len() + 128 + found.value.weight();
        let entry = loaded_entry(found, tick);
        self.space(db).slots.insert(key, Slot::Present(Box::new(entry)));
    }

    /// Takes in every key that the store has of a database, each with as little of its value as
    /// `Part::Meta` brings. Afterwards the database is whole: what is not there does not exist.
    pub fn load_keys(&mut self, db: Db, keys: impl IntoIterator<Item = (Bytes, Found)>) {
        let here = self.swaps.iter().fold(db, swapped);
        if self.is_whole(here) {
            return;
        }
        for (key, found) in keys {
            self.load(Loaded { db, key, found: Some(found) });
        }
        let space = self.space(here);
        space.slots.retain(|slot| matches!(slot, Slot::Present(_)));
        space.whole = true;
    }

    /// Where the store has a key, which does not know yet what was swapped and renamed lately.
    pub fn stored(&self, db: Db, key: &Bytes) -> (Db, Bytes) {
        let place = self.moved.iter().find(|(_, (to_db, to_key))| (*to_db, to_key) == (db, key));
        match place {
            Some((stored, _)) => stored.clone(),
            None => (self.swaps.iter().rev().fold(db, swapped), key.clone()),
        }
    }

    /// What of a need is not in memory yet, named as the store knows it; `None` when nothing is
    /// missing.
    pub fn lacks(&self, need: &Need) -> Option<Need> {
        let lacking = self.lacking(need)?;
        let (db, key) = self.stored(need.db, &need.key);
        Some(Need { db, key, ..lacking })
    }

    fn lacking(&self, need: &Need) -> Option<Need> {
        if need.part == Part::Keys {
            return (!self.is_whole(need.db)).then(|| need.clone());
        }
        let Some(space) = self.dbs.get(&need.db) else {
            return (!self.new_dbs_whole).then(|| need.clone());
        };
        let entry = match space.slots.get(&need.key) {
            Some(Slot::Present(entry)) => entry,
            Some(Slot::Absent { .. }) => return None,
            None => return (!space.whole).then(|| need.clone()),
        };
        if entry.value.is_complete() {
            return None;
        }
        let part = match need.part.of_length(entry.value.len()) {
            Part::Meta => return None,
            Part::Window(window) if entry.views.of(window).is_some() => return None,
            Part::Members(members) => {
                let unknown = |m: &&Bytes| match &entry.value {
                    Value::Hash(hash) => hash.get(m).is_none(),
                    Value::Set(set) => set.get(m).is_none(),
                    Value::ZSet(zset) => zset.score(m).is_none(),
                    _ => false,
                };
                let missing: Vec<Bytes> = members.iter().filter(unknown).cloned().collect();
                if missing.is_empty() {
                    return None;
                }
                Part::Members(missing)
            }
            other => other.clone(),
        };
        Some(Need { part, ..need.clone() })
    }
}

fn loaded_entry(found: Found, tick: u64) -> Entry {
    let Found { id, expires_at_ms, version, value, view } = found;
    let mut views = Views::default();
    if let Some((window, view)) = view {
        views.keep(window, view);
    }
    Entry {
        id,
        value,
        expires_at_ms,
        version,
        born: 0,
        touched: 0,
        used: tick,
        looked_at_ms: 0,
        views,
        walk: Walk::default(),
    }
}

/// Where a database is after a swap.
pub(super) fn swapped(db: Db, (a, b): &(Db, Db)) -> Db {
    match db {
        db if db == *a => *b,
        db if db == *b => *a,
        db => db,
    }
}

fn fill(entry: &mut Entry, loaded: Value) {
    match (&mut entry.value, loaded) {
        (Value::String(known), Value::String(loaded))
        | (Value::Opaque(known), Value::Opaque(loaded))
            if known.is_none() =>
        {
            *known = loaded;
        }
        (Value::Hash(known), Value::Hash(loaded)) => fill_members(known, loaded),
        (Value::Set(known), Value::Set(loaded)) => fill_members(known, loaded),
        (Value::ZSet(known), Value::ZSet(loaded)) => fill_zset(known, loaded),
        (Value::List(known), Value::List(loaded)) => fill_list(known, loaded),
        (Value::Stream(known), Value::Stream(loaded)) => fill_stream(known, *loaded),
        _ => {}
    }
}

fn fill_members<V>(known: &mut Members<V>, loaded: Members<V>) {
    if known.complete {
        return;
    }
    for (member, value) in loaded.known {
        known.known.entry(member).or_insert(value);
    }
    if loaded.complete {
        known.known.retain(|_, value| value.is_some());
        known.complete = true;
    }
}

fn fill_zset(known: &mut ZSet, loaded: ZSet) {
    if known.ordered.is_some() {
        return;
    }
    for (member, score) in loaded.known {
        known.known.entry(member).or_insert(score);
    }
    if loaded.ordered.is_some() {
        known.known.retain(|_, score| score.is_some());
        let ordered = known
            .known
            .iter()
            .filter_map(|(m, s)| Some((super::super::value::Score((*s)?), m.clone())));
        known.ordered = Some(ordered.collect());
    }
}

/// Fills the gap from whichever side the loaded elements touch it. The store orders elements by
/// position and puts those of a front (or of everything) into `front`, those of a back into `back`.
fn fill_list(known: &mut List, loaded: List) {
    if known.gap == 0 {
        return;
    }
    let after = known.front.back().map_or(known.head.saturating_sub(1), |(pos, _)| *pos);
    let before = known.back.front().map_or(known.tail.saturating_add(1), |(pos, _)| *pos);
    let in_gap = |pos: i64| pos > after && pos < before;
    for (pos, element) in loaded.front {
        if in_gap(pos) && known.gap > 0 {
            known.front.push_back((pos, element));
            known.gap -= 1;
        }
    }
    let after = known.front.back().map_or(after, |(pos, _)| *pos);
    for (pos, element) in loaded.back.into_iter().rev() {
        if pos > after && pos < before && known.gap > 0 {
            known.back.push_front((pos, element));
            known.gap -= 1;
        }
    }
    if known.gap == 0 {
        let back = std::mem::take(&mut known.back);
        known.front.extend(back);
    }
}

/// Loaded entries are the oldest ones that were not known, in `front`.
fn fill_stream(known: &mut Stream, loaded: Stream) {
    if known.gap == 0 {
        return;
    }
    let after = known.known_below();
    let before = known.back.first_key_value().map(|(id, _)| *id);
    for (id, fields) in loaded.front {
        if id > after && before.is_none_or(|before| id < before) && known.gap > 0 {
            known.front.insert(id, fields);
            known.gap -= 1;
        }
    }
    if known.gap == 0 {
        let mut back = std::mem::take(&mut known.back);
        known.front.append(&mut back);
    }
}

impl Found {
    pub fn kind(&self) -> Kind {
        self.value.kind()
    }
}
