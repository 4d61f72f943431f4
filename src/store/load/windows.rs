//! Windows: reads of large values that PostgreSQL answers, each a query of its own. They are few.

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio_postgres::{Client, Row};

use super::streams::entry;
use super::{Statements, Wanted, bytes};
use crate::engine::value::Kind;
use crate::engine::{Part, View, Window};
use crate::store::StoreError;
use crate::store::numeric::U64;

/// From this length on, members are in the index by a prefix and a hash: two with the same score and the
/// same beginning may be there in the wrong order.
const LONG: usize = 1000;

/// The window of a need whose value is of this type; `None`: it is no need of one.
pub fn wanted<'a>(kind: Kind, wanted: &Wanted<'a>) -> Option<(Kind, Wanted<'a>)> {
    let Part::Window(_) = wanted.part else { return None };
    Some((kind, Wanted { index: wanted.index, id: wanted.id, part: wanted.part }))
}

/// What is seen, by the number of the answer it belongs to.
pub async fn load(
    client: &Client,
    statements: &Statements,
    windows: &[(Kind, Wanted<'_>)],
) -> Result<Vec<(usize, Window, View)>, StoreError> {
    let views = windows.iter().map(async |(kind, wanted)| {
        let Part::Window(window) = wanted.part else { return Ok(None) };
        let view = look(client, statements, *kind, wanted.id, window).await?;
        Ok::<_, StoreError>(view.map(|view| (wanted.index, window.clone(), view)))
    });
    Ok(try_join_all(views).await?.into_iter().flatten().collect())
}

async fn look(
    client: &Client,
    statements: &Statements,
    kind: Kind,
    id: i64,
    window: &Window,
) -> Result<Option<View>, StoreError> {
    Ok(Some(match (kind, window) {
        (Kind::ZSet, Window::Places { skip, count, reverse }) => {
            let statement = if *reverse { &statements.ranks_down } else { &statements.ranks };
            members(&client.query(statement, &[&id, &signed(*skip), &signed(*count)]).await?)?
        }
        (Kind::ZSet, Window::Scores { min, max, skip, count, reverse }) => {
            let statement = if *reverse { &statements.scores_down } else { &statements.scores };
            let (skip, count) = (signed(*skip), signed(*count));
            members(&client.query(statement, &[&id, &min.0, &max.0, &skip, &count]).await?)?
        }
        (Kind::ZSet, Window::ScoreCount { min, max }) => {
            number(&client.query_one(&statements.score_count, &[&id, &min.0, &max.0]).await?)?
        }
        (Kind::ZSet, Window::Before { member, .. }) if member.len() >= LONG => View::Unclear,
        (Kind::ZSet, Window::Before { score, member }) => {
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&id, &score.0, &&member[..]];
            number(&client.query_one(&statements.before, &params).await?)?
        }
        (Kind::List, Window::Places { skip, count, reverse }) => {
            let statement = if *reverse { &statements.elements_down } else { &statements.elements };
            let rows = client.query(statement, &[&id, &signed(*skip), &signed(*count)]).await?;
            View::Elements(rows.iter().map(|row| bytes(row, 0)).collect::<Result<_, _>>()?)
        }
        (Kind::Stream, Window::Entries { start, end, count, reverse }) => {
            let statement =
                if *reverse { &statements.entries_down } else { &statements.entries_up };
            let (start_ms, start_seq) = (U64(start.ms), U64(start.seq));
            let (end_ms, end_seq, count) = (U64(end.ms), U64(end.seq), signed(*count));
            let rows = client
                .query(statement, &[&id, &start_ms, &start_seq, &end_ms, &end_seq, &count])
                .await?;
            View::Entries(rows.iter().map(|row| entry(row, 0)).collect::<Result<_, _>>()?)
        }
        // The key stands for another value by now.
        _ => return Ok(None),
    }))
}

fn members(rows: &[Row]) -> Result<View, StoreError> {
    let member = |row: &Row| Ok::<(Bytes, f64), StoreError>((bytes(row, 0)?, row.try_get(1)?));
    let members: Vec<_> = rows.iter().map(member).collect::<Result<_, _>>()?;
    let long = members.iter().any(|(member, _)| member.len() >= LONG);
    Ok(if long { View::Unclear } else { View::Members(members) })
}

fn number(row: &Row) -> Result<View, StoreError> {
    Ok(View::Number(row.try_get::<_, i64>(0)?.unsigned_abs()))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
