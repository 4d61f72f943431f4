//! Reads: needs are answered precisely, in two round trips however many there are: the keys with the strings, then
//! every other table that has something to say about them, at once.

mod lists;
mod members;
mod page;
mod statements;
mod streams;
mod windows;

use bytes::Bytes;
use futures_util::try_join;
use hashbrown::HashMap;
use tokio_postgres::{Client, Row};

pub use page::{Content, page};
pub use statements::Statements;

use super::StoreError;
use crate::engine::delta::KeyId;
use crate::engine::value::{Kind, List, Members, Stream, Value, ZSet};
use crate::engine::{Found, Loaded, Need, Part};

/// A need whose key is there.
struct Wanted<'a> {
    /// Which of the answers it fills.
    index: usize,
    id: KeyId,
    part: &'a Part,
}

/// The needs of one type that have something to load.
#[derive(Default)]
struct Wants<'a> {
    opaque: Vec<Wanted<'a>>,
    lists: Vec<Wanted<'a>>,
    sets: Vec<Wanted<'a>>,
    zsets: Vec<Wanted<'a>>,
    hashes: Vec<Wanted<'a>>,
    streams: Vec<Wanted<'a>>,
}

pub async fn load(
    client: &Client,
    statements: &Statements,
    needs: &[Need],
) -> Result<Vec<Loaded>, StoreError> {
    let mut answers: Vec<Loaded> = needs
        .iter()
        .map(|need| Loaded { db: need.db, key: need.key.clone(), found: None })
        .collect();
    let dbs: Vec<i32> = needs.iter().map(|need| super::db_column(need.db)).collect();
    let names: Vec<&[u8]> = needs.iter().map(|need| &need.key[..]).collect();
    let contents: Vec<bool> = needs.iter().map(|need| need.part != Part::Meta).collect();
    let rows = client.query(&statements.keys, &[&dbs, &names, &contents]).await?;
    let (mut wants, mut windows) = (Wants::default(), Vec::new());
    for row in &rows {
        let index = number(row)?;
        let (need, answer) = needs.get(index).zip(answers.get_mut(index)).ok_or_else(stray)?;
        let found = found(row)?;
        let part = need.part.of_length(found.value.len());
        let wanted = Wanted { index, id: found.id, part };
        windows.extend(windows::wanted(found.kind(), &wanted));
        wants.add(found.kind(), wanted);
        answer.found = Some(found);
    }
    let ((), views) = try_join!(
        fill(client, statements, &wants, &mut answers),
        windows::load(client, statements, &windows),
    )?;
    for (index, window, view) in views {
        if let Some(found) = answers.get_mut(index).and_then(|answer| answer.found.as_mut()) {
            found.view = Some((window, view));
        }
    }
    Ok(answers)
}

async fn fill(
    client: &Client,
    statements: &Statements,
    wants: &Wants<'_>,
    answers: &mut [Loaded],
) -> Result<(), StoreError> {
    // All requests are on their way before the first answer is waited for.
    let (opaque, lists, sets, zsets, hashes, streams) = try_join!(
        whole(client, &statements.opaque, &wants.opaque),
        lists::load(client, statements, &wants.lists),
        members::load_sets(client, statements, &wants.sets),
        members::load_zsets(client, statements, &wants.zsets),
        members::load_hashes(client, statements, &wants.hashes),
        streams::load(client, statements, &wants.streams),
    )?;
    let dump = |row: &Row| Ok::<_, StoreError>((row.try_get(0)?, bytes(row, 1)?));
    let opaque: HashMap<KeyId, Bytes> = opaque.iter().map(dump).collect::<Result<_, _>>()?;
    for answer in answers.iter_mut().filter_map(|answer| answer.found.as_mut()) {
        if let Value::Opaque(value) = &mut answer.value {
            *value = opaque.get(&answer.id).cloned();
        }
    }
    lists::fill(&wants.lists, lists, answers)?;
    members::fill_sets(&wants.sets, sets, answers)?;
    members::fill_zsets(&wants.zsets, zsets, answers)?;
    members::fill_hashes(&wants.hashes, hashes, answers)?;
    streams::fill(&wants.streams, streams, answers)
}

impl<'a> Wants<'a> {
    fn add(&mut self, kind: Kind, wanted: Wanted<'a>) {
        let only_meta = *wanted.part == Part::Meta;
        match kind {
            // A list's ends and a stream's groups belong to what is known of it at least.
            Kind::List => self.lists.push(wanted),
            Kind::Stream => self.streams.push(wanted),
            _ if only_meta => {}
            // It has come with the row.
            Kind::String => {}
            Kind::Opaque => self.opaque.push(wanted),
            Kind::Set => self.sets.push(wanted),
            Kind::ZSet => self.zsets.push(wanted),
            Kind::Hash => self.hashes.push(wanted),
        }
    }
}

/// The key's own row as a value of which nothing is loaded, but for the content of a string.
fn found(row: &Row) -> Result<Found, StoreError> {
    let code: i16 = row.try_get(2)?;
    let len = row.try_get::<_, i64>(4)?.unsigned_abs();
    let kind = Kind::from_code(code)
        .ok_or_else(|| StoreError::Corrupt(format!("a key has the unknown type {code}")))?;
    let value = match kind {
        Kind::String => {
            Value::String(row.try_get::<_, Option<&[u8]>>(6)?.map(Bytes::copy_from_slice))
        }
        Kind::Opaque => Value::Opaque(None),
        Kind::List => Value::List(List::unloaded(len, 0, 0)),
        Kind::Set => Value::Set(Members::unloaded(len)),
        Kind::ZSet => Value::ZSet(ZSet::unloaded(len)),
        Kind::Hash => Value::Hash(Members::unloaded(len)),
        Kind::Stream => Value::Stream(Box::new(Stream::unloaded(len))),
    };
    let (id, expires_at_ms, version) = (row.try_get(1)?, row.try_get(3)?, row.try_get(5)?);
    Ok(Found { id, expires_at_ms, version, value, view: None })
}

/// The rows of all keys that are wanted whole.
async fn whole(
    client: &Client,
    statement: &tokio_postgres::Statement,
    wanted: &[Wanted<'_>],
) -> Result<Vec<Row>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut ids: Vec<i64> = wanted.iter().map(|wanted| wanted.id).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(client.query(statement, &[&ids]).await?)
}

/// `WITH ORDINALITY` in the first column, counted from 0.
fn number(row: &Row) -> Result<usize, StoreError> {
    let number = row.try_get::<_, i64>(0)? - 1;
    usize::try_from(number).map_err(|_| stray())
}

fn bytes(row: &Row, column: usize) -> Result<Bytes, StoreError> {
    Ok(Bytes::copy_from_slice(row.try_get(column)?))
}

fn stray() -> StoreError {
    StoreError::Corrupt("a row answers no question".into())
}

/// The value to fill for `wanted`.
fn value_of<'a>(answers: &'a mut [Loaded], wanted: &Wanted<'_>) -> Option<&'a mut Value> {
    answers.get_mut(wanted.index)?.found.as_mut().map(|found| &mut found.value)
}
