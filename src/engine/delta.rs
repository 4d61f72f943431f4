//! What commands have changed, merged per key, for the store to persist in one transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use super::Db;
use super::value::{Consumer, EntryFields, Kind, Pending, StreamId};

/// The identity of a value in PostgreSQL: rows hang on it, not on the key's name, so a rename is one
/// row and a replaced value never mixes with the old one. Allocated by the engine, never reused.
pub type KeyId = i64;

/// Everything since the last [`super::Keyspace::take_delta`], in order.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    pub steps: Vec<Step>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Steps are applied one after the other; within [`Changes`] the order does not matter.
#[derive(Clone, Debug)]
pub enum Step {
    Changes(Changes),
    FlushDb(Db),
    FlushAll,
    SwapDb(Db, Db),
    /// A function library was loaded or replaced (its source), or deleted (`None`).
    Function(Bytes, Option<Bytes>),
    FlushFunctions,
}

/// The merged changes of many commands.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Values that are gone, with their type: the key's row and all rows of that type go.
    /// Applied before `keys`.
    pub dropped: HashMap<KeyId, Kind>,
    pub keys: HashMap<KeyId, KeyChange>,
    /// Names that have come to stand for another value, or for none; only when
    /// [`super::Keyspace::note_names`] has asked for them.
    pub rebound: HashSet<(Db, Bytes)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.keys.is_empty()
    }
}

/// One key after the change, and its changed rows.
#[derive(Clone, Debug)]
pub struct KeyChange {
    pub db: Db,
    pub key: Bytes,
    pub kind: Kind,
    /// Unix time in ms.
    pub expires_at_ms: Option<i64>,
    pub len: u64,
    /// Counts the transactions that touched the key.
    pub version: i64,
    /// PostgreSQL has no rows for this id yet.
    pub created: bool,
    /// Its database or name is another than PostgreSQL has.
    pub renamed: bool,
    pub rows: Rows,
    /// Of a list: its ends before and after.
    pub ends: Option<[ListEnds; 2]>,
}

/// Position of the first and the last element of a list.
pub type ListEnds = (i64, i64);

/// Changed rows by type; in maps, `None` means the row is gone.
#[derive(Clone, Debug)]
pub enum Rows {
    /// `None`: the content is as it was (only the key's own row changed).
    String(Option<Bytes>),
    /// By position.
    List(BTreeMap<i64, Option<Bytes>>),
    Set(HashMap<Bytes, Option<()>>),
    ZSet(HashMap<Bytes, Option<f64>>),
    Hash(HashMap<Bytes, Option<Bytes>>),
    Stream(Box<StreamRows>),
    Opaque(Option<Bytes>),
}

/// Changed rows of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamRows {
    /// The stream's own row after the change.
    pub last_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
    pub entries: BTreeMap<StreamId, Option<EntryFields>>,
    /// `None`: the group is gone, with its consumers and pending entries.
    /// A group that is destroyed and made again is listed in `reset_groups` too.
    pub groups: BTreeMap<Bytes, Option<GroupRow>>,
    /// Groups whose former consumers and pending entries go before those below are written.
    pub reset_groups: Vec<Bytes>,
    /// By group and consumer name.
    pub consumers: BTreeMap<(Bytes, Bytes), Option<Consumer>>,
    /// By group and entry id.
    pub pending: BTreeMap<(Bytes, StreamId), Option<Pending>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupRow {
    pub last_id: StreamId,
    pub entries_read: Option<u64>,
}

impl Rows {
    pub fn none(kind: Kind) -> Rows {
        match kind {
            Kind::String => Rows::String(None),
            Kind::List => Rows::List(BTreeMap::new()),
            Kind::Set => Rows::Set(HashMap::new()),
            Kind::ZSet => Rows::ZSet(HashMap::new()),
            Kind::Hash => Rows::Hash(HashMap::new()),
            Kind::Stream => Rows::Stream(Box::default()),
            Kind::Opaque => Rows::Opaque(None),
        }
    }
}
