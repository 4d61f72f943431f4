//! Hashes. Source: <https://redis.io/commands/?group=hash>, replies as Redis 7.0.

mod read;

use bytes::Bytes;

use super::number::{LongDouble, int, int_bytes, parse_int};
use super::stop::{Answer, Stop};
use super::table::{Command, Footprint};
use super::value::Kind;
use super::{Call, Keyspace};
use crate::resp::Reply;

const META: Footprint = Footprint::Meta;
const WHOLE: Footprint = Footprint::Whole;
/// A field at 2.
const FIELD: Footprint = Footprint::Members { first: 2, step: usize::MAX };
/// Fields from 2 on.
const FIELDS: Footprint = Footprint::Members { first: 2, step: 1 };
/// Fields and values from 2 on.
const PAIRS: Footprint = Footprint::Members { first: 2, step: 2 };

pub const COMMANDS: &[Command] = &[
    Command { name: "hset", arity: -4, footprint: PAIRS, run: hset },
    Command { name: "hmset", arity: -4, footprint: PAIRS, run: hset },
    Command { name: "hsetnx", arity: 4, footprint: FIELD, run: hsetnx },
    Command { name: "hdel", arity: -3, footprint: FIELDS, run: hdel },
    Command { name: "hincrby", arity: 4, footprint: FIELD, run: hincrby },
    Command { name: "hincrbyfloat", arity: 4, footprint: FIELD, run: hincrbyfloat },
    Command { name: "hget", arity: 3, footprint: FIELD, run: read::hget },
    Command { name: "hmget", arity: -3, footprint: FIELDS, run: read::hmget },
    Command { name: "hexists", arity: 3, footprint: FIELD, run: read::hexists },
    Command { name: "hstrlen", arity: 3, footprint: FIELD, run: read::hstrlen },
    Command { name: "hlen", arity: 2, footprint: META, run: read::hlen },
    Command { name: "hgetall", arity: 2, footprint: WHOLE, run: read::hgetall },
    Command { name: "hkeys", arity: 2, footprint: WHOLE, run: read::hkeys },
    Command { name: "hvals", arity: 2, footprint: WHOLE, run: read::hvals },
    Command { name: "hrandfield", arity: -2, footprint: WHOLE, run: read::hrandfield },
    Command { name: "hscan", arity: -3, footprint: Footprint::Small, run: read::hscan },
];

fn hset(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let (pairs, []) = call.args[2..].as_chunks::<2>() else { return Err(call.wrong_arity()) };
    ks.want_members(call.db, key, Kind::Hash, &mut pairs.iter().map(|[field, _]| field))?;
    let mut new = 0;
    for [field, value] in pairs {
        new += i64::from(ks.hash_set(call.db, key, field, value.clone())?);
    }
    let hmset = call.args[0].eq_ignore_ascii_case(b"hmset");
    Ok(if hmset { Reply::OK } else { Reply::Int(new) })
}

fn hsetnx(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, field) = (call.key()?, call.arg(2)?);
    if ks.hash_get(call.db, key, field)?.is_some() {
        return Ok(Reply::Int(0));
    }
    ks.hash_set(call.db, key, field, call.arg(3)?.clone())?;
    Ok(Reply::Int(1))
}

fn hdel(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let fields = &call.args[2..];
    ks.want_members(call.db, key, Kind::Hash, &mut fields.iter())?;
    let mut removed = 0;
    for field in fields {
        removed += i64::from(ks.hash_remove(call.db, key, field)?);
    }
    Ok(Reply::Int(removed))
}

fn hincrby(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, field) = (call.key()?, call.arg(2)?);
    let by = int(call.arg(3)?)?;
    let fault = Stop::error("ERR hash value is not an integer");
    let old = match ks.hash_get(call.db, key, field)? {
        Some(old) => parse_int(&old).ok_or(fault)?,
        None => 0,
    };
    let new =
        old.checked_add(by).ok_or(Stop::error("ERR increment or decrement would overflow"))?;
    ks.hash_set(call.db, key, field, int_bytes(new))?;
    Ok(Reply::Int(new))
}

fn hincrbyfloat(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, field) = (call.key()?, call.arg(2)?);
    let by = LongDouble::parse(call.arg(3)?).ok_or(Stop::NOT_A_FLOAT)?;
    if by.is_infinite() {
        return Err(Stop::error("ERR value is NaN or Infinity"));
    }
    let fault = Stop::error("ERR hash value is not a float");
    let old = match ks.hash_get(call.db, key, field)? {
        Some(old) => LongDouble::parse(&old).ok_or(fault)?,
        None => LongDouble::ZERO,
    };
    let new = old.plus(by).filter(|new| !new.is_infinite());
    let new = new.ok_or(Stop::error("ERR increment would produce NaN or Infinity"))?;
    let text = Bytes::from(new.text());
    ks.hash_set(call.db, key, field, text.clone())?;
    Ok(Reply::Bulk(text))
}
