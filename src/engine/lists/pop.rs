use bytes::Bytes;

use super::end_of;
use crate::engine::keyspace::End;
use crate::engine::stop::{Answer, Reads, Stop};
use crate::engine::value::Kind;
use crate::engine::{Call, Keyspace, args};
use crate::resp::Reply;

pub fn lpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop(ks, call, End::Front)
}

pub fn rpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop(ks, call, End::Back)
}

fn pop(ks: &mut Keyspace, call: &Call<'_>, end: End) -> Answer<Reply> {
    let key = call.key()?;
    let Some(count) = call.args.get(2) else {
        return Ok(Reply::bulk_or_nil(ks.list_pop(call.db, key, end, 1)?.pop()));
    };
    if call.args.len() > 3 {
        return Err(call.wrong_arity());
    }
    let count = args::count(count)?;
    if ks.len(call.db, key, Kind::List)? == 0 {
        return Ok(Reply::NilArray);
    }
    Ok(bulks(ks.list_pop(call.db, key, end, count)?))
}

fn bulks(elements: Vec<Bytes>) -> Reply {
    Reply::Array(elements.into_iter().map(Reply::Bulk).collect())
}

pub fn blpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    blocking_pop(ks, call, End::Front)
}

pub fn brpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    blocking_pop(ks, call, End::Back)
}

fn blocking_pop(ks: &mut Keyspace, call: &Call<'_>, end: End) -> Answer<Reply> {
    let [_, keys @ .., timeout] = call.args else { return Err(Stop::SYNTAX) };
    args::check_timeout(timeout)?;
    for key in keys {
        if let Some(element) = ks.list_pop(call.db, key, end, 1)?.pop() {
            return Ok(Reply::Array(vec![Reply::Bulk(key.clone()), Reply::Bulk(element)]));
        }
    }
    Ok(Reply::NilArray)
}

pub fn lmpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop_from_first(ks, call, 1)
}

pub fn blmpop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    pop_from_first(ks, call, 2)
}

/// `[timeout] numkeys key … LEFT|RIGHT [COUNT n]`, with `numkeys` at `first`.
fn pop_from_first(ks: &mut Keyspace, call: &Call<'_>, first: usize) -> Answer<Reply> {
    let numkeys = args::numkeys(call.arg(first)?)?;
    let place = numkeys.checked_add(first + 1).ok_or(Stop::SYNTAX)?;
    let end = end_of(call.arg(place)?)?;
    let count = args::only_count(&call.args[place + 1..])?;
    if first == 2 {
        args::check_timeout(call.arg(1)?)?;
    }
    for key in &call.args[first + 1..place] {
        let popped = ks.list_pop(call.db, key, end, count)?;
        if !popped.is_empty() {
            return Ok(Reply::Array(vec![Reply::Bulk(key.clone()), bulks(popped)]));
        }
    }
    Ok(Reply::NilArray)
}

pub fn rpoplpush(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    move_element(ks, call, End::Back, End::Front)
}

pub fn brpoplpush(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    args::check_timeout(call.arg(3)?)?;
    move_element(ks, call, End::Back, End::Front)
}

pub fn lmove(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (from, to) = (end_of(call.arg(3)?)?, end_of(call.arg(4)?)?);
    move_element(ks, call, from, to)
}

pub fn blmove(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (from, to) = (end_of(call.arg(3)?)?, end_of(call.arg(4)?)?);
    args::check_timeout(call.arg(5)?)?;
    move_element(ks, call, from, to)
}

fn move_element(ks: &mut Keyspace, call: &Call<'_>, from: End, to: End) -> Answer<Reply> {
    let (db, source, target) = (call.db, call.key()?, call.arg(2)?);
    let mut reads = Reads::default();
    let len = reads.of(ks.list_want(db, source, from, 1).and_then(|()| {
        // A missing source answers before the target's type is looked at.
        ks.len(db, source, Kind::List)
    }));
    if len != Some(0) {
        reads.of(ks.len(db, target, Kind::List));
    }
    reads.done()?;
    let Some(len) = len.filter(|len| *len > 0) else { return Ok(Reply::Nil) };
    let at = if from == End::Front { 0 } else { len - 1 };
    let Some(element) = ks.list_range(db, source, at, 1)?.pop() else { return Ok(Reply::Nil) };
    // Pushed first, so that a list which is moved within itself never becomes empty.
    if source != target || from != to {
        ks.list_push(db, target, to, std::slice::from_ref(&element))?;
        ks.list_pop(db, source, from, 1)?;
    }
    Ok(Reply::Bulk(element))
}
