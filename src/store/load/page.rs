//! Pages of the members of a large value, in the order of the unique index.

use bytes::Bytes;
use tokio_postgres::{Client, Row};

use super::{Statements, bytes};
use crate::engine::delta::KeyId;
use crate::engine::value::Kind;
use crate::store::StoreError;

/// What goes with a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Of a set.
    Nothing,
    /// Of a hash.
    Value(Bytes),
    /// Of a sorted set.
    Score(f64),
}

/// At most `limit` members of a value of this type, the first ones or those behind one that may have gone. Of a type
/// without members there are none.
pub async fn page(
    client: &Client,
    statements: &Statements,
    (kind, id): (Kind, KeyId),
    behind: Option<&Bytes>,
    limit: usize,
) -> Result<Vec<(Bytes, Content)>, StoreError> {
    let (first, next) = match kind {
        Kind::Hash => (&statements.hash_first, &statements.hash_behind),
        Kind::Set => (&statements.set_first, &statements.set_behind),
        Kind::ZSet => (&statements.zset_first, &statements.zset_behind),
        Kind::String | Kind::List | Kind::Stream | Kind::Opaque => return Ok(Vec::new()),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = match behind {
        Some(member) => client.query(next, &[&id, &limit, &&member[..]]).await?,
        None => client.query(first, &[&id, &limit]).await?,
    };
    let member = |row: &Row| {
        let content = match kind {
            Kind::Hash => Content::Value(bytes(row, 1)?),
            Kind::ZSet => Content::Score(row.try_get(1)?),
            _ => Content::Nothing,
        };
        Ok((bytes(row, 0)?, content))
    };
    rows.iter().map(member).collect()
}
