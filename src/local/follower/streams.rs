use bytes::Bytes;

use super::translate::{Run, words};
use crate::engine::Db;
use crate::engine::delta::StreamRows;
use crate::engine::value::StreamId;

/// Changed rows of a stream that Redis has, in the words in which Redis tells them its own replicas;
/// `None` when these do not suffice.
pub fn runs(db: Db, key: &Bytes, rows: &StreamRows) -> Option<Vec<Run>> {
    let deleted = |id: &StreamId| matches!(rows.entries.get(id), Some(None));
    if rows.pending.iter().any(|((_, id), pending)| pending.is_some() && deleted(id)) {
        // Only an entry that is there can be claimed.
        return None;
    }
    let mut runs = Vec::new();
    let mut run = |start: &[&str], rest: &[&[u8]], may_fail: bool| {
        let mut command = words(start);
        command.arg(&key[..]);
        for argument in rest {
            command.arg(*argument);
        }
        runs.push(Run { db, key: Some(key.clone()), command, may_fail, swaps: None });
    };
    for (id, fields) in rows.entries.iter().filter_map(|(id, f)| Some((id, f.as_ref()?))) {
        let id = shown(*id);
        let mut rest: Vec<&[u8]> = vec![id.as_bytes()];
        rest.extend(fields.iter().map(|field| &field[..]));
        run(&["XADD"], &rest, false);
    }
    for group in &rows.reset_groups {
        run(&["XGROUP", "DESTROY"], &[group], true);
    }
    for (name, group) in &rows.groups {
        let Some(group) = group else {
            run(&["XGROUP", "DESTROY"], &[name], false);
            continue;
        };
        let last = shown(group.last_id);
        let read = group.entries_read.map_or("-1".into(), |read| read.to_string());
        let state: [&[u8]; 4] = [name, last.as_bytes(), b"ENTRIESREAD", read.as_bytes()];
        run(&["XGROUP", "CREATE"], &state, true);
        run(&["XGROUP", "SETID"], &state, false);
    }
    for ((group, name), consumer) in &rows.consumers {
        let sub = if consumer.is_some() { "CREATECONSUMER" } else { "DELCONSUMER" };
        run(&["XGROUP", sub], &[group, name], false);
    }
    for ((group, id), pending) in &rows.pending {
        let id = shown(*id);
        let Some(pending) = pending else {
            run(&["XACK"], &[group, id.as_bytes()], false);
            continue;
        };
        let (at_ms, count) =
            (pending.delivered_at_ms.to_string(), pending.delivery_count.to_string());
        let rest: [&[u8]; 10] = [
            group,
            &pending.consumer,
            b"0",
            id.as_bytes(),
            b"TIME",
            at_ms.as_bytes(),
            b"RETRYCOUNT",
            count.as_bytes(),
            b"FORCE",
            b"JUSTID",
        ];
        run(&["XCLAIM"], &rest, false);
    }
    let mut gone = rows.entries.iter().filter(|(_, fields)| fields.is_none()).map(|(id, _)| *id);
    if rows.max_deleted_id == StreamId::default() {
        // All went by trimming, at the front; XDEL would leave its trace, which XSETID cannot take back.
        if let Some(last) = gone.next_back() {
            if rows.entries.iter().any(|(id, fields)| fields.is_some() && *id < last) {
                return None;
            }
            run(&["XTRIM"], &[b"MINID", shown(last.next()?).as_bytes()], false);
        }
    } else {
        for id in gone {
            run(&["XDEL"], &[shown(id).as_bytes()], false);
        }
    }
    let (last, added) = (shown(rows.last_id), rows.entries_added.to_string());
    let deleted = shown(rows.max_deleted_id);
    // XSETID takes no last id below the deleted one together with it; an empty stream may have been set back to one.
    let least = shown(rows.last_id.max(rows.max_deleted_id));
    let state: [&[u8]; 5] =
        [least.as_bytes(), b"ENTRIESADDED", added.as_bytes(), b"MAXDELETEDID", deleted.as_bytes()];
    run(&["XSETID"], &state, false);
    if rows.last_id < rows.max_deleted_id {
        run(&["XSETID"], &[last.as_bytes()], false);
    }
    Some(runs)
}

fn shown(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}
