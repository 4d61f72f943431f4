use bytes::Bytes;

/// A value of any Redis type, whole.
///
/// Out of [`super::Decoder`] the byte strings may be slices of a larger buffer: what is kept for
/// long should be copied, or it keeps that buffer alive.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    String(Bytes),
    /// From head to tail.
    List(Vec<Bytes>),
    /// In no particular order.
    Set(Vec<Bytes>),
    /// Member and score, in no particular order; a score is never NaN.
    ZSet(Vec<(Bytes, f64)>),
    /// Field and value, in no particular order.
    Hash(Vec<(Bytes, Bytes)>),
    Stream(StreamObject),
    /// A value that is kept as it is: a module's type, or a hash whose fields have expiry times.
    Opaque {
        /// The RDB type byte.
        type_byte: u8,
        /// A complete `DUMP` payload (type byte, body, version, CRC) that `RESTORE` accepts.
        dump: Bytes,
    },
}

impl Object {
    /// The name that `TYPE` answers; for [`Object::Opaque`] `hash` or `module`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Object::String(_) => "string",
            Object::List(_) => "list",
            Object::Set(_) => "set",
            Object::ZSet(_) => "zset",
            Object::Hash(_) => "hash",
            Object::Stream(_) => "stream",
            Object::Opaque { type_byte, .. } if super::types::is_hash(*type_byte) => "hash",
            Object::Opaque { .. } => "module",
        }
    }
}

/// The id of a stream entry: unix time in ms, and a sequence number within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    /// The id above; `None` above the highest.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    pub id: StreamId,
    /// Field and value, in the order of `XADD`; a field may occur twice.
    pub fields: Vec<(Bytes, Bytes)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamObject {
    /// In the order of their ids.
    pub entries: Vec<StreamEntry>,
    pub last_id: StreamId,
    /// `0-0` when there are no entries.
    pub first_id: StreamId,
    pub max_deleted_id: StreamId,
    /// Entries ever added, deleted ones included.
    pub entries_added: u64,
    pub groups: Vec<StreamGroup>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamGroup {
    pub name: Bytes,
    /// Last id delivered to the group.
    pub last_id: StreamId,
    /// Logical read counter; `None` when Redis does not know it (`entries-read` is nil).
    pub entries_read: Option<u64>,
    /// Delivered and not acknowledged, in the order of the ids.
    pub pending: Vec<PendingEntry>,
    pub consumers: Vec<StreamConsumer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    pub id: StreamId,
    /// Name of the consumer that owns it.
    pub consumer: Bytes,
    /// Unix time of the last delivery, in ms.
    pub delivery_time_ms: i64,
    pub delivery_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConsumer {
    pub name: Bytes,
    /// Unix time in ms at which it last tried to do something.
    pub seen_time_ms: i64,
    /// Unix time in ms at which it last got something; `None` before Redis 7.2, or when it never did.
    pub active_time_ms: Option<i64>,
}
