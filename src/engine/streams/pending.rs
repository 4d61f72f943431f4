use std::collections::BTreeMap;

use bytes::Bytes;

use super::{id, id_reply, no_group};
use crate::engine::number::{int, int_bytes};
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::{Group, StreamId};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

/// The entries that are asked for.
struct Range<'a> {
    start: StreamId,
    end: StreamId,
    count: usize,
    min_idle_ms: i64,
    consumer: Option<&'a Bytes>,
}

pub fn xpending(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, group) = (call.key()?, call.arg(2)?);
    let range = parse(call)?;
    let now = ks.now_ms;
    let stream = ks.stream(call.db, key)?;
    let group =
        stream.and_then(|stream| stream.groups.get(group)).ok_or_else(|| no_group(key, group))?;
    Ok(match range {
        None => summary(group),
        Some(range) => entries(group, &range, now),
    })
}

/// `[[IDLE ms] start end count [consumer]]`
fn parse<'a>(call: &Call<'a>) -> Answer<Option<Range<'a>>> {
    let mut rest = &call.args[3..];
    if rest.is_empty() {
        return Ok(None);
    }
    if !(3..=6).contains(&rest.len()) {
        return Err(Stop::SYNTAX);
    }
    let mut min_idle_ms = 0;
    if rest[0].eq_ignore_ascii_case(b"idle") {
        min_idle_ms = int(&rest[1])?;
        if rest.len() < 5 {
            return Err(Stop::SYNTAX);
        }
        rest = &rest[2..];
    }
    let [start, end, count, behind @ ..] = rest else { return Err(Stop::SYNTAX) };
    let count = usize::try_from(int(count)?).unwrap_or(0);
    let (start, end) = (id::range_start(start)?, id::range_end(end)?);
    Ok(Some(Range { start, end, count, min_idle_ms, consumer: behind.first() }))
}

fn summary(group: &Group) -> Reply {
    let len = Reply::Int(group.pending.len() as i64);
    let (Some((first, _)), Some((last, _))) =
        (group.pending.first_key_value(), group.pending.last_key_value())
    else {
        return Reply::Array(vec![len, Reply::Nil, Reply::Nil, Reply::NilArray]);
    };
    let mut by_consumer: BTreeMap<&Bytes, i64> = BTreeMap::new();
    for pending in group.pending.values() {
        *by_consumer.entry(&pending.consumer).or_default() += 1;
    }
    let count = |(consumer, count): (&Bytes, i64)| {
        Reply::Array(vec![Reply::Bulk(consumer.clone()), Reply::Bulk(int_bytes(count))])
    };
    let by_consumer = by_consumer.into_iter().map(count).collect();
    Reply::Array(vec![len, id_reply(*first), id_reply(*last), Reply::Array(by_consumer)])
}

fn entries(group: &Group, range: &Range<'_>, now: i64) -> Reply {
    if range.start > range.end {
        return Reply::Array(Vec::new());
    }
    let found = group
        .pending
        .range(range.start..=range.end)
        .filter(|(_, p)| range.consumer.is_none_or(|consumer| p.consumer == *consumer))
        .map(|(id, p)| (id, p, now.saturating_sub(p.delivered_at_ms)))
        .filter(|(_, _, idle)| range.min_idle_ms == 0 || *idle >= range.min_idle_ms)
        .take(range.count);
    let reply = found.map(|(id, pending, idle)| {
        Reply::Array(vec![
            id_reply(*id),
            Reply::Bulk(pending.consumer.clone()),
            Reply::Int(idle.max(0)),
            Reply::Int(pending.delivery_count as i64),
        ])
    });
    Reply::Array(reply.collect())
}
