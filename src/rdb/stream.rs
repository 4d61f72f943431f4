//! Streams: nodes of a radix tree, each a listpack of entries that share a master entry, then the
//! groups with their pending entries. Source: `t_stream.c` and `rdb.c` of Redis 7.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::cursor::{Cursor, Fault};
use super::error::RdbErrorKind;
use super::packed::Listpack;
use super::types::{STREAM_LISTPACKS, STREAM_LISTPACKS_3};
use super::value::repeat;
use super::{PendingEntry, StreamConsumer, StreamEntry, StreamGroup, StreamId, StreamObject};

pub(super) const FLAG_DELETED: i64 = 1;
pub(super) const FLAG_SAME_FIELDS: i64 = 2;

/// Fields for which room is made at once; a count alone does not get more.
const FEW: usize = 16;

fn bad(problem: &'static str) -> RdbErrorKind {
    RdbErrorKind::BadEncoding { what: "stream", problem }
}

pub(super) fn decode(
    type_byte: u8,
    body: &Bytes,
    cursor: &mut Cursor<'_>,
) -> Result<StreamObject, Fault> {
    let first_form = type_byte == STREAM_LISTPACKS;
    let mut stream = StreamObject::default();
    for _ in 0..cursor.length()? {
        let key = cursor.string(body)?;
        let master = raw_id(key.as_ref().try_into().map_err(|_| bad("a node key of wrong size"))?);
        node(master, &cursor.string(body)?, &mut stream.entries)?;
    }
    let length = cursor.length()?;
    if length != stream.entries.len() as u64 {
        return Err(bad("its length is not the number of its entries").into());
    }
    stream.last_id = id(cursor)?;
    if first_form {
        stream.first_id = stream.entries.first().map(|entry| entry.id).unwrap_or_default();
        stream.entries_added = length;
    } else {
        stream.first_id = id(cursor)?;
        stream.max_deleted_id = id(cursor)?;
        stream.entries_added = cursor.length()?;
    }
    if stream.entries.last().is_some_and(|entry| entry.id > stream.last_id) {
        return Err(bad("an entry behind the last id").into());
    }
    let groups = repeat(cursor, |cursor| group(type_byte, body, cursor, &stream))?;
    stream.groups = groups;
    Ok(stream)
}

fn id(cursor: &mut Cursor<'_>) -> Result<StreamId, Fault> {
    Ok(StreamId { ms: cursor.length()?, seq: cursor.length()? })
}

fn raw_id(bytes: [u8; 16]) -> StreamId {
    let both = u128::from_be_bytes(bytes);
    StreamId { ms: (both >> 64) as u64, seq: both as u64 }
}

/// A node: valid entries, deleted entries, the master entry's fields, 0; then the entries, each as
/// flags, id relative to `master`, its fields or only their values, and the number of its parts.
fn node(
    master: StreamId,
    listpack: &Bytes,
    entries: &mut Vec<StreamEntry>,
) -> Result<(), RdbErrorKind> {
    let mut list = Listpack::new(listpack)?;
    let valid = list.number()?;
    let deleted = list.number()?;
    let width = count(list.number()?, listpack)?;
    let mut names = Vec::with_capacity(width.min(FEW));
    for _ in 0..width {
        names.push(list.expect()?.into_bytes());
    }
    if list.number()? != 0 {
        return Err(bad("the master entry has no end"));
    }
    let (mut seen, mut gone) = (0, 0);
    while let Some(flags) = list.next()? {
        let super::packed::Entry::Number(flags) = flags else {
            return Err(bad("text where the flags of an entry belong"));
        };
        let ms = master.ms.wrapping_add_signed(list.number()?);
        let seq = master.seq.wrapping_add_signed(list.number()?);
        let same = flags & FLAG_SAME_FIELDS != 0;
        let pairs = if same { width } else { count(list.number()?, listpack)? };
        let mut shared = names.iter().filter(|_| same);
        let mut fields = Vec::with_capacity(pairs.min(FEW));
        for _ in 0..pairs {
            let name = match shared.next() {
                Some(name) => name.clone(),
                None => list.expect()?.into_bytes(),
            };
            fields.push((name, list.expect()?.into_bytes()));
        }
        list.number()?;
        if flags & FLAG_DELETED != 0 {
            gone += 1;
            continue;
        }
        seen += 1;
        let entry = StreamEntry { id: StreamId { ms, seq }, fields };
        if entries.last().is_some_and(|before| before.id >= entry.id) {
            return Err(bad("entries out of order"));
        }
        entries.push(entry);
    }
    if (seen, gone) != (valid, deleted) {
        return Err(bad("a node whose count of entries is wrong"));
    }
    Ok(())
}

/// A number of fields, which cannot be more than the node has bytes.
fn count(number: i64, listpack: &Bytes) -> Result<usize, RdbErrorKind> {
    let number = usize::try_from(number).map_err(|_| bad("a negative count"))?;
    if number > listpack.len() {
        return Err(bad("more fields than bytes"));
    }
    Ok(number)
}

fn group(
    type_byte: u8,
    body: &Bytes,
    cursor: &mut Cursor<'_>,
    stream: &StreamObject,
) -> Result<StreamGroup, Fault> {
    let name = cursor.string(body)?;
    let last_id = id(cursor)?;
    let entries_read = if type_byte == STREAM_LISTPACKS {
        entries_read_at(stream, last_id)
    } else {
        Some(cursor.length()?).filter(|&count| count != u64::MAX)
    };
    let pending = repeat(cursor, |cursor| {
        let id = raw_id(cursor.array()?);
        Ok((id, cursor.i64_le()?, cursor.length()?))
    })?;
    let mut owners: BTreeMap<StreamId, Option<Bytes>> =
        pending.iter().map(|(id, _, _)| (*id, None)).collect();
    if owners.len() != pending.len() {
        return Err(bad("an entry is pending twice in a group").into());
    }
    let consumers = repeat(cursor, |cursor| {
        let name = cursor.string(body)?;
        let seen_time_ms = cursor.i64_le()?;
        let active = if type_byte == STREAM_LISTPACKS_3 { cursor.i64_le()? } else { -1 };
        for id in repeat(cursor, |cursor| Ok(raw_id(cursor.array()?)))? {
            let owner = owners.get_mut(&id).ok_or(bad("a consumer's entry is not pending"))?;
            if owner.replace(name.clone()).is_some() {
                return Err(bad("an entry is pending for two consumers").into());
            }
        }
        let active_time_ms = Some(active).filter(|&time| time != -1);
        Ok(StreamConsumer { name, seen_time_ms, active_time_ms })
    })?;
    let owned = |(id, delivery_time_ms, delivery_count)| {
        let consumer = owners.get(&id).cloned().flatten();
        let consumer = consumer.ok_or(bad("a pending entry has no consumer"))?;
        Ok(PendingEntry { id, consumer, delivery_time_ms, delivery_count })
    };
    let mut pending: Vec<PendingEntry> =
        pending.into_iter().map(owned).collect::<Result<_, RdbErrorKind>>()?;
    pending.sort_unstable_by_key(|entry| entry.id);
    Ok(StreamGroup { name, last_id, entries_read, pending, consumers })
}

/// How many entries were ever added up to `id`, where that can be told. Before Redis 7 the count is not in the
/// RDB; nothing is known to be deleted then.
fn entries_read_at(stream: &StreamObject, id: StreamId) -> Option<u64> {
    if stream.entries_added == 0 {
        return Some(0);
    }
    match id.cmp(&stream.last_id) {
        std::cmp::Ordering::Equal => Some(stream.entries_added),
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Less => match id.cmp(&stream.first_id) {
            std::cmp::Ordering::Less => Some(0),
            std::cmp::Ordering::Equal => Some(1),
            std::cmp::Ordering::Greater => None,
        },
    }
}
