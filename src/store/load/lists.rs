use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::try_join;
use hashbrown::HashMap;
use tokio_postgres::{Client, Row, Statement};

use super::members::group;
use super::{Statements, Wanted, bytes, number, stray, value_of, whole};
use crate::engine::delta::KeyId;
use crate::engine::value::{List, Value};
use crate::engine::{Loaded, Part};
use crate::store::StoreError;

pub struct Rows {
    ends: Vec<Row>,
    all: Vec<Row>,
    front: Vec<Row>,
    back: Vec<Row>,
}

/// A window of a list: from (or down from) a position, this many elements.
struct Window<'a> {
    wanted: &'a Wanted<'a>,
    pos: i64,
    count: i64,
}

pub async fn load(
    client: &Client,
    statements: &Statements,
    wanted: &[Wanted<'_>],
) -> Result<Rows, StoreError> {
    let (all, parts) = split(wanted);
    let (ends, all, front, back) = try_join!(
        whole(client, &statements.list_ends, &parts),
        whole(client, &statements.lists, &all),
        windows(client, &statements.list_front, fronts(wanted)),
        windows(client, &statements.list_back, backs(wanted)),
    )?;
    Ok(Rows { ends, all, front, back })
}

/// What is wanted whole, and the rest.
fn split<'a>(wanted: &[Wanted<'a>]) -> (Vec<Wanted<'a>>, Vec<Wanted<'a>>) {
    wanted
        .iter()
        .map(|wanted| Wanted { index: wanted.index, id: wanted.id, part: wanted.part })
        .partition(|wanted| *wanted.part == Part::All)
}

fn fronts<'a>(wanted: &'a [Wanted<'a>]) -> Vec<Window<'a>> {
    let window = |wanted: &'a Wanted<'a>| match *wanted.part {
        Part::Front { after, count } => {
            let pos = after.map_or(i64::MIN, |after| after.saturating_add(1));
            Some(Window { wanted, pos, count: i64::try_from(count).unwrap_or(i64::MAX) })
        }
        _ => None,
    };
    wanted.iter().filter_map(window).collect()
}

fn backs<'a>(wanted: &'a [Wanted<'a>]) -> Vec<Window<'a>> {
    let window = |wanted: &'a Wanted<'a>| match *wanted.part {
        Part::Back { before, count } => {
            let pos = before.map_or(i64::MAX, |before| before.saturating_sub(1));
            Some(Window { wanted, pos, count: i64::try_from(count).unwrap_or(i64::MAX) })
        }
        _ => None,
    };
    wanted.iter().filter_map(window).collect()
}

async fn windows(
    client: &Client,
    statement: &Statement,
    windows: Vec<Window<'_>>,
) -> Result<Vec<Row>, StoreError> {
    if windows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<KeyId> = windows.iter().map(|window| window.wanted.id).collect();
    let positions: Vec<i64> = windows.iter().map(|window| window.pos).collect();
    let counts: Vec<i64> = windows.iter().map(|window| window.count).collect();
    Ok(client.query(statement, &[&ids, &positions, &counts]).await?)
}

pub fn fill(wanted: &[Wanted<'_>], rows: Rows, answers: &mut [Loaded]) -> Result<(), StoreError> {
    let by_id = group(wanted.iter().map(|wanted| (wanted.id, wanted)));
    for row in &rows.ends {
        let id: KeyId = row.try_get(0)?;
        let ends: (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
        for wanted in by_id.get(&id).into_iter().flatten() {
            if let Some(Value::List(list)) = value_of(answers, wanted) {
                (list.head, list.tail) = (ends.0.unwrap_or(0), ends.1.unwrap_or(0));
            }
        }
    }
    let mut whole: HashMap<KeyId, VecDeque<(i64, Bytes)>> = HashMap::new();
    for row in &rows.all {
        whole.entry(row.try_get(0)?).or_default().push_back((row.try_get(1)?, bytes(row, 2)?));
    }
    for wanted in wanted.iter().filter(|wanted| *wanted.part == Part::All) {
        let elements = whole.get(&wanted.id).cloned().unwrap_or_default();
        if let Some(Value::List(list)) = value_of(answers, wanted) {
            let end = |end: Option<&(i64, Bytes)>| end.map_or(0, |(pos, _)| *pos);
            let (head, tail) = (end(elements.front()), end(elements.back()));
            *list = List { front: elements, back: VecDeque::new(), gap: 0, head, tail };
        }
    }
    fill_windows(&fronts(wanted), &rows.front, answers, |list, element| {
        list.front.push_back(element);
    })?;
    // They come from the tail on.
    fill_windows(&backs(wanted), &rows.back, answers, |list, element| {
        list.back.push_front(element);
    })
}

fn fill_windows(
    windows: &[Window<'_>],
    rows: &[Row],
    answers: &mut [Loaded],
    put: impl Fn(&mut List, (i64, Bytes)),
) -> Result<(), StoreError> {
    for row in rows {
        let window = windows.get(number(row)?).ok_or_else(stray)?;
        if let Some(Value::List(list)) = value_of(answers, window.wanted) {
            put(list, (row.try_get(1)?, bytes(row, 2)?));
            list.gap = list.gap.saturating_sub(1);
        }
    }
    for window in windows {
        if let Some(Value::List(list)) = value_of(answers, window.wanted)
            && list.gap == 0
        {
            let back = std::mem::take(&mut list.back);
            list.front.extend(back);
        }
    }
    Ok(())
}
