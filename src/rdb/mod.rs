//! The RDB format: a streaming decoder, and the codec of `DUMP` payloads.
//! Source: `rdb.c` and `rdb.h` of Redis 5 to 7.4 and Valkey 8 (RDB versions up to 12).

mod crc64;
mod cursor;
mod decoder;
mod dump;
mod encode;
mod error;
mod lzf;
mod object;
mod packed;
mod shape;
mod stream;
pub mod types;
mod value;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use decoder::Decoder;
pub use dump::{decode_dump, decode_functions, encode_dump, encode_functions, seal_dump};
pub use error::{RdbError, RdbErrorKind};
pub use object::{
    Object, PendingEntry, StreamConsumer, StreamEntry, StreamGroup, StreamId, StreamObject,
};

/// What an RDB file consists of, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `redis-ver`, `repl-stream-db`, `repl-id`, `repl-offset` and the like.
    Aux { key: Bytes, value: Bytes },
    /// The keys that follow are in this database.
    SelectDb(u32),
    /// A hint: how many keys the database has, and how many of them expire.
    ResizeDb { keys: u64, expires: u64 },
    /// Source of a function library, as `FUNCTION LOAD` takes it.
    Function(Bytes),
    Key {
        key: Bytes,
        /// Unix time in ms.
        expire_at_ms: Option<i64>,
        value: Object,
    },
    /// A module's own data beside the keyspace; skipped.
    ModuleAux,
    /// The last item; the checksum was right, or absent.
    End {
        /// False when the writer has `rdbchecksum no`, or for versions before 5.
        checksummed: bool,
    },
}
