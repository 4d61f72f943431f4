//! Hashes. Source: <https://redis.io/commands/?group=hash>, replies as Redis 7.0.

use bytes::Bytes;

use super::number::{int, int_bytes, parse_int};
use super::stop::{Answer, Stop};
use super::table::{Command, Footprint};
use super::value::Kind;
use super::{Call, Keyspace};
use crate::resp::Reply;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "hset",
        arity: -4,
        footprint: Footprint::Members { first: 2, step: 2 },
        run: hset,
    },
    Command {
        name: "hmset",
        arity: -4,
        footprint: Footprint::Members { first: 2, step: 2 },
        run: hset,
    },
    Command {
        name: "hsetnx",
        arity: 4,
        footprint: Footprint::Members { first: 2, step: 2 },
        run: hsetnx,
    },
    Command {
        name: "hget",
        arity: 3,
        footprint: Footprint::Members { first: 2, step: 1 },
        run: hget,
    },
    Command {
        name: "hdel",
        arity: -3,
        footprint: Footprint::Members { first: 2, step: 1 },
        run: hdel,
    },
    Command { name: "hlen", arity: 2, footprint: Footprint::Meta, run: hlen },
    Command {
        name: "hincrby",
        arity: 4,
        footprint: Footprint::Members { first: 2, step: 2 },
        run: hincrby,
    },
];

fn hset(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let pairs = &call.args[2..];
    let hmset = call.args[0].eq_ignore_ascii_case(b"hmset");
    if pairs.len() % 2 == 1 {
        let name = if hmset { "hmset" } else { "hset" };
        return Err(Stop::failed(format!("ERR wrong number of arguments for '{name}' command")));
    }
    ks.want_members(call.db, key, Kind::Hash, &mut pairs.iter().step_by(2))?;
    let mut new = 0;
    for pair in pairs.chunks_exact(2) {
        new += i64::from(ks.hash_set(call.db, key, &pair[0], pair[1].clone())?);
    }
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

fn hget(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::bulk_or_nil(ks.hash_get(call.db, call.key()?, call.arg(2)?)?))
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

fn hlen(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.len(call.db, call.key()?, Kind::Hash)? as i64))
}

fn hincrby(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, field) = (call.key()?, call.arg(2)?);
    let by = int(call.arg(3)?)?;
    let old = ks.hash_get(call.db, key, field)?.unwrap_or_else(|| Bytes::from_static(b"0"));
    let old = parse_int(&old).ok_or(Stop::error("ERR hash value is not an integer"))?;
    let new =
        old.checked_add(by).ok_or(Stop::error("ERR increment or decrement would overflow"))?;
    ks.hash_set(call.db, key, field, int_bytes(new))?;
    Ok(Reply::Int(new))
}
