//! The body of a value, complete in memory, into an [`Object`].

use ahash::AHashSet;
use bytes::Bytes;

use super::cursor::{Cursor, Fault, parse_double};
use super::error::RdbErrorKind;
use super::packed::{self, Entry};
use super::types::*;
use super::{Object, dump, stream};

/// Never reserve more for a count that only the data vouches for.
const MAX_RESERVE: usize = 4096;

/// Decodes a body whose length [`super::shape::Scanner`] has found. `version` goes into the dump of
/// a value that is kept opaque.
pub(super) fn decode(type_byte: u8, body: &Bytes, version: u16) -> Result<Object, RdbErrorKind> {
    let mut cursor = Cursor::new(body, 0);
    let object = object(type_byte, body, &mut cursor, version);
    check(object.map_err(|fault| fault.at_end("a value"))?)
}

fn bad(what: &'static str, problem: &'static str) -> RdbErrorKind {
    RdbErrorKind::BadEncoding { what, problem }
}

fn object(
    type_byte: u8,
    body: &Bytes,
    cursor: &mut Cursor<'_>,
    version: u16,
) -> Result<Object, Fault> {
    let text = |cursor: &mut Cursor<'_>| cursor.string(body);
    Ok(match type_byte {
        STRING => Object::String(text(cursor)?),
        LIST => Object::List(repeat(cursor, text)?),
        SET => Object::Set(repeat(cursor, text)?),
        ZSET => Object::ZSet(repeat(cursor, |c| Ok((text(c)?, c.text_double()?)))?),
        ZSET_2 => Object::ZSet(repeat(cursor, |c| Ok((text(c)?, c.f64_le()?)))?),
        HASH => Object::Hash(repeat(cursor, |c| Ok((text(c)?, text(c)?)))?),
        HASH_ZIPMAP => Object::Hash(packed::zipmap(&text(cursor)?)?),
        LIST_ZIPLIST => Object::List(plain(packed::ziplist(&text(cursor)?)?)),
        SET_INTSET => Object::Set(packed::intset(&text(cursor)?)?),
        ZSET_ZIPLIST => Object::ZSet(scored(packed::ziplist(&text(cursor)?)?)?),
        HASH_ZIPLIST => Object::Hash(pairs(packed::ziplist(&text(cursor)?)?)?),
        HASH_LISTPACK => Object::Hash(pairs(packed::listpack(&text(cursor)?)?)?),
        ZSET_LISTPACK => Object::ZSet(scored(packed::listpack(&text(cursor)?)?)?),
        SET_LISTPACK => Object::Set(plain(packed::listpack(&text(cursor)?)?)),
        LIST_QUICKLIST => {
            let nodes = repeat(cursor, |c| Ok(packed::ziplist(&text(c)?)?))?;
            Object::List(nodes.into_iter().flat_map(plain).collect())
        }
        LIST_QUICKLIST_2 => Object::List(quicklist_2(body, cursor)?),
        STREAM_LISTPACKS | STREAM_LISTPACKS_2 | STREAM_LISTPACKS_3 => {
            Object::Stream(stream::decode(type_byte, body, cursor)?)
        }
        MODULE_2 | HASH_METADATA_PRE_GA..=HASH_LISTPACK_EX => {
            Object::Opaque { type_byte, dump: dump::seal_dump(type_byte, body, version) }
        }
        MODULE_PRE_GA => return Err(RdbErrorKind::ModuleVersion1.into()),
        other => return Err(RdbErrorKind::UnknownType(other).into()),
    })
}

/// A count, then that many times what `one` reads.
pub(super) fn repeat<T>(
    cursor: &mut Cursor<'_>,
    mut one: impl FnMut(&mut Cursor<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let count = cursor.length()?;
    if count > cursor.remaining() as u64 {
        return Err(bad("count", "more elements than bytes").into());
    }
    let mut items = Vec::with_capacity((count as usize).min(MAX_RESERVE));
    for _ in 0..count {
        items.push(one(cursor)?);
    }
    Ok(items)
}

fn quicklist_2(body: &Bytes, cursor: &mut Cursor<'_>) -> Result<Vec<Bytes>, Fault> {
    const PLAIN: u64 = 1;
    const PACKED: u64 = 2;
    let mut items = Vec::new();
    for _ in 0..cursor.length()? {
        match cursor.length()? {
            PLAIN => items.push(cursor.string(body)?),
            PACKED => {
                let node = cursor.string(body)?;
                let mut list = packed::Listpack::new(&node)?;
                while let Some(entry) = list.next()? {
                    items.push(entry.into_bytes());
                }
            }
            _ => return Err(bad("quicklist", "unknown kind of node").into()),
        }
    }
    Ok(items)
}

fn plain(entries: Vec<Entry>) -> Vec<Bytes> {
    entries.into_iter().map(Entry::into_bytes).collect()
}

fn pairs(entries: Vec<Entry>) -> Result<Vec<(Bytes, Bytes)>, RdbErrorKind> {
    in_twos(entries, "hash", |value| Ok(value.into_bytes()))
}

fn scored(entries: Vec<Entry>) -> Result<Vec<(Bytes, f64)>, RdbErrorKind> {
    in_twos(entries, "sorted set", |score| match score {
        Entry::Number(number) => Ok(number as f64),
        Entry::Text(text) => parse_double(&text).ok_or(bad("score", "not a number")),
    })
}

fn in_twos<T>(
    entries: Vec<Entry>,
    what: &'static str,
    second: impl Fn(Entry) -> Result<T, RdbErrorKind>,
) -> Result<Vec<(Bytes, T)>, RdbErrorKind> {
    let mut pairs = Vec::with_capacity(entries.len() / 2);
    let mut entries = entries.into_iter();
    while let Some(first) = entries.next() {
        let value = entries.next().ok_or(bad(what, "an odd number of entries"))?;
        pairs.push((first.into_bytes(), second(value)?));
    }
    Ok(pairs)
}

/// What no value of Redis has: no elements, an element twice, a score that is not a number.
fn check(object: Object) -> Result<Object, RdbErrorKind> {
    let (what, count, unique) = match &object {
        Object::List(items) => ("list", items.len(), true),
        Object::Set(members) => ("set", members.len(), all_differ(members, |m| m)),
        Object::Hash(fields) => ("hash", fields.len(), all_differ(fields, |(field, _)| field)),
        Object::ZSet(members) => {
            if members.iter().any(|(_, score)| score.is_nan()) {
                return Err(bad("score", "not a number"));
            }
            ("sorted set", members.len(), all_differ(members, |(member, _)| member))
        }
        Object::String(_) | Object::Stream(_) | Object::Opaque { .. } => return Ok(object),
    };
    if count == 0 {
        return Err(RdbErrorKind::Empty(what));
    }
    if !unique {
        return Err(bad(what, "an element occurs twice"));
    }
    Ok(object)
}

fn all_differ<T>(items: &[T], key: impl Fn(&T) -> &Bytes) -> bool {
    const FEW: usize = 12;
    if items.len() <= FEW {
        let later = |at: usize| items[at + 1..].iter();
        return (0..items.len()).all(|at| later(at).all(|other| key(other) != key(&items[at])));
    }
    let mut seen = AHashSet::with_capacity(items.len());
    items.iter().all(|item| seen.insert(key(item)))
}
