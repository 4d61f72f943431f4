//! How Redis 7.0 with its default settings would keep a value that is written at once. It shows in
//! `OBJECT ENCODING`, and in that the small ones are scanned in one step.

use super::number::parse_int;
use super::value::{Members, Value, ZSet};

pub const LISTPACK: &str = "listpack";
pub const INTSET: &str = "intset";

/// The longest element of a small collection in bytes.
const SMALL_ELEMENT: usize = 64;
const SMALL_HASH: usize = 512;
const SMALL_INTSET: usize = 512;
const SMALL_ZSET: usize = 128;
/// The longest string that is kept in one piece with its header.
const EMBEDDED: usize = 44;

/// Of a complete value.
pub fn of(value: &Value) -> &'static str {
    match value {
        Value::String(content) => of_string(content.as_deref().unwrap_or_default()),
        Value::List(_) => "quicklist",
        Value::Set(set) => of_set(set),
        Value::ZSet(zset) => of_zset(zset),
        Value::Hash(hash) => of_hash(hash),
        Value::Stream(_) => "stream",
        Value::Opaque(_) => "raw",
    }
}

fn of_string(content: &[u8]) -> &'static str {
    if parse_int(content).is_some() {
        "int"
    } else if content.len() <= EMBEDDED {
        "embstr"
    } else {
        "raw"
    }
}

pub fn of_hash(hash: &Members<bytes::Bytes>) -> &'static str {
    let small = |(field, value): (&bytes::Bytes, &bytes::Bytes)| {
        field.len() <= SMALL_ELEMENT && value.len() <= SMALL_ELEMENT
    };
    if hash.known.len() <= SMALL_HASH && hash.iter().all(small) { LISTPACK } else { "hashtable" }
}

pub fn of_set(set: &Members<()>) -> &'static str {
    let integers = || set.iter().all(|(member, ())| parse_int(member).is_some());
    if set.known.len() <= SMALL_INTSET && integers() { INTSET } else { "hashtable" }
}

pub fn of_zset(zset: &ZSet) -> &'static str {
    let small = |member: &bytes::Bytes| member.len() <= SMALL_ELEMENT;
    if !zset.skiplist && zset.known.len() <= SMALL_ZSET && zset.known.keys().all(small) {
        LISTPACK
    } else {
        "skiplist"
    }
}
