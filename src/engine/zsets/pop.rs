use bytes::Bytes;

use super::select::{By, Selection};
use super::{Scored, nested, reply};
use crate::engine::stop::{Answer, Stop};
use crate::engine::{Call, Db, Keyspace, args};
use crate::resp::Reply;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

pub fn zpopmin(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop(ks, call, Side::Min)
}

pub fn zpopmax(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop(ks, call, Side::Max)
}

fn pop(ks: &mut Keyspace, call: &Call<'_>, side: Side) -> Answer<Reply> {
    let count = match &call.args[2..] {
        [] => None,
        [count] => Some(args::count(count)?),
        _ => return Err(Stop::SYNTAX),
    };
    let popped = take(ks, call.db, call.key()?, side, count.unwrap_or(1))?;
    Ok(match count {
        None => flat(popped),
        Some(_) => reply(call, popped, true),
    })
}

fn flat(members: Vec<Scored>) -> Reply {
    let pair = |(member, score)| [Reply::Bulk(member), Reply::Double(score)];
    Reply::Array(members.into_iter().flat_map(pair).collect())
}

fn take(ks: &mut Keyspace, db: Db, key: &Bytes, side: Side, count: u64) -> Answer<Vec<Scored>> {
    let last = i64::try_from(count).unwrap_or(i64::MAX) - 1;
    // Rank -1 would be the last member.
    let by = if count == 0 { By::Rank(1, 0) } else { By::Rank(0, last) };
    let first = Selection { reverse: side == Side::Max, ..Selection::all(by) };
    let popped = first.members(ks, db, key)?;
    let members: Vec<Bytes> = popped.iter().map(|(member, _)| member.clone()).collect();
    ks.zset_remove(db, key, &members)?;
    Ok(popped)
}

pub fn bzpopmin(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    blocking_pop(ks, call, Side::Min)
}

pub fn bzpopmax(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    blocking_pop(ks, call, Side::Max)
}

fn blocking_pop(ks: &mut Keyspace, call: &Call<'_>, side: Side) -> Answer<Reply> {
    let [_, keys @ .., timeout] = call.args else { return Err(Stop::SYNTAX) };
    args::check_timeout(timeout)?;
    for key in keys {
        if let Some((member, score)) = take(ks, call.db, key, side, 1)?.pop() {
            let key = Reply::Bulk(key.clone());
            return Ok(Reply::Array(vec![key, Reply::Bulk(member), Reply::Double(score)]));
        }
    }
    Ok(Reply::NilArray)
}

pub fn zmpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop_from_first(ks, call, 1)
}

pub fn bzmpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop_from_first(ks, call, 2)
}

/// `[timeout] numkeys key … MIN|MAX [COUNT n]`, with `numkeys` at `first`.
fn pop_from_first(ks: &mut Keyspace, call: &Call<'_>, first: usize) -> Answer<Reply> {
    let numkeys = args::numkeys(call.arg(first)?)?;
    let place = numkeys.checked_add(first + 1).ok_or(Stop::SYNTAX)?;
    let side = match call.arg(place)? {
        side if side.eq_ignore_ascii_case(b"min") => Side::Min,
        side if side.eq_ignore_ascii_case(b"max") => Side::Max,
        _ => return Err(Stop::SYNTAX),
    };
    let count = args::only_count(&call.args[place + 1..])?;
    if first == 2 {
        args::check_timeout(call.arg(1)?)?;
    }
    for key in &call.args[first + 1..place] {
        let popped = take(ks, call.db, key, side, count)?;
        if !popped.is_empty() {
            return Ok(Reply::Array(vec![Reply::Bulk(key.clone()), nested(popped)]));
        }
    }
    Ok(Reply::NilArray)
}
