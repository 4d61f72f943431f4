use bytes::Bytes;

use super::lag::Counts;
use super::{entry_reply, id, id_reply};
use crate::engine::keyspace::StreamRange;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Reads, Stop, shown};
use crate::engine::value::{Consumer, EntryFields, Pending, StreamId};
use crate::engine::{Call, Keyspace, args};
use crate::resp::{Protocol, Reply};

struct Request<'a> {
    /// Group and consumer, of XREADGROUP.
    reader: Option<(&'a Bytes, &'a Bytes)>,
    no_ack: bool,
    limit: u64,
    keys: &'a [Bytes],
    ids: &'a [Bytes],
}

/// From where a stream is read.
#[derive(Clone, Copy)]
enum From {
    /// What the group has not read yet.
    New,
    /// What the consumer has not acknowledged, above this id.
    History(StreamId),
}

pub fn xread(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let request = parse(call, false)?;
    let mut reads = Reads::default();
    for key in request.keys {
        reads.of(ks.stream(call.db, key).map(|_| ()));
    }
    reads.loaded()?;
    let mut froms = Vec::with_capacity(request.ids.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        let stream = ks.stream(call.db, key)?;
        froms.push(match id.as_ref() {
            b"$" => stream.map_or(StreamId::default(), |stream| stream.last_id),
            b">" => {
                return Err(Stop::error(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP \
                     <group> <consumer> option.",
                ));
            }
            id => id::strict(id, 0)?,
        });
    }
    let mut reads = Reads::default();
    let mut found = Vec::new();
    for (key, after) in request.keys.iter().zip(froms) {
        let Some(start) = after.next() else { continue };
        let range = StreamRange { start, end: id::MAX, reverse: false, limit: request.limit };
        let entries = reads.of(ks.stream_range(call.db, key, &range)).unwrap_or_default();
        if !entries.is_empty() {
            found.push((key, entries.into_iter().map(entry_reply).collect()));
        }
    }
    reads.done()?;
    Ok(streams_reply(call, found))
}

fn streams_reply(call: &Call<'_>, found: Vec<(&Bytes, Vec<Reply>)>) -> Reply {
    if found.is_empty() {
        return Reply::NilArray;
    }
    let found =
        found.into_iter().map(|(key, entries)| (Reply::Bulk(key.clone()), Reply::Array(entries)));
    match call.protocol {
        Protocol::Resp2 => {
            Reply::Array(found.map(|(key, entries)| Reply::Array(vec![key, entries])).collect())
        }
        Protocol::Resp3 => Reply::Map(found.collect()),
    }
}

pub fn xreadgroup(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let request = parse(call, true)?;
    let (group, consumer) =
        request.reader.ok_or(Stop::error("ERR Missing GROUP option for XREADGROUP"))?;
    let mut reads = Reads::default();
    for key in request.keys {
        reads.of(ks.stream(call.db, key).map(|_| ()));
    }
    reads.loaded()?;
    let mut froms = Vec::with_capacity(request.ids.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        let stream = ks.stream(call.db, key)?;
        if stream.is_none_or(|stream| !stream.groups.contains_key(group)) {
            let (key, group) = (shown(key), shown(group));
            return Err(Stop::failed(format!(
                "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP \
                 option"
            )));
        }
        froms.push(match id.as_ref() {
            b"$" => {
                return Err(Stop::error(
                    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read \
                     the history of this consumer by specifying a proper ID, or use the > ID to \
                     get new messages. The $ ID would just return an empty result set.",
                ));
            }
            b">" => From::New,
            id => match id::strict(id, 0)? {
                id::MAX => From::New,
                id => From::History(id),
            },
        });
    }
    let mut reads = Reads::default();
    for (index, (key, from)) in request.keys.iter().zip(&froms).enumerate() {
        // The second reading of a key goes on where the first has ended.
        if request.keys[..index].contains(key) {
            reads.of(ks.stream_all(call.db, key).map(|_| ()));
        }
        reads.of(entries_of(ks, call, key, &request, *from));
        reads.of(ks.stream_first_id(call.db, key));
    }
    reads.done()?;
    let mut found = Vec::new();
    for (key, from) in request.keys.iter().zip(froms) {
        let entries = entries_of(ks, call, key, &request, from)?;
        if matches!(from, From::New) && entries.is_empty() {
            continue;
        }
        deliver(ks, call, key, (group, consumer), request.no_ack, from, &entries)?;
        let reply = |(id, fields)| match fields {
            Some(fields) => entry_reply((id, fields)),
            None => Reply::Array(vec![id_reply(id), Reply::NilArray]),
        };
        found.push((key, entries.into_iter().map(reply).collect()));
    }
    Ok(streams_reply(call, found))
}

type Delivered = (StreamId, Option<EntryFields>);

/// What a read of one stream answers; without fields: an entry that was deleted meanwhile.
fn entries_of(
    ks: &mut Keyspace,
    call: &Call<'_>,
    key: &Bytes,
    request: &Request<'_>,
    from: From,
) -> Answer<Vec<Delivered>> {
    let Some((group, consumer)) = request.reader else { return Ok(Vec::new()) };
    let stream = ks.stream(call.db, key)?;
    let Some(group) = stream.and_then(|stream| stream.groups.get(group)) else {
        return Ok(Vec::new());
    };
    let start = match from {
        From::History(id) => id.next(),
        From::New => group.last_id.next(),
    };
    let Some(start) = start else { return Ok(Vec::new()) };
    if !matches!(from, From::History(_)) {
        let range = StreamRange { start, end: id::MAX, reverse: false, limit: request.limit };
        let entries = ks.stream_range(call.db, key, &range)?;
        return Ok(entries.into_iter().map(|(id, fields)| (id, Some(fields))).collect());
    }
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let own = group.pending.range(start..).filter(|(_, p)| p.consumer == *consumer);
    let own: Vec<StreamId> = own.map(|(id, _)| *id).take(limit).collect();
    own.into_iter().map(|id| Ok((id, ks.stream_entry(call.db, key, id)?))).collect()
}

/// Records that the consumer has got these entries.
fn deliver(
    ks: &mut Keyspace,
    call: &Call<'_>,
    key: &Bytes,
    (group, consumer): (&Bytes, &Bytes),
    no_ack: bool,
    from: From,
    entries: &[Delivered],
) -> Answer<()> {
    let now = ks.now_ms;
    let first_id = ks.stream_first_id(call.db, key)?;
    ks.stream_change(call.db, key, |mut change| {
        let counts = Counts::of(change.stream, first_id);
        let Some(state) = change.stream.groups.get_mut(group) else { return };
        let new = Consumer { seen_at_ms: now, active_at_ms: None };
        state.consumers.entry(consumer.clone()).or_insert(new).seen_at_ms = now;
        let mut touched = Vec::new();
        for (id, fields) in entries {
            if let From::History(_) = from {
                if let Some(pending) = state.pending.get_mut(id)
                    && fields.is_some()
                {
                    pending.delivered_at_ms = now;
                    pending.delivery_count += 1;
                    touched.push(*id);
                }
                continue;
            }
            if *id > state.last_id {
                state.entries_read = counts.after_reading(state.entries_read, *id);
                state.last_id = *id;
            }
            if !no_ack {
                let consumer = consumer.clone();
                let pending = Pending { consumer, delivered_at_ms: now, delivery_count: 1 };
                state.pending.insert(*id, pending);
                touched.push(*id);
            }
        }
        change.group(group);
        change.consumer(group, consumer);
        for id in touched {
            change.pending(group, id);
        }
    })?;
    Ok(())
}

fn parse<'a>(call: &Call<'a>, group: bool) -> Answer<Request<'a>> {
    let (mut reader, mut no_ack, mut limit) = (None, false, u64::MAX);
    let mut rest = &call.args[1..];
    loop {
        match rest {
            [name, value, behind @ ..] if name.eq_ignore_ascii_case(b"block") => {
                let timeout = args::ranged(
                    value,
                    i64::MIN,
                    i64::MAX,
                    "ERR timeout is not an integer or out of range",
                )?;
                if timeout < 0 {
                    return Err(Stop::error("ERR timeout is negative"));
                }
                rest = behind;
            }
            [name, value, behind @ ..] if name.eq_ignore_ascii_case(b"count") => {
                limit = match u64::try_from(int(value)?) {
                    Ok(0) | Err(_) => u64::MAX,
                    Ok(limit) => limit,
                };
                rest = behind;
            }
            [name, streams @ ..]
                if name.eq_ignore_ascii_case(b"streams") && !streams.is_empty() =>
            {
                if streams.len() % 2 == 1 {
                    return Err(Stop::error(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' \
                         must be specified.",
                    ));
                }
                let (keys, ids) = streams.split_at(streams.len() / 2);
                return Ok(Request { reader, no_ack, limit, keys, ids });
            }
            [name, value, consumer, behind @ ..] if name.eq_ignore_ascii_case(b"group") => {
                if !group {
                    return Err(Stop::error(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                reader = Some((value, consumer));
                rest = behind;
            }
            [name, behind @ ..] if name.eq_ignore_ascii_case(b"noack") => {
                if !group {
                    return Err(Stop::error(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                no_ack = true;
                rest = behind;
            }
            _ => return Err(Stop::SYNTAX),
        }
    }
}
