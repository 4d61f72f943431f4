//! Redis's data types, wholly or partly in memory.
//!
//! A value is *complete* when everything of it is in memory; otherwise what is known is right and
//! what is missing raises `NotLoaded`. `len` is always known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use hashbrown::HashMap;
use indexmap::IndexMap;

pub use crate::rdb::StreamId;

/// The type of a value; the discriminant is what PostgreSQL stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Kind {
    String = 1,
    List = 2,
    Set = 3,
    ZSet = 4,
    Hash = 5,
    Stream = 6,
    /// A module's type or one that the engine does not know, kept as its `DUMP` payload.
    Opaque = 7,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::String, Kind::List, Kind::Set, Kind::ZSet, Kind::Hash, Kind::Stream, Kind::Opaque];

    pub fn from_code(code: i16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as i16 == code)
    }

    /// As `TYPE` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::ZSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
            Kind::Opaque => "opaque",
        }
    }
}

/// A score, ordered as Redis orders them; never NaN.
#[derive(Clone, Copy, Debug)]
pub struct Score(pub f64);

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Score {}
impl std::hash::Hash for Score {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // -0 becomes +0.
        (self.0 + 0.0).to_bits().hash(state);
    }
}
impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // -0 and +0 are one score in Redis's order; NaN never gets here.
        self.0.partial_cmp(&other.0).unwrap_or(std::cmp::Ordering::Equal)
    }
}

#[derive(Clone, Debug)]
pub enum Value {
    /// `None`: known to be a string, content not loaded.
    String(Option<Bytes>),
    List(List),
    Set(Members<()>),
    ZSet(ZSet),
    Hash(Members<Bytes>),
    Stream(Box<Stream>),
    /// A complete `DUMP` payload; `None`: not loaded.
    Opaque(Option<Bytes>),
}

impl Value {
    pub fn kind(&self) -> Kind {
        match self {
            Value::String(_) => Kind::String,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::ZSet(_) => Kind::ZSet,
            Value::Hash(_) => Kind::Hash,
            Value::Stream(_) => Kind::Stream,
            Value::Opaque(_) => Kind::Opaque,
        }
    }

    pub fn is_complete(&self) -> bool {
        match self {
            Value::String(value) | Value::Opaque(value) => value.is_some(),
            Value::List(list) => list.gap == 0,
            Value::Set(members) => members.complete,
            Value::Hash(members) => members.complete,
            Value::ZSet(zset) => zset.ordered.is_some(),
            Value::Stream(stream) => stream.gap == 0,
        }
    }

    /// Elements, fields, members or entries; 1 for a string.
    pub fn len(&self) -> u64 {
        match self {
            Value::String(_) | Value::Opaque(_) => 1,
            Value::List(list) => list.len(),
            Value::Set(members) => members.len,
            Value::Hash(members) => members.len,
            Value::ZSet(zset) => zset.len,
            Value::Stream(stream) => stream.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, roughly, in bytes.
    pub fn weight(&self) -> usize {
        const SLOT: usize = 64;
        match self {
            Value::String(value) | Value::Opaque(value) => value.as_ref().map_or(0, Bytes::len),
            Value::List(list) => {
                list.front.iter().chain(&list.back).map(|(_, value)| value.len() + SLOT).sum()
            }
            Value::Set(members) => members.known.keys().map(|m| m.len() + SLOT).sum(),
            Value::Hash(members) => members
                .known
                .iter()
                .map(|(f, v)| f.len() + v.as_ref().map_or(0, Bytes::len) + SLOT + 16)
                .sum(),
            Value::ZSet(zset) => {
                let slot = if zset.ordered.is_some() { 2 * SLOT } else { SLOT };
                zset.known.keys().map(|m| m.len() + slot).sum()
            }
            Value::Stream(stream) => stream.weight(),
        }
    }
}

/// The members of a hash (`V` = value) or set (`V` = unit).
#[derive(Clone, Debug)]
pub struct Members<V> {
    /// `None`: known to be absent. Holds no `None` when complete. In the order in which they came, as
    /// Redis shows the fields of a small hash.
    pub known: IndexMap<Bytes, Option<V>, ahash::RandomState>,
    pub len: u64,
    pub complete: bool,
}

/// Members up to which the others keep their order when one is removed, which takes time.
pub const ORDERED: usize = 512;

impl<V> Members<V> {
    /// An empty, complete value, for a key that is being created.
    pub fn new() -> Members<V> {
        Members { known: IndexMap::default(), len: 0, complete: true }
    }

    /// A value of `len` members of which nothing is loaded.
    pub fn unloaded(len: u64) -> Members<V> {
        Members { known: IndexMap::default(), len, complete: len == 0 }
    }

    /// `None`: not loaded. `Some(None)`: known to be absent.
    pub fn get(&self, member: &[u8]) -> Option<Option<&V>> {
        match self.known.get(member) {
            Some(value) => Some(value.as_ref()),
            None if self.complete => Some(None),
            None => None,
        }
    }

    /// Sets a member whose presence is known; true when it is new.
    pub fn insert(&mut self, member: Bytes, value: V) -> bool {
        let new = !matches!(self.known.insert(member, Some(value)), Some(Some(_)));
        self.len += u64::from(new);
        new
    }

    /// Removes a member whose presence is known; true when it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let there = if self.complete {
            match self.known.len() <= ORDERED {
                true => self.known.shift_remove(member).is_some(),
                false => self.known.swap_remove(member).is_some(),
            }
        } else {
            self.known.get_mut(member).is_some_and(|slot| slot.take().is_some())
        };
        self.len -= u64::from(there);
        there
    }

    /// The members there are. Meaningful only when complete.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &V)> {
        self.known.iter().filter_map(|(member, value)| Some((member, value.as_ref()?)))
    }
}

impl<V> Default for Members<V> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Debug, Default)]
pub struct ZSet {
    /// `None`: known to be absent.
    pub known: HashMap<Bytes, Option<f64>, ahash::RandomState>,
    /// All members by score, then by bytes. Present when complete.
    pub ordered: Option<BTreeSet<(Score, Bytes)>>,
    pub len: u64,
    /// It was once too large for a listpack since it is in memory: in Redis it stays a skiplist.
    pub skiplist: bool,
}

impl ZSet {
    pub fn new() -> ZSet {
        ZSet { ordered: Some(BTreeSet::new()), ..ZSet::default() }
    }

    pub fn unloaded(len: u64) -> ZSet {
        ZSet { len, ..ZSet::default() }
    }

    /// `None`: not loaded. `Some(None)`: known to be absent.
    pub fn score(&self, member: &[u8]) -> Option<Option<f64>> {
        match self.known.get(member) {
            Some(score) => Some(*score),
            None if self.ordered.is_some() => Some(None),
            None => None,
        }
    }

    /// Sets a member whose presence is known; the old score.
    pub fn insert(&mut self, member: Bytes, score: f64) -> Option<f64> {
        let old = self.known.insert(member.clone(), Some(score)).flatten();
        if let Some(ordered) = &mut self.ordered {
            if let Some(old) = old {
                ordered.remove(&(Score(old), member.clone()));
            }
            ordered.insert((Score(score), member));
        }
        self.len += u64::from(old.is_none());
        old
    }

    /// Removes a member whose presence is known; its score.
    pub fn remove(&mut self, member: &Bytes) -> Option<f64> {
        let old = match &mut self.ordered {
            Some(ordered) => {
                let old = self.known.remove(member).flatten()?;
                ordered.remove(&(Score(old), member.clone()));
                old
            }
            None => self.known.get_mut(member)?.take()?,
        };
        self.len -= 1;
        Some(old)
    }
}

/// A list: elements at growing, possibly sparse positions, so that a push is one row.
/// `front` and `back` are known; between them lie `gap` elements that are not loaded.
/// With `gap == 0` everything is in `front`.
#[derive(Clone, Debug, Default)]
pub struct List {
    pub front: VecDeque<(i64, Bytes)>,
    pub back: VecDeque<(i64, Bytes)>,
    pub gap: u64,
    /// Position of the first and the last element; of an empty list: where the first push goes.
    pub head: i64,
    pub tail: i64,
}

impl List {
    pub fn unloaded(len: u64, head: i64, tail: i64) -> List {
        List { gap: len, head, tail, ..List::default() }
    }

    pub fn len(&self) -> u64 {
        self.gap + self.front.len() as u64 + self.back.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Field and value pairs of a stream entry, flattened: f1, v1, f2, v2, …
pub type EntryFields = Vec<Bytes>;

/// A stream. As with lists, `gap` entries between `front` and `back` may be unloaded;
/// with `gap == 0` everything is in `front`.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub front: BTreeMap<StreamId, EntryFields>,
    pub back: BTreeMap<StreamId, EntryFields>,
    pub gap: u64,
    /// With a gap: entries up to this id were in `front` once; PostgreSQL may still have them.
    pub floor: StreamId,
    pub last_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
    pub groups: BTreeMap<Bytes, Group>,
}

impl Stream {
    pub fn len(&self) -> u64 {
        self.gap + self.front.len() as u64 + self.back.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn weight(&self) -> usize {
        let entries = self.front.values().chain(self.back.values());
        let entries: usize =
            entries.map(|f| f.iter().map(|b| b.len() + 32).sum::<usize>() + 64).sum();
        let groups: usize =
            self.groups.values().map(|g| 128 + 96 * (g.pending.len() + g.consumers.len())).sum();
        entries + groups
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub last_id: StreamId,
    /// `None`: unknown, as Redis's -1.
    pub entries_read: Option<u64>,
    pub pending: BTreeMap<StreamId, Pending>,
    pub consumers: BTreeMap<Bytes, Consumer>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pending {
    pub consumer: Bytes,
    /// Unix time in ms.
    pub delivered_at_ms: i64,
    pub delivery_count: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Consumer {
    /// Unix time in ms.
    pub seen_at_ms: i64,
    /// Unix time in ms; `None`: never (RDB before 11 does not carry it).
    pub active_at_ms: Option<i64>,
}
