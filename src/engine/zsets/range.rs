use bytes::Bytes;

use super::bounds::{LexRange, Scores};
use super::select::{By, Selection};
use super::{Scored, reply};
use crate::engine::number::int;
use crate::engine::stop::{Answer, Reads, Stop};
use crate::engine::value::{self, Value, ZSet};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rank,
    Score,
    Lex,
}

/// What a command's name leaves open is `None`.
#[derive(Clone, Copy)]
struct Form {
    kind: Option<Kind>,
    reverse: Option<bool>,
    store: bool,
}

pub fn zrange(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Form { kind: None, reverse: None, store: false })
}

pub fn zrevrange(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Form { kind: Some(Kind::Rank), reverse: Some(true), store: false })
}

pub fn zrangebyscore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Form { kind: Some(Kind::Score), reverse: Some(false), store: false })
}

pub fn zrevrangebyscore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Form { kind: Some(Kind::Score), reverse: Some(true), store: false })
}

pub fn zrangebylex(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Form { kind: Some(Kind::Lex), reverse: Some(false), store: false })
}

pub fn zrevrangebylex(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Form { kind: Some(Kind::Lex), reverse: Some(true), store: false })
}

fn answer(ks: &mut Keyspace, call: &Call<'_>, form: Form) -> Answer<Reply> {
    let (selection, with_scores) = parse(&call.args[2..], form)?;
    let key = call.key()?;
    Ok(reply(call, selection.members(ks, call.db, key)?, with_scores))
}

pub fn zrangestore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let form = Form { kind: None, reverse: None, store: true };
    let (selection, _) = parse(&call.args[3..], form)?;
    let (target, source) = (call.key()?, call.arg(2)?);
    let mut reads = Reads::default();
    let members = reads.of(selection.members(ks, call.db, source));
    reads.of(ks.kind(call.db, target));
    reads.done()?;
    let members: Vec<Scored> = members.unwrap_or_default();
    let len = members.len() as i64;
    ks.put(call.db, target, Value::ZSet(ZSet::from_scores(members)), None)?;
    Ok(Reply::Int(len))
}

/// `min max [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`; the selection, and whether
/// scores are wanted.
fn parse(args: &[Bytes], form: Form) -> Answer<(Selection, bool)> {
    let [first, second, options @ ..] = args else { return Err(Stop::SYNTAX) };
    let (mut kind, mut reverse) = (form.kind, form.reverse);
    let (mut offset, mut limit, mut with_scores) = (0, -1, false);
    let mut options = options;
    while let [option, rest @ ..] = options {
        options = rest;
        if !form.store && option.eq_ignore_ascii_case(b"withscores") {
            with_scores = true;
        } else if option.eq_ignore_ascii_case(b"limit") && rest.len() >= 2 {
            (offset, limit) = (int(&rest[0])?, int(&rest[1])?);
            options = &rest[2..];
        } else if reverse.is_none() && option.eq_ignore_ascii_case(b"rev") {
            reverse = Some(true);
        } else if kind.is_none() && option.eq_ignore_ascii_case(b"bylex") {
            kind = Some(Kind::Lex);
        } else if kind.is_none() && option.eq_ignore_ascii_case(b"byscore") {
            kind = Some(Kind::Score);
        } else {
            return Err(Stop::SYNTAX);
        }
    }
    let (kind, reverse) = (kind.unwrap_or(Kind::Rank), reverse.unwrap_or(false));
    if limit != -1 && kind == Kind::Rank {
        return Err(Stop::error(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && kind == Kind::Lex {
        return Err(Stop::error(
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ));
    }
    let (min, max) = if reverse { (second, first) } else { (first, second) };
    let by = match kind {
        Kind::Rank => By::Rank(int(first)?, int(second)?),
        Kind::Score => By::Score(Scores::parse(min, max)?),
        Kind::Lex => By::Lex(LexRange::parse(min, max)?),
    };
    Ok((Selection { by, reverse, offset, limit }, with_scores))
}

pub fn zcount(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let scores = Scores::parse(call.arg(2)?, call.arg(3)?)?;
    let key = call.key()?;
    if ks.large(call.db, key, value::Kind::ZSet)?.is_some() {
        let inside = scores.inclusive();
        let count = inside.map(|(min, max)| ks.window_count(call.db, key, min, max)).transpose()?;
        return Ok(Reply::Int(count.unwrap_or(0) as i64));
    }
    let Some(zset) = ks.zset_all(call.db, key)? else { return Ok(Reply::Int(0)) };
    let inside = zset.ordered.as_ref().zip(scores.range());
    Ok(Reply::Int(inside.map_or(0, |(ordered, range)| ordered.range(range).count()) as i64))
}

pub fn zlexcount(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let selection = Selection::all(By::Lex(LexRange::parse(call.arg(2)?, call.arg(3)?)?));
    let zset = ks.zset_all(call.db, call.key()?)?;
    Ok(Reply::Int(zset.map_or(0, |zset| selection.of(zset).len()) as i64))
}

pub fn zremrangebyrank(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let by = By::Rank(int(call.arg(2)?)?, int(call.arg(3)?)?);
    remove(ks, call, by)
}

pub fn zremrangebyscore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let by = By::Score(Scores::parse(call.arg(2)?, call.arg(3)?)?);
    remove(ks, call, by)
}

pub fn zremrangebylex(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let by = By::Lex(LexRange::parse(call.arg(2)?, call.arg(3)?)?);
    remove(ks, call, by)
}

fn remove(ks: &mut Keyspace, call: &Call<'_>, by: By) -> Answer<Reply> {
    let key = call.key()?;
    let selection = Selection::all(by);
    let members = selection.members(ks, call.db, key)?;
    let members: Vec<Bytes> = members.into_iter().map(|(member, _)| member).collect();
    Ok(Reply::Int(ks.zset_remove(call.db, key, &members)? as i64))
}
