use bytes::Bytes;
use futures_util::try_join;
use hashbrown::HashMap;
use tokio_postgres::{Client, Row};

use super::{Statements, Wanted, bytes, number, stray, value_of, whole};
use crate::engine::delta::KeyId;
use crate::engine::value::{Consumer, EntryFields, Group, Pending, Stream, StreamId, Value};
use crate::engine::{Loaded, Part};
use crate::store::StoreError;
use crate::store::numeric::U64;

pub struct Rows {
    streams: Vec<Row>,
    groups: Vec<Row>,
    consumers: Vec<Row>,
    pending: Vec<Row>,
    entries: Vec<Row>,
}

pub async fn load(
    client: &Client,
    statements: &Statements,
    wanted: &[Wanted<'_>],
) -> Result<Rows, StoreError> {
    let (streams, groups, consumers, pending, entries) = try_join!(
        whole(client, &statements.streams, wanted),
        whole(client, &statements.groups, wanted),
        whole(client, &statements.consumers, wanted),
        whole(client, &statements.pending, wanted),
        entries(client, statements, wanted),
    )?;
    Ok(Rows { streams, groups, consumers, pending, entries })
}

/// The entries that are wanted: those above an id, at most this many.
fn windows<'a>(
    wanted: &'a [Wanted<'a>],
) -> impl Iterator<Item = (&'a Wanted<'a>, Option<StreamId>, i64)> {
    wanted.iter().filter_map(|wanted| match *wanted.part {
        Part::All => Some((wanted, None, i64::MAX)),
        Part::Oldest { after, count } => {
            Some((wanted, Some(after), i64::try_from(count).unwrap_or(i64::MAX)))
        }
        _ => None,
    })
}

async fn entries(
    client: &Client,
    statements: &Statements,
    wanted: &[Wanted<'_>],
) -> Result<Vec<Row>, StoreError> {
    let (mut ids, mut ms, mut seq, mut counts) = (vec![], vec![], vec![], vec![]);
    for (wanted, after, count) in windows(wanted) {
        // No entry has the id 0-0.
        let after = after.unwrap_or_default();
        ids.push(wanted.id);
        ms.push(U64(after.ms));
        seq.push(U64(after.seq));
        counts.push(count);
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(client.query(&statements.entries, &[&ids, &ms, &seq, &counts]).await?)
}

fn stream_id(row: &Row, column: usize) -> Result<StreamId, StoreError> {
    let (U64(ms), U64(seq)) = (row.try_get(column)?, row.try_get(column + 1)?);
    Ok(StreamId { ms, seq })
}

/// An entry in three columns from `column` on.
pub fn entry(row: &Row, column: usize) -> Result<(StreamId, EntryFields), StoreError> {
    let fields: Vec<&[u8]> = row.try_get(column + 2)?;
    Ok((stream_id(row, column)?, fields.into_iter().map(Bytes::copy_from_slice).collect()))
}

pub fn fill(wanted: &[Wanted<'_>], rows: Rows, answers: &mut [Loaded]) -> Result<(), StoreError> {
    let mut streams: HashMap<KeyId, Stream> = HashMap::new();
    for row in &rows.streams {
        let stream = Stream {
            last_id: stream_id(row, 1)?,
            max_deleted_id: stream_id(row, 3)?,
            entries_added: row.try_get::<_, U64>(5)?.0,
            ..Stream::default()
        };
        streams.insert(row.try_get(0)?, stream);
    }
    groups(&rows, &mut streams)?;
    for wanted in wanted {
        let Some(Value::Stream(stream)) = value_of(answers, wanted) else { continue };
        let loaded = streams.get(&wanted.id).cloned();
        let loaded = loaded.ok_or_else(|| {
            StoreError::Corrupt(format!("the stream with the id {} has no row", wanted.id))
        })?;
        **stream = Stream { gap: stream.gap, ..loaded };
    }
    let windows: Vec<&Wanted<'_>> = windows(wanted).map(|(wanted, ..)| wanted).collect();
    for row in &rows.entries {
        let wanted = windows.get(number(row)?).ok_or_else(stray)?;
        if let Some(Value::Stream(stream)) = value_of(answers, wanted) {
            stream.front.extend([entry(row, 1)?]);
            stream.gap = stream.gap.saturating_sub(1);
        }
    }
    for wanted in wanted.iter().filter(|wanted| *wanted.part == Part::All) {
        if let Some(Value::Stream(stream)) = value_of(answers, wanted) {
            stream.gap = 0;
        }
    }
    Ok(())
}

fn groups(rows: &Rows, streams: &mut HashMap<KeyId, Stream>) -> Result<(), StoreError> {
    for row in &rows.groups {
        let entries_read: Option<U64> = row.try_get(4)?;
        let group = Group {
            last_id: stream_id(row, 2)?,
            entries_read: entries_read.map(|U64(read)| read),
            ..Group::default()
        };
        let id: KeyId = row.try_get(0)?;
        if let Some(stream) = streams.get_mut(&id) {
            stream.groups.insert(bytes(row, 1)?, group);
        }
    }
    for row in &rows.consumers {
        let consumer = Consumer { seen_at_ms: row.try_get(3)?, active_at_ms: row.try_get(4)? };
        if let Some(group) = group_of(streams, row)? {
            group.consumers.insert(bytes(row, 2)?, consumer);
        }
    }
    for row in &rows.pending {
        let pending = Pending {
            consumer: bytes(row, 4)?,
            delivered_at_ms: row.try_get(5)?,
            delivery_count: row.try_get::<_, U64>(6)?.0,
        };
        let id = stream_id(row, 2)?;
        if let Some(group) = group_of(streams, row)? {
            group.pending.insert(id, pending);
        }
    }
    Ok(())
}

/// The group of a row that has the key's id and the group's name in front.
fn group_of<'a>(
    streams: &'a mut HashMap<KeyId, Stream>,
    row: &Row,
) -> Result<Option<&'a mut Group>, StoreError> {
    let (id, name): (KeyId, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
    Ok(streams.get_mut(&id).and_then(|stream| stream.groups.get_mut(name)))
}
