//! Strings. Source: <https://redis.io/commands/?group=string>, replies as Redis 7.0.

mod incr;
mod lcs;
mod range;
mod set;

use bytes::Bytes;

use super::stop::{Answer, Reads, Stop};
use super::table::{Command, Footprint};
use super::value::Kind;
use super::{Call, Keyspace};
use crate::resp::Reply;

const META: Footprint = Footprint::Meta;
const WHOLE: Footprint = Footprint::Whole;

pub const COMMANDS: &[Command] = &[
    Command { name: "set", arity: -3, footprint: META, run: set::set },
    Command { name: "setnx", arity: 3, footprint: META, run: set::setnx },
    Command { name: "setex", arity: 4, footprint: META, run: set::setex },
    Command { name: "psetex", arity: 4, footprint: META, run: set::psetex },
    Command { name: "getset", arity: 3, footprint: WHOLE, run: set::getset },
    Command { name: "getex", arity: -2, footprint: WHOLE, run: set::getex },
    Command { name: "get", arity: 2, footprint: WHOLE, run: get },
    Command { name: "getdel", arity: 2, footprint: WHOLE, run: getdel },
    Command { name: "mget", arity: -2, footprint: Footprint::WholeKeys, run: mget },
    Command { name: "mset", arity: -3, footprint: Footprint::Keys { step: 2 }, run: mset },
    Command { name: "msetnx", arity: -3, footprint: Footprint::Keys { step: 2 }, run: msetnx },
    Command { name: "incr", arity: 2, footprint: WHOLE, run: incr::incr },
    Command { name: "decr", arity: 2, footprint: WHOLE, run: incr::decr },
    Command { name: "incrby", arity: 3, footprint: WHOLE, run: incr::incrby },
    Command { name: "decrby", arity: 3, footprint: WHOLE, run: incr::decrby },
    Command { name: "incrbyfloat", arity: 3, footprint: WHOLE, run: incr::incrbyfloat },
    Command { name: "append", arity: 3, footprint: WHOLE, run: range::append },
    Command { name: "strlen", arity: 2, footprint: WHOLE, run: range::strlen },
    Command { name: "setrange", arity: 4, footprint: WHOLE, run: range::setrange },
    Command { name: "getrange", arity: 4, footprint: WHOLE, run: range::getrange },
    Command { name: "substr", arity: 4, footprint: WHOLE, run: range::getrange },
    Command { name: "lcs", arity: -3, footprint: Footprint::None, run: lcs::lcs },
];

/// Redis's default `proto-max-bulk-len`: the longest string in bytes.
pub const MAX_LEN: u64 = 512 * 1024 * 1024;

/// Refuses a string that would become too long. What the replication stream says was accepted.
pub fn check_len(call: &Call<'_>, len: u64, more: usize) -> Answer<()> {
    if !call.from_log && len.saturating_add(more as u64) > MAX_LEN {
        return Err(Stop::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    Ok(())
}

fn get(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::bulk_or_nil(ks.string(call.db, call.key()?)?))
}

fn getdel(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let old = ks.string(call.db, call.key()?)?;
    ks.remove(call.db, call.key()?)?;
    Ok(Reply::bulk_or_nil(old))
}

fn mget(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let mut reads = Reads::default();
    let mut found = Vec::with_capacity(call.args.len() - 1);
    for key in &call.args[1..] {
        let content = match ks.string(call.db, key) {
            Err(Stop::Error(_)) => Ok(None),
            other => other,
        };
        found.push(Reply::bulk_or_nil(reads.of(content).flatten()));
    }
    reads.done()?;
    Ok(Reply::Array(found))
}

/// The pairs of `MSET`, with the types of the keys known.
fn pairs<'a>(ks: &mut Keyspace, call: &Call<'a>) -> Answer<(Vec<(&'a Bytes, &'a Bytes)>, bool)> {
    let (pairs, []) = call.args[1..].as_chunks::<2>() else { return Err(call.wrong_arity()) };
    let mut reads = Reads::default();
    let mut any = false;
    for [key, _] in pairs {
        any |= reads.of(ks.kind(call.db, key)).flatten().is_some();
    }
    reads.done()?;
    Ok((pairs.iter().map(|[key, content]| (key, content)).collect(), any))
}

fn mset(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    for (key, content) in pairs(ks, call)?.0 {
        ks.set_string(call.db, key, content.clone(), None)?;
    }
    Ok(Reply::OK)
}

fn msetnx(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (pairs, any) = pairs(ks, call)?;
    if any {
        return Ok(Reply::Int(0));
    }
    for (key, content) in pairs {
        ks.set_string(call.db, key, content.clone(), None)?;
    }
    Ok(Reply::Int(1))
}

/// Checks the type, as commands do that report other faults only after it.
fn check_string(ks: &mut Keyspace, call: &Call<'_>) -> Answer<()> {
    ks.len(call.db, call.key()?, Kind::String).map(drop)
}
