use bytes::Bytes;

use super::{entry_reply, id, id_reply, no_group};
use crate::engine::number::parse_int;
use crate::engine::stop::{Answer, Stop, shown};
use crate::engine::value::{EntryFields, Group, Pending, StreamId};
use crate::engine::{Call, Db, Keyspace, args};
use crate::resp::Reply;

/// What happens to one pending entry.
enum Fate {
    /// Its entry is gone from the stream.
    Forgotten,
    Claimed(EntryFields),
}

/// How entries are claimed.
struct Claim<'a> {
    consumer: &'a Bytes,
    delivered_at_ms: i64,
    /// `None`: one more than before, or as before with `just_id`.
    delivery_count: Option<u64>,
    just_id: bool,
}

#[derive(Default)]
struct Options {
    delivered_at_ms: Option<i64>,
    delivery_count: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

pub fn xclaim(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, name, consumer) = (call.key()?, call.arg(2)?, call.arg(3)?);
    let now = ks.now_ms;
    group(ks, call.db, key, name)?;
    let min_idle = integer(call.arg(4)?, "ERR Invalid min-idle-time argument for XCLAIM")?.max(0);
    // The stream says what was claimed and when; the own clock has no say in it.
    let min_idle = if call.from_log { i64::MIN } else { min_idle };
    let rest = &call.args[5..];
    let ids: Vec<StreamId> = rest.iter().map_while(|id| id::strict(id, 0).ok()).collect();
    let options = claim_options(&rest[ids.len()..], now)?;

    let delivered_at_ms = match options.delivered_at_ms {
        Some(at) if at >= 0 && (at <= now || call.from_log) => at,
        _ => now,
    };
    let mut fates: Vec<(StreamId, Fate)> = Vec::with_capacity(ids.len());
    for id in ids {
        if fates.iter().any(|(other, _)| *other == id) && now - delivered_at_ms < min_idle {
            // Named twice: it was claimed just now.
            continue;
        }
        let entry = ks.stream_entry(call.db, key, id)?;
        let known = group(ks, call.db, key, name)?.pending.get(&id);
        let fate = match (entry, known) {
            (None, Some(_)) => Fate::Forgotten,
            (Some(_), Some(known)) if now.saturating_sub(known.delivered_at_ms) < min_idle => {
                continue;
            }
            (Some(fields), Some(_)) => Fate::Claimed(fields),
            (Some(fields), None) if options.force => Fate::Claimed(fields),
            (_, None) => continue,
        };
        fates.push((id, fate));
    }
    let claim = Claim {
        consumer,
        delivered_at_ms,
        delivery_count: options.delivery_count,
        just_id: options.just_id,
    };
    let raised = group(ks, call.db, key, name)?.last_id < options.last_id;
    if raised {
        ks.stream_change(call.db, key, |mut change| {
            if let Some(group) = change.stream.groups.get_mut(name) {
                group.last_id = options.last_id;
            }
            change.group(name);
        })?;
    }
    let claimed = settle(ks, call.db, key, name, &claim, fates)?.0;
    Ok(Reply::Array(claimed))
}

fn claim_options(mut rest: &[Bytes], now: i64) -> Answer<Options> {
    let mut options = Options::default();
    loop {
        match rest {
            [] => return Ok(options),
            [name, behind @ ..] if name.eq_ignore_ascii_case(b"force") => {
                options.force = true;
                rest = behind;
            }
            [name, behind @ ..] if name.eq_ignore_ascii_case(b"justid") => {
                options.just_id = true;
                rest = behind;
            }
            [name, value, behind @ ..] if name.eq_ignore_ascii_case(b"idle") => {
                let idle = integer(value, "ERR Invalid IDLE option argument for XCLAIM")?;
                options.delivered_at_ms = Some(now.wrapping_sub(idle));
                rest = behind;
            }
            [name, value, behind @ ..] if name.eq_ignore_ascii_case(b"time") => {
                let at = integer(value, "ERR Invalid TIME option argument for XCLAIM")?;
                options.delivered_at_ms = Some(at);
                rest = behind;
            }
            [name, value, behind @ ..] if name.eq_ignore_ascii_case(b"retrycount") => {
                let count = integer(value, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                options.delivery_count = u64::try_from(count).ok();
                rest = behind;
            }
            [name, value, behind @ ..] if name.eq_ignore_ascii_case(b"lastid") => {
                options.last_id = id::strict(value, 0)?;
                rest = behind;
            }
            [name, ..] => {
                let name = shown(name);
                return Err(Stop::failed(format!("ERR Unrecognized XCLAIM option '{name}'")));
            }
        }
    }
}

pub fn xautoclaim(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    /// Pending entries that are looked at for each that may be answered.
    const ATTEMPTS: i64 = 10;
    let (key, name, consumer) = (call.key()?, call.arg(2)?, call.arg(3)?);
    let now = ks.now_ms;
    let min_idle =
        integer(call.arg(4)?, "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = id::range_start(call.arg(5)?)?;
    let (mut count, mut just_id) = (100, false);
    let mut rest = &call.args[6..];
    loop {
        match rest {
            [] => break,
            [option, value, behind @ ..] if option.eq_ignore_ascii_case(b"count") => {
                count = args::ranged(value, 1, i64::MAX / 16, "ERR COUNT must be > 0")?;
                rest = behind;
            }
            [option, behind @ ..] if option.eq_ignore_ascii_case(b"justid") => {
                just_id = true;
                rest = behind;
            }
            _ => return Err(Stop::SYNTAX),
        }
    }
    let attempts = usize::try_from(count * ATTEMPTS).unwrap_or(usize::MAX);
    let found = group(ks, call.db, key, name)?;
    let mut looked_at = found.pending.range(start..).map(|(id, p)| (*id, p.delivered_at_ms));
    let visited: Vec<(StreamId, i64)> = looked_at.by_ref().take(attempts).collect();
    let mut next = looked_at.next().map(|(id, _)| id);
    let mut fates = Vec::new();
    for (id, delivered_at_ms) in visited {
        if fates.len() as i64 == count {
            next = Some(id);
            break;
        }
        match ks.stream_entry(call.db, key, id)? {
            None => fates.push((id, Fate::Forgotten)),
            Some(_) if now.saturating_sub(delivered_at_ms) < min_idle => {}
            Some(fields) => fates.push((id, Fate::Claimed(fields))),
        }
    }
    let claim = Claim { consumer, delivered_at_ms: now, delivery_count: None, just_id };
    let (claimed, forgotten) = settle(ks, call.db, key, name, &claim, fates)?;
    Ok(Reply::Array(vec![
        id_reply(next.unwrap_or_default()),
        Reply::Array(claimed),
        Reply::Array(forgotten),
    ]))
}

fn integer(text: &Bytes, otherwise: &'static str) -> Answer<i64> {
    parse_int(text).ok_or(Stop::error(otherwise))
}

fn group<'a>(ks: &'a mut Keyspace, db: Db, key: &Bytes, name: &Bytes) -> Answer<&'a Group> {
    let stream = ks.stream(db, key)?;
    stream.and_then(|stream| stream.groups.get(name)).ok_or_else(|| no_group(key, name))
}

/// Claims and forgets; the replies for the claimed entries, and the ids of the forgotten ones.
fn settle(
    ks: &mut Keyspace,
    db: Db,
    key: &Bytes,
    name: &Bytes,
    claim: &Claim<'_>,
    fates: Vec<(StreamId, Fate)>,
) -> Answer<(Vec<Reply>, Vec<Reply>)> {
    let (mut claimed, mut forgotten) = (Vec::new(), Vec::new());
    if fates.is_empty() {
        return Ok((claimed, forgotten));
    }
    let now = ks.now_ms;
    ks.stream_change(db, key, |mut change| {
        for (id, fate) in fates {
            let Some(group) = change.stream.groups.get_mut(name) else { return };
            match fate {
                Fate::Forgotten => {
                    group.pending.remove(&id);
                    forgotten.push(id_reply(id));
                }
                Fate::Claimed(fields) => {
                    group.consumers.entry(claim.consumer.clone()).or_default().seen_at_ms = now;
                    let pending = group
                        .pending
                        .entry(id)
                        .or_insert_with(|| Pending { delivery_count: 1, ..Pending::default() });
                    pending.consumer = claim.consumer.clone();
                    pending.delivered_at_ms = claim.delivered_at_ms;
                    pending.delivery_count = match claim.delivery_count {
                        Some(count) => count,
                        None => pending.delivery_count + u64::from(!claim.just_id),
                    };
                    claimed.push(match claim.just_id {
                        true => id_reply(id),
                        false => entry_reply((id, fields)),
                    });
                    change.consumer(name, claim.consumer);
                }
            }
            change.pending(name, id);
        }
    })?;
    Ok((claimed, forgotten))
}
