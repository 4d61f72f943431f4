use super::index_in;
use crate::engine::number::int;
use crate::engine::stop::Answer;
use crate::engine::value::Kind;
use crate::engine::{Call, Keyspace, args};
use crate::resp::Reply;

pub fn llen(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.len(call.db, call.key()?, Kind::List)? as i64))
}

pub fn lindex(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let len = ks.len(call.db, key, Kind::List)?;
    if len == 0 {
        return Ok(Reply::Nil);
    }
    let Some(index) = index_in(call.arg(2)?, len)? else { return Ok(Reply::Nil) };
    Ok(Reply::bulk_or_nil(ks.list_range(call.db, key, index, 1)?.pop()))
}

pub fn lrange(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let (start, stop) = (int(call.arg(2)?)?, int(call.arg(3)?)?);
    let len = ks.len(call.db, key, Kind::List)?;
    let Some((start, count)) = args::span(start, stop, len) else {
        return Ok(Reply::Array(Vec::new()));
    };
    let elements = ks.list_range(call.db, key, start, count)?;
    Ok(Reply::Array(elements.into_iter().map(Reply::Bulk).collect()))
}
