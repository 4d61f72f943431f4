//! Hashes, sets and sorted sets: some members or all.

use std::hash::Hash;

use bytes::Bytes;
use futures_util::try_join;
use hashbrown::HashMap;
use tokio_postgres::{Client, Row, Statement};

use super::{Statements, Wanted, bytes, number, stray, value_of, whole};
use crate::engine::delta::KeyId;
use crate::engine::value::{Members, Score, Value, ZSet};
use crate::engine::{Loaded, Part};
use crate::store::StoreError;

/// Rows of the keys that are wanted whole, and of the single members.
pub type Rows = (Vec<Row>, Vec<Row>);

pub async fn load_hashes(
    client: &Client,
    statements: &Statements,
    wanted: &[Wanted<'_>],
) -> Result<Rows, StoreError> {
    load(client, &statements.hashes, &statements.hash_fields, wanted).await
}

pub async fn load_sets(
    client: &Client,
    statements: &Statements,
    wanted: &[Wanted<'_>],
) -> Result<Rows, StoreError> {
    load(client, &statements.sets, &statements.set_members, wanted).await
}

pub async fn load_zsets(
    client: &Client,
    statements: &Statements,
    wanted: &[Wanted<'_>],
) -> Result<Rows, StoreError> {
    load(client, &statements.zsets, &statements.zset_members, wanted).await
}

async fn load(
    client: &Client,
    all: &Statement,
    some: &Statement,
    wanted: &[Wanted<'_>],
) -> Result<Rows, StoreError> {
    let wholes: Vec<Wanted<'_>> = wanted
        .iter()
        .filter(|wanted| *wanted.part == Part::All)
        .map(|wanted| Wanted { index: wanted.index, id: wanted.id, part: wanted.part })
        .collect();
    let asked: Vec<(KeyId, &Bytes)> = asked(wanted).map(|(wanted, m)| (wanted.id, m)).collect();
    let ids: Vec<KeyId> = asked.iter().map(|(id, _)| *id).collect();
    let names: Vec<&[u8]> = asked.iter().map(|(_, member)| &member[..]).collect();
    let some = async {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        client.query(some, &[&ids, &names]).await.map_err(StoreError::from)
    };
    try_join!(whole(client, all, &wholes), some)
}

/// The single members that are asked for, in the order of their numbers.
fn asked<'a>(wanted: &'a [Wanted<'a>]) -> impl Iterator<Item = (&'a Wanted<'a>, &'a Bytes)> {
    wanted.iter().flat_map(|wanted| {
        let members = match wanted.part {
            Part::Members(members) => &members[..],
            _ => &[],
        };
        members.iter().map(move |member| (wanted, member))
    })
}

/// Sorts rows into the answers: `member` reads a row of a whole key, `single` a row of a single member
/// (without its number), `put` records a member of the value.
fn fill<V: Clone>(
    wanted: &[Wanted<'_>],
    (all, some): Rows,
    answers: &mut [Loaded],
    member: impl Fn(&Row) -> Result<(Bytes, V), StoreError>,
    single: impl Fn(&Row) -> Result<V, StoreError>,
    put: impl Fn(&mut Value, Bytes, Option<V>),
    complete: impl Fn(&mut Value),
) -> Result<(), StoreError> {
    let asked: Vec<(&Wanted<'_>, &Bytes)> = asked(wanted).collect();
    for (wanted, member) in &asked {
        if let Some(value) = value_of(answers, wanted) {
            put(value, (*member).clone(), None);
        }
    }
    for row in &some {
        let (wanted, member) = asked.get(number(row)?).ok_or_else(stray)?;
        if let Some(value) = value_of(answers, wanted) {
            put(value, (*member).clone(), Some(single(row)?));
        }
    }
    let wholes = wanted.iter().filter(|wanted| *wanted.part == Part::All);
    let by_id = group(wholes.map(|wanted| (wanted.id, wanted)));
    for row in &all {
        let id: KeyId = row.try_get(0)?;
        let (name, content) = member(row)?;
        for wanted in by_id.get(&id).into_iter().flatten() {
            if let Some(value) = value_of(answers, wanted) {
                put(value, name.clone(), Some(content.clone()));
            }
        }
    }
    for wanted in by_id.values().flatten() {
        if let Some(value) = value_of(answers, wanted) {
            complete(value);
        }
    }
    Ok(())
}

pub(super) fn group<K: Hash + Eq, V>(pairs: impl Iterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}

fn complete_members<V>(members: &mut Members<V>) {
    members.len = members.known.len() as u64;
    members.complete = true;
}

pub fn fill_hashes(
    wanted: &[Wanted<'_>],
    rows: Rows,
    answers: &mut [Loaded],
) -> Result<(), StoreError> {
    let put = |value: &mut Value, field: Bytes, content: Option<Bytes>| {
        if let Value::Hash(hash) = value {
            hash.known.insert(field, content);
        }
    };
    let complete = |value: &mut Value| {
        if let Value::Hash(hash) = value {
            complete_members(hash);
        }
    };
    let member = |row: &Row| Ok((bytes(row, 1)?, bytes(row, 2)?));
    fill(wanted, rows, answers, member, |row| bytes(row, 1), put, complete)
}

pub fn fill_sets(
    wanted: &[Wanted<'_>],
    rows: Rows,
    answers: &mut [Loaded],
) -> Result<(), StoreError> {
    let put = |value: &mut Value, member: Bytes, there: Option<()>| {
        if let Value::Set(set) = value {
            set.known.insert(member, there);
        }
    };
    let complete = |value: &mut Value| {
        if let Value::Set(set) = value {
            complete_members(set);
        }
    };
    fill(wanted, rows, answers, |row| Ok((bytes(row, 1)?, ())), |_| Ok(()), put, complete)
}

pub fn fill_zsets(
    wanted: &[Wanted<'_>],
    rows: Rows,
    answers: &mut [Loaded],
) -> Result<(), StoreError> {
    let put = |value: &mut Value, member: Bytes, score: Option<f64>| {
        if let Value::ZSet(zset) = value {
            zset.known.insert(member, score);
        }
    };
    let complete = |value: &mut Value| {
        if let Value::ZSet(zset) = value {
            complete_zset(zset);
        }
    };
    let member = |row: &Row| Ok((bytes(row, 1)?, row.try_get(2)?));
    fill(wanted, rows, answers, member, |row| Ok(row.try_get(1)?), put, complete)
}

fn complete_zset(zset: &mut ZSet) {
    let members = zset.known.iter();
    let ordered = members.filter_map(|(m, score)| Some((Score((*score)?), m.clone()))).collect();
    zset.ordered = Some(ordered);
    zset.len = zset.known.len() as u64;
}
