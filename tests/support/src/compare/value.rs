use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A key in its database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName {
    pub db: i32,
    pub key: Vec<u8>,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.db, self.key.escape_ascii())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unix time in ms.
    pub expires_at_ms: Option<i64>,
    pub value: Value,
}

/// `(milliseconds, sequence)`.
pub type StreamId = (u64, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    /// Scores as the bits of a double; their order follows from score and member.
    ZSet(BTreeMap<Vec<u8>, u64>),
    List(Vec<Vec<u8>>),
    Stream(Box<Stream>),
    /// A type of a module, as `DUMP` gives it.
    Other(Vec<u8>),
    /// The source of a function library; its "key" is the library's name, in the database [`FUNCTIONS`].
    Function(Vec<u8>),
}

/// Function libraries belong to no database.
pub const FUNCTIONS: i32 = -1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub entries: BTreeMap<StreamId, Vec<Vec<u8>>>,
    pub last_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
    pub groups: BTreeMap<Vec<u8>, Group>,
}

/// A consumer group. When a consumer was last seen, and how many entries a group has read, do not travel in the
/// log (Redis's own replicas have them otherwise than their master), so they are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub last_id: StreamId,
    pub consumers: BTreeSet<Vec<u8>>,
    /// Entry → consumer, delivery time in Unix ms, number of deliveries.
    pub pending: BTreeMap<StreamId, (Vec<u8>, i64, i64)>,
}

impl Value {
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::ZSet(_) => "zset",
            Value::List(_) => "list",
            Value::Stream(_) => "stream",
            Value::Other(_) => "module type",
            Value::Function(_) => "function library",
        }
    }

    /// What `keys.len` counts.
    pub fn count(&self) -> Option<i64> {
        let len = match self {
            Value::String(_) | Value::Function(_) => 1,
            Value::Hash(fields) => fields.len(),
            Value::Set(members) => members.len(),
            Value::ZSet(members) => members.len(),
            Value::List(items) => items.len(),
            Value::Stream(stream) => stream.entries.len(),
            Value::Other(_) => return None,
        };
        i64::try_from(len).ok()
    }
}
