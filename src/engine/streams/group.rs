use bytes::Bytes;

use super::{help, id, no_group_of, subcommand, wrong_subcommand};
use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::{Consumer, Group, StreamId};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

const SUBCOMMANDS: &[(&str, i32)] = &[
    ("create", -5),
    ("setid", -5),
    ("destroy", 4),
    ("createconsumer", 5),
    ("delconsumer", 5),
    ("help", 2),
];

const HELP: &[&str] = &[
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
];

pub fn xgroup(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let name = subcommand(call, SUBCOMMANDS)?;
    if name == "help" {
        return Ok(help(call, HELP));
    }
    let (key, group) = (call.arg(2)?, call.arg(3)?);
    let (mkstream, entries_read) = match name {
        "create" | "setid" => options(call, name == "create")?,
        _ => (false, None),
    };
    let stream = ks.stream(call.db, key)?;
    if stream.is_none() && !mkstream {
        return Err(Stop::error(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want \
             to use the MKSTREAM option to create an empty stream automatically.",
        ));
    }
    let last_id = stream.map_or(StreamId::default(), |stream| stream.last_id);
    let there = stream.is_some_and(|stream| stream.groups.contains_key(group));
    if !there && matches!(name, "setid" | "createconsumer" | "delconsumer") {
        return Err(no_group_of(key, group));
    }
    // Options given twice.
    let most = if name == "create" { 8 } else { 7 };
    if call.args.len() > most {
        return Err(wrong_subcommand(call));
    }
    match name {
        "create" => {
            let last_id = match call.arg(4)? {
                id if id == "$" => last_id,
                id => id::strict(id, 0)?,
            };
            if there {
                return Err(Stop::error("BUSYGROUP Consumer Group name already exists"));
            }
            let new = Group { last_id, entries_read, ..Group::default() };
            ks.stream_change(call.db, key, |mut change| {
                change.stream.groups.insert(group.clone(), new);
                change.group_reset(group);
            })?;
            Ok(Reply::OK)
        }
        "setid" => {
            let last_id = match call.arg(4)? {
                id if id == "$" => last_id,
                id => id::any(id, 0)?,
            };
            ks.stream_change(call.db, key, |mut change| {
                if let Some(found) = change.stream.groups.get_mut(group) {
                    (found.last_id, found.entries_read) = (last_id, entries_read);
                }
                change.group(group);
            })?;
            Ok(Reply::OK)
        }
        "destroy" => {
            if there {
                ks.stream_change(call.db, key, |mut change| {
                    change.stream.groups.remove(group);
                    change.group(group);
                })?;
            }
            Ok(Reply::Int(i64::from(there)))
        }
        "createconsumer" => create_consumer(ks, call, key, group),
        _ => delete_consumer(ks, call, key, group),
    }
}

/// `[MKSTREAM] [ENTRIESREAD n]`: whether to create the stream, and the counter, unknown for -1.
fn options(call: &Call<'_>, create: bool) -> Answer<(bool, Option<u64>)> {
    let (mut mkstream, mut entries_read) = (false, None);
    let mut rest = &call.args[5..];
    loop {
        match rest {
            [] => break,
            [name, behind @ ..] if create && name.eq_ignore_ascii_case(b"mkstream") => {
                mkstream = true;
                rest = behind;
            }
            [name, value, behind @ ..] if name.eq_ignore_ascii_case(b"entriesread") => {
                entries_read = match int(value)? {
                    -1 => None,
                    value => Some(u64::try_from(value).map_err(|_| {
                        Stop::error("ERR value for ENTRIESREAD must be positive or -1")
                    })?),
                };
                rest = behind;
            }
            _ => return Err(wrong_subcommand(call)),
        }
    }
    Ok((mkstream, entries_read))
}

fn create_consumer(
    ks: &mut Keyspace,
    call: &Call<'_>,
    key: &Bytes,
    group: &Bytes,
) -> Answer<Reply> {
    let consumer = call.arg(4)?;
    let now = ks.now_ms;
    let found = ks.stream(call.db, key)?.and_then(|stream| stream.groups.get(group));
    if found.is_some_and(|found| found.consumers.contains_key(consumer)) {
        return Ok(Reply::Int(0));
    }
    ks.stream_change(call.db, key, |mut change| {
        if let Some(found) = change.stream.groups.get_mut(group) {
            let new = Consumer { seen_at_ms: now, active_at_ms: None };
            found.consumers.insert(consumer.clone(), new);
        }
        change.consumer(group, consumer);
    })?;
    Ok(Reply::Int(1))
}

fn delete_consumer(
    ks: &mut Keyspace,
    call: &Call<'_>,
    key: &Bytes,
    group: &Bytes,
) -> Answer<Reply> {
    let consumer = call.arg(4)?;
    let found = ks.stream(call.db, key)?.and_then(|stream| stream.groups.get(group));
    if !found.is_some_and(|found| found.consumers.contains_key(consumer)) {
        return Ok(Reply::Int(0));
    }
    let pending = ks.stream_change(call.db, key, |mut change| {
        let Some(found) = change.stream.groups.get_mut(group) else { return 0 };
        found.consumers.remove(consumer);
        let gone: Vec<StreamId> = found
            .pending
            .extract_if(.., |_, p| p.consumer == *consumer)
            .map(|(id, _)| id)
            .collect();
        change.consumer(group, consumer);
        for id in &gone {
            change.pending(group, *id);
        }
        gone.len() as i64
    })?;
    Ok(Reply::Int(pending.unwrap_or(0)))
}

pub fn xack(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, group) = (call.key()?, call.arg(2)?);
    let stream = ks.stream(call.db, key)?;
    let Some(found) = stream.and_then(|stream| stream.groups.get(group)) else {
        return Ok(Reply::Int(0));
    };
    let ids = call.args[3..].iter().map(|id| id::strict(id, 0)).collect::<Answer<Vec<_>>>()?;
    if !ids.iter().any(|id| found.pending.contains_key(id)) {
        return Ok(Reply::Int(0));
    }
    let acknowledged = ks.stream_change(call.db, key, |mut change| {
        let mut acknowledged = 0;
        for id in ids {
            let found = change.stream.groups.get_mut(group);
            if found.is_some_and(|found| found.pending.remove(&id).is_some()) {
                acknowledged += 1;
                change.pending(group, id);
            }
        }
        acknowledged
    })?;
    Ok(Reply::Int(acknowledged.unwrap_or(0)))
}
