//! Lists. Source: <https://redis.io/commands/?group=list>, replies as Redis 7.0.
//!
//! Blocking commands do here what they do when there is data; without, they answer the nil of a
//! timeout, and waiting is the caller's.

mod pop;
mod read;
mod search;

use bytes::Bytes;

use super::keyspace::End;
use super::number::int;
use super::stop::{Answer, Reads, Stop};
use super::table::{Command, Footprint};
use super::value::Kind;
use super::{Call, Keyspace, args};
use crate::resp::Reply;

const FRONT: Footprint = Footprint::Ending(End::Front);
const BACK: Footprint = Footprint::Ending(End::Back);

pub const COMMANDS: &[Command] = &[
    Command { name: "lpush", arity: -3, footprint: Footprint::Meta, run: lpush },
    Command { name: "rpush", arity: -3, footprint: Footprint::Meta, run: rpush },
    Command { name: "lpushx", arity: -3, footprint: Footprint::Meta, run: lpushx },
    Command { name: "rpushx", arity: -3, footprint: Footprint::Meta, run: rpushx },
    Command { name: "lset", arity: 4, footprint: Footprint::Meta, run: lset },
    Command { name: "ltrim", arity: 4, footprint: Footprint::Meta, run: ltrim },
    Command { name: "linsert", arity: 5, footprint: Footprint::Whole, run: search::linsert },
    Command { name: "lrem", arity: 4, footprint: Footprint::Whole, run: search::lrem },
    Command { name: "lpos", arity: -3, footprint: Footprint::Whole, run: search::lpos },
    Command { name: "llen", arity: 2, footprint: Footprint::Meta, run: read::llen },
    Command { name: "lindex", arity: 3, footprint: Footprint::Meta, run: read::lindex },
    Command { name: "lrange", arity: 4, footprint: Footprint::Meta, run: read::lrange },
    Command { name: "lpop", arity: -2, footprint: FRONT, run: pop::lpop },
    Command { name: "rpop", arity: -2, footprint: BACK, run: pop::rpop },
    Command { name: "lmpop", arity: -4, footprint: Footprint::None, run: pop::lmpop },
    Command { name: "rpoplpush", arity: 3, footprint: BACK, run: pop::rpoplpush },
    Command { name: "lmove", arity: 5, footprint: Footprint::Meta, run: pop::lmove },
    Command { name: "blpop", arity: -3, footprint: FRONT, run: pop::blpop },
    Command { name: "brpop", arity: -3, footprint: BACK, run: pop::brpop },
    Command { name: "blmpop", arity: -5, footprint: Footprint::None, run: pop::blmpop },
    Command { name: "brpoplpush", arity: 4, footprint: BACK, run: pop::brpoplpush },
    Command { name: "blmove", arity: 6, footprint: Footprint::Meta, run: pop::blmove },
];

fn lpush(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    push(ks, call, End::Front)
}

fn rpush(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    push(ks, call, End::Back)
}

fn push(ks: &mut Keyspace, call: &Call<'_>, end: End) -> Answer<Reply> {
    Ok(Reply::Int(ks.list_push(call.db, call.key()?, end, &call.args[2..])? as i64))
}

fn lpushx(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    push_if_there(ks, call, End::Front)
}

fn rpushx(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    push_if_there(ks, call, End::Back)
}

fn push_if_there(ks: &mut Keyspace, call: &Call<'_>, end: End) -> Answer<Reply> {
    if ks.len(call.db, call.key()?, Kind::List)? == 0 {
        return Ok(Reply::Int(0));
    }
    push(ks, call, end)
}

fn lset(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let len = ks.len(call.db, key, Kind::List)?;
    if len == 0 {
        return Err(Stop::NO_SUCH_KEY);
    }
    let index = index_in(call.arg(2)?, len)?;
    let index = index.ok_or(Stop::error("ERR index out of range"))?;
    ks.list_set(call.db, key, index, call.arg(3)?.clone())?;
    Ok(Reply::OK)
}

/// An index that may count from the end, as one from the front; `None`: outside.
fn index_in(text: &Bytes, len: u64) -> Answer<Option<u64>> {
    let index = int(text)?;
    let index =
        if index < 0 { len.checked_sub(index.unsigned_abs()) } else { Some(index.unsigned_abs()) };
    Ok(index.filter(|index| *index < len))
}

fn ltrim(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let (start, stop) = (int(call.arg(2)?)?, int(call.arg(3)?)?);
    let len = ks.len(call.db, key, Kind::List)?;
    let Some((start, count)) = args::span(start, stop, len) else {
        ks.remove(call.db, key)?;
        return Ok(Reply::OK);
    };
    let rest = len - start - count;
    let mut reads = Reads::default();
    reads.of(ks.list_want(call.db, key, End::Front, start));
    reads.of(ks.list_want(call.db, key, End::Back, rest));
    reads.done()?;
    ks.list_pop(call.db, key, End::Front, start)?;
    ks.list_pop(call.db, key, End::Back, rest)?;
    Ok(Reply::OK)
}

fn end_of(text: &Bytes) -> Answer<End> {
    if text.eq_ignore_ascii_case(b"left") {
        Ok(End::Front)
    } else if text.eq_ignore_ascii_case(b"right") {
        Ok(End::Back)
    } else {
        Err(Stop::SYNTAX)
    }
}
