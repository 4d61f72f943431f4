use bytes::Bytes;

use super::{Scored, reply};
use crate::engine::number::{double_text, int_bytes};
use crate::engine::scan::{self, Scan};
use crate::engine::sets::random::{pick, sample_size};
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::{Kind, Score, Value};
use crate::engine::{Call, Keyspace, encoding};
use crate::resp::Reply;

pub fn zrem(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.zset_remove(call.db, call.key()?, &call.args[2..])? as i64))
}

pub fn zcard(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.len(call.db, call.key()?, Kind::ZSet)? as i64))
}

pub fn zscore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let score = ks.zset_score(call.db, call.key()?, call.arg(2)?)?;
    Ok(score.map_or(Reply::Nil, Reply::Double))
}

pub fn zmscore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, members) = (call.key()?, &call.args[2..]);
    ks.want_members(call.db, key, Kind::ZSet, &mut members.iter())?;
    let zset = ks.zset_known(call.db, key)?;
    let score = |member| zset.and_then(|zset| zset.score(member)).flatten();
    Ok(Reply::Array(members.iter().map(|m| score(m).map_or(Reply::Nil, Reply::Double)).collect()))
}

pub fn zrank(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    rank(ks, call, false)
}

pub fn zrevrank(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    rank(ks, call, true)
}

fn rank(ks: &mut Keyspace, call: &Call<'_>, reverse: bool) -> Answer<Reply> {
    let (key, member) = (call.key()?, call.arg(2)?);
    if let Some(len) = ks.large(call.db, key, Kind::ZSet)? {
        let Some(score) = ks.zset_score(call.db, key, member)? else { return Ok(Reply::Nil) };
        let before = ks.window_rank(call.db, key, member, score)?;
        return Ok(Reply::Int(if reverse { len - 1 - before } else { before } as i64));
    }
    let Some(zset) = ks.zset_all(call.db, key)? else { return Ok(Reply::Nil) };
    let Some(score) = zset.score(member).flatten() else { return Ok(Reply::Nil) };
    let Some(ordered) = &zset.ordered else { return Ok(Reply::Nil) };
    let at = (Score(score), member.clone());
    let rank = if reverse { ordered.range(at..).count() - 1 } else { ordered.range(..at).count() };
    Ok(Reply::Int(rank as i64))
}

pub fn zrandmember(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let options = match &call.args[2..] {
        [] => None,
        [count, rest @ ..] => {
            let count = sample_size(count)?;
            match rest {
                [] => Some((count, false)),
                [option] if option.eq_ignore_ascii_case(b"withscores") => {
                    if !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
                        return Err(Stop::error("ERR value is out of range"));
                    }
                    Some((count, true))
                }
                _ => return Err(Stop::SYNTAX),
            }
        }
    };
    let zset = ks.zset_all(call.db, call.key()?)?;
    let ordered = zset.and_then(|zset| zset.ordered.as_ref()).into_iter().flatten();
    let members: Vec<Scored> = ordered.map(|(score, m)| (m.clone(), score.0)).collect();
    Ok(match options {
        None => Reply::bulk_or_nil(pick(ks, members, 1).pop().map(|(member, _)| member)),
        Some((count, with_scores)) => {
            let picked = pick(ks, members, count);
            reply(call, picked, with_scores)
        }
    })
}

const LISTPACK_INTEGER: f64 = (i64::MAX / 2) as f64;

pub fn zscan(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let cursor = scan::cursor(call.arg(2)?)?;
    let Some(zset) = ks.zset_all(call.db, call.key()?)? else { return Ok(scan::empty()) };
    let scan = Scan::parse(&call.args[3..], false)?;
    let at_once = encoding::of_zset(zset) == encoding::LISTPACK;
    let place = (call.db, call.key()?);
    let (next, page) = ks.page(place, &scan, (cursor, at_once), |value, member| match value {
        Value::ZSet(zset) => zset.score(member)?,
        _ => None,
    });
    let members = page.into_iter().filter(|(member, _)| scan.matches(member));
    // A listpack has whole scores as integers, as far as these hold them twice over.
    let integer = |score: f64| at_once && score == score.trunc() && score.abs() < LISTPACK_INTEGER;
    let text = |score: f64| match integer(score) {
        true => int_bytes(score as i64),
        false => double_text(score).into(),
    };
    let pair = |(member, score): (Bytes, f64)| [member, text(score)];
    Ok(scan::reply(next, members.flat_map(pair)))
}
