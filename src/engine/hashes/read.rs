use bytes::Bytes;

use crate::engine::scan::{self, Scan};
use crate::engine::sets::random::{pick, sample_size};
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::{Kind, Members, Value};
use crate::engine::{Call, Keyspace, encoding};
use crate::resp::{Protocol, Reply};

pub fn hget(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::bulk_or_nil(ks.hash_get(call.db, call.key()?, call.arg(2)?)?))
}

pub fn hmget(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let fields = &call.args[2..];
    ks.want_members(call.db, key, Kind::Hash, &mut fields.iter())?;
    let found = fields.iter().map(|field| ks.hash_get(call.db, key, field).map(Reply::bulk_or_nil));
    Ok(Reply::Array(found.collect::<Answer<_>>()?))
}

pub fn hexists(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let value = ks.hash_get(call.db, call.key()?, call.arg(2)?)?;
    Ok(Reply::Int(i64::from(value.is_some())))
}

pub fn hstrlen(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let value = ks.hash_get(call.db, call.key()?, call.arg(2)?)?;
    Ok(Reply::Int(value.map_or(0, |value| value.len() as i64)))
}

pub fn hlen(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.len(call.db, call.key()?, Kind::Hash)? as i64))
}

/// All fields and values.
fn all(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Vec<(Bytes, Bytes)>> {
    let hash = ks.hash_all(call.db, call.key()?)?;
    Ok(hash.into_iter().flat_map(Members::iter).map(|(f, v)| (f.clone(), v.clone())).collect())
}

pub fn hgetall(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let pairs = all(ks, call)?.into_iter();
    Ok(Reply::Map(pairs.map(|(field, value)| (Reply::Bulk(field), Reply::Bulk(value))).collect()))
}

pub fn hkeys(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Array(all(ks, call)?.into_iter().map(|(field, _)| Reply::Bulk(field)).collect()))
}

pub fn hvals(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Array(all(ks, call)?.into_iter().map(|(_, value)| Reply::Bulk(value)).collect()))
}

pub fn hrandfield(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (count, with_values) = match &call.args[2..] {
        [] => {
            let all = all(ks, call)?;
            return Ok(Reply::bulk_or_nil(pick(ks, all, 1).pop().map(|(field, _)| field)));
        }
        [count] => (sample_size(count)?, false),
        [count, option] if option.eq_ignore_ascii_case(b"withvalues") => {
            let count = sample_size(count)?;
            if !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
                return Err(Stop::error("ERR value is out of range"));
            }
            (count, true)
        }
        [count, ..] => {
            sample_size(count)?;
            return Err(Stop::SYNTAX);
        }
    };
    let all = all(ks, call)?;
    let picked = pick(ks, all, count).into_iter();
    Ok(Reply::Array(if !with_values {
        picked.map(|(field, _)| Reply::Bulk(field)).collect()
    } else if call.protocol == Protocol::Resp2 {
        picked.flat_map(|(field, value)| [Reply::Bulk(field), Reply::Bulk(value)]).collect()
    } else {
        let pair = |(field, value)| Reply::Array(vec![Reply::Bulk(field), Reply::Bulk(value)]);
        picked.map(pair).collect()
    }))
}

pub fn hscan(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let cursor = scan::cursor(call.arg(2)?)?;
    let Some(hash) = ks.hash_all(call.db, call.key()?)? else { return Ok(scan::empty()) };
    let scan = Scan::parse(&call.args[3..], false)?;
    let at_once = encoding::of_hash(hash) == encoding::LISTPACK;
    let place = (call.db, call.key()?);
    let (next, page) = ks.page(place, &scan, (cursor, at_once), |value, field| match value {
        Value::Hash(hash) => hash.get(field)?.cloned(),
        _ => None,
    });
    let pairs = page.into_iter().filter(|(field, _)| scan.matches(field));
    Ok(scan::reply(next, pairs.flat_map(|(field, value)| [field, value])))
}
