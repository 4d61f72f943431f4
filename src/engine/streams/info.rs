use bytes::Bytes;

use super::lag::Counts;
use super::{entry_reply, help, id, id_reply, no_group_of, subcommand, wrong_subcommand};
use crate::engine::keyspace::StreamRange;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Reads, Stop};
use crate::engine::value::{Group, Stream, StreamId};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

const SUBCOMMANDS: &[(&str, i32)] = &[("consumers", 4), ("groups", 3), ("stream", -3), ("help", 2)];

const HELP: &[&str] = &[
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
];

pub fn xinfo(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let name = subcommand(call, SUBCOMMANDS)?;
    if name == "help" {
        return Ok(help(call, HELP));
    }
    let key = call.arg(2)?;
    if ks.stream(call.db, key)?.is_none() {
        return Err(Stop::NO_SUCH_KEY);
    }
    match name {
        "consumers" => consumers(ks, call, key),
        "groups" => {
            let first_id = ks.stream_first_id(call.db, key)?;
            let Some(stream) = ks.stream(call.db, key)? else { return Err(Stop::NO_SUCH_KEY) };
            let counts = Counts::of(stream, first_id);
            Ok(Reply::Array(stream.groups.iter().map(|g| group(g, &counts)).collect()))
        }
        _ => stream(ks, call, key),
    }
}

fn field(name: &'static str, value: Reply) -> (Reply, Reply) {
    (Reply::Bulk(Bytes::from_static(name.as_bytes())), value)
}

fn number(value: u64) -> Reply {
    Reply::Int(value as i64)
}

fn consumers(ks: &mut Keyspace, call: &Call<'_>, key: &Bytes) -> Answer<Reply> {
    let (name, now) = (call.arg(3)?, ks.now_ms);
    let stream = ks.stream(call.db, key)?;
    let group =
        stream.and_then(|stream| stream.groups.get(name)).ok_or_else(|| no_group_of(key, name))?;
    let consumer = |(name, seen): (&Bytes, &crate::engine::value::Consumer)| {
        let pending = group.pending.values().filter(|p| p.consumer == *name).count();
        Reply::Map(vec![
            field("name", Reply::Bulk(name.clone())),
            field("pending", number(pending as u64)),
            field("idle", Reply::Int(now.saturating_sub(seen.seen_at_ms).max(0))),
        ])
    };
    Ok(Reply::Array(group.consumers.iter().map(consumer).collect()))
}

fn progress(group: &Group, counts: &Counts) -> [(Reply, Reply); 2] {
    [
        field("entries-read", group.entries_read.map_or(Reply::Nil, number)),
        field("lag", counts.lag(group).map_or(Reply::Nil, Reply::Int)),
    ]
}

fn group((name, group): (&Bytes, &Group), counts: &Counts) -> Reply {
    let mut fields = vec![
        field("name", Reply::Bulk(name.clone())),
        field("consumers", number(group.consumers.len() as u64)),
        field("pending", number(group.pending.len() as u64)),
        field("last-delivered-id", id_reply(group.last_id)),
    ];
    fields.extend(progress(group, counts));
    Reply::Map(fields)
}

fn stream(ks: &mut Keyspace, call: &Call<'_>, key: &Bytes) -> Answer<Reply> {
    let full = match &call.args[3..] {
        [] => None,
        [full] if full.eq_ignore_ascii_case(b"full") => Some(10),
        [full, count, value]
            if full.eq_ignore_ascii_case(b"full") && count.eq_ignore_ascii_case(b"count") =>
        {
            Some(match int(value)? {
                0 => u64::MAX,
                count => u64::try_from(count).unwrap_or(10),
            })
        }
        _ => return Err(wrong_subcommand(call)),
    };
    let ends =
        |reverse, limit| StreamRange { start: StreamId::default(), end: id::MAX, reverse, limit };
    let mut reads = Reads::default();
    let first_id = reads.of(ks.stream_first_id(call.db, key)).unwrap_or_default();
    let oldest = reads.of(ks.stream_range(call.db, key, &ends(false, full.unwrap_or(1))));
    let newest = match full {
        None => reads.of(ks.stream_range(call.db, key, &ends(true, 1))),
        Some(_) => None,
    };
    reads.done()?;
    let Some(stream) = ks.stream(call.db, key)? else { return Err(Stop::NO_SUCH_KEY) };
    let entries = |found: Option<Vec<_>>| found.unwrap_or_default().into_iter().map(entry_reply);
    // Redis's default node holds 100 entries, and a node of its index leads to each.
    let nodes = stream.len().div_ceil(100);
    let mut fields = vec![
        field("length", number(stream.len())),
        field("radix-tree-keys", number(nodes)),
        field("radix-tree-nodes", number(nodes + 1)),
        field("last-generated-id", id_reply(stream.last_id)),
        field("max-deleted-entry-id", id_reply(stream.max_deleted_id)),
        field("entries-added", number(stream.entries_added)),
        field("recorded-first-entry-id", id_reply(first_id)),
    ];
    match full {
        None => {
            fields.push(field("groups", number(stream.groups.len() as u64)));
            fields.push(field("first-entry", entries(oldest).next().unwrap_or(Reply::Nil)));
            fields.push(field("last-entry", entries(newest).next().unwrap_or(Reply::Nil)));
        }
        Some(count) => {
            fields.push(field("entries", Reply::Array(entries(oldest).collect())));
            fields.push(field("groups", full_groups(stream, first_id, count)));
        }
    }
    Ok(Reply::Map(fields))
}

fn full_groups(stream: &Stream, first_id: StreamId, count: u64) -> Reply {
    let counts = Counts::of(stream, first_id);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let group = |(name, group): (&Bytes, &Group)| {
        let pending = group.pending.iter().take(count).map(|(id, pending)| {
            Reply::Array(vec![
                id_reply(*id),
                Reply::Bulk(pending.consumer.clone()),
                Reply::Int(pending.delivered_at_ms),
                number(pending.delivery_count),
            ])
        });
        let mut fields = vec![
            field("name", Reply::Bulk(name.clone())),
            field("last-delivered-id", id_reply(group.last_id)),
        ];
        fields.extend(progress(group, &counts));
        fields.push(field("pel-count", number(group.pending.len() as u64)));
        fields.push(field("pending", Reply::Array(pending.collect())));
        let consumers = group.consumers.iter().map(|(name, seen)| {
            let own: Vec<_> = group.pending.iter().filter(|(_, p)| p.consumer == *name).collect();
            let pending = own.iter().take(count).map(|(id, pending)| {
                Reply::Array(vec![
                    id_reply(**id),
                    Reply::Int(pending.delivered_at_ms),
                    number(pending.delivery_count),
                ])
            });
            Reply::Map(vec![
                field("name", Reply::Bulk(name.clone())),
                field("seen-time", Reply::Int(seen.seen_at_ms)),
                field("pel-count", number(own.len() as u64)),
                field("pending", Reply::Array(pending.collect())),
            ])
        });
        fields.push(field("consumers", Reply::Array(consumers.collect())));
        Reply::Map(fields)
    };
    Reply::Array(stream.groups.iter().map(group).collect())
}
