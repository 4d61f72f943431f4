use super::id::{self, NewId};
use super::id_reply;
use super::trim::{self, remove_oldest};
use crate::engine::keyspace::StreamRange;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::StreamId;
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

pub fn xadd(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let options = trim::options(ks, call, true)?;
    let new = call.args.get(options.end).ok_or_else(|| call.wrong_arity())?;
    let new = id::new_id(new)?;
    let fields = &call.args[options.end + 1..];
    if fields.is_empty() || fields.len() % 2 == 1 {
        return Err(call.wrong_arity());
    }
    if new == NewId::Given(StreamId::default()) {
        return Err(Stop::error("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let last = ks.stream(call.db, key)?.map(|stream| stream.last_id);
    if last.is_none() && options.no_mkstream {
        return Ok(Reply::Nil);
    }
    let last = last.unwrap_or_default();
    if last == id::MAX {
        return Err(Stop::error(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let now = u64::try_from(ks.now_ms).unwrap_or(0);
    let new = match new {
        NewId::Given(id) => Some(id),
        NewId::Auto if now > last.ms => Some(StreamId { ms: now, seq: 0 }),
        NewId::Auto => last.next(),
        NewId::AutoSeq(ms) if ms == last.ms => {
            last.seq.checked_add(1).map(|seq| StreamId { ms, seq })
        }
        NewId::AutoSeq(ms) => Some(StreamId { ms, seq: 0 }),
    };
    let Some(new) = new.filter(|new| *new > last) else {
        return Err(Stop::error(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ));
    };
    let trimmed = options.trim.count(ks, call.db, key, Some(new))?;
    ks.stream_change(call.db, key, |mut change| {
        change.append(new, fields.to_vec());
        change.stream.last_id = new;
        change.stream.entries_added = change.stream.entries_added.wrapping_add(1);
        remove_oldest(change, trimmed);
    })?;
    if trimmed > 0 {
        ks.besides(call.db, key, "xtrim");
    }
    Ok(id_reply(new))
}

pub fn xdel(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    if ks.stream(call.db, key)?.is_none() {
        return Ok(Reply::Int(0));
    }
    let ids = call.args[2..].iter().map(|id| id::strict(id, 0)).collect::<Answer<Vec<_>>>()?;
    let mut there = Vec::new();
    for id in ids {
        if ks.stream_entry(call.db, key, id)?.is_some() && !there.contains(&id) {
            there.push(id);
        }
    }
    if there.is_empty() {
        return Ok(Reply::Int(0));
    }
    // A hole next to what is not loaded could not be told from an entry that is not loaded.
    ks.stream_all(call.db, key)?;
    ks.stream_change(call.db, key, |mut change| {
        for id in &there {
            change.remove(*id);
            let stream = &mut *change.stream;
            stream.max_deleted_id = stream.max_deleted_id.max(*id);
        }
    })?;
    Ok(Reply::Int(there.len() as i64))
}

pub fn xsetid(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let last_id = id::strict(call.arg(2)?, 0)?;
    let (mut entries_added, mut max_deleted) = (None, StreamId::default());
    for option in call.args[3..].chunks(2) {
        match option {
            [name, value] if name.eq_ignore_ascii_case(b"entriesadded") => {
                let negative = Stop::error("ERR entries_added must be positive");
                entries_added = Some(u64::try_from(int(value)?).map_err(|_| negative)?);
            }
            [name, value] if name.eq_ignore_ascii_case(b"maxdeletedid") => {
                max_deleted = id::strict(value, 0)?;
                if last_id < max_deleted {
                    return Err(Stop::error(
                        "ERR The ID specified in XSETID is smaller than the provided \
                         max_deleted_entry_id",
                    ));
                }
            }
            _ => return Err(Stop::SYNTAX),
        }
    }
    let Some(len) = ks.stream(call.db, key)?.map(|stream| stream.len()) else {
        return Err(Stop::NO_SUCH_KEY);
    };
    if len > 0 && !call.from_log {
        let newest =
            StreamRange { start: StreamId::default(), end: id::MAX, reverse: true, limit: 1 };
        let newest = ks.stream_range(call.db, key, &newest)?;
        if newest.iter().any(|(id, _)| last_id < *id) {
            return Err(Stop::error(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if entries_added.is_some_and(|added| added < len) {
            return Err(Stop::error(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    ks.stream_change(call.db, key, |change| {
        change.stream.last_id = last_id;
        if let Some(added) = entries_added {
            change.stream.entries_added = added;
        }
        if max_deleted != StreamId::default() {
            change.stream.max_deleted_id = max_deleted;
        }
    })?;
    Ok(Reply::OK)
}
