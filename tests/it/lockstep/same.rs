//! When two replies, and two keyspaces, count as the same.

use support::Value;
use support::compare::{Keyspace, Value as Stored};

use super::batch::Batch;
use crate::engine::replies::ordered;
use crate::evict::model::now_ms;

/// Redis looks at `errno` without having reset it: a number out of range in an earlier command makes the next SORT
/// by score fail.
const ERRNO: &str = "One or more scores can't be converted";

pub fn replies(batch: &Batch, command: &[Vec<u8>], theirs: &Value, ours: &Value) -> bool {
    if command[0].eq_ignore_ascii_case(b"exec")
        && let (Value::Array(theirs), Value::Array(ours)) = (theirs, ours)
    {
        let queued = &batch.commands[1..batch.commands.len() - 1];
        return theirs.len() == ours.len()
            && (queued.iter().zip(theirs).zip(ours)).all(|((c, t), o)| one(c, t, o));
    }
    one(command, theirs, ours)
}

fn one(command: &[Vec<u8>], theirs: &Value, ours: &Value) -> bool {
    if theirs == ours {
        return true;
    }
    // How a value that came back from PostgreSQL is laid out in memory does not say how it came about.
    if let [object, encoding, ..] = command
        && object.eq_ignore_ascii_case(b"object")
        && encoding.eq_ignore_ascii_case(b"encoding")
    {
        return theirs.is_error() == ours.is_error();
    }
    // A script answers with what its arguments, which are a command, answer.
    let scripted = command[0].eq_ignore_ascii_case(b"eval") && command.len() > 4;
    let called = if scripted { &command[4..] } else { command };
    let (ordered_theirs, ordered_ours) =
        (ordered(called, theirs.clone()), ordered(called, ours.clone()));
    if scripted && command[1].starts_with(b"redis.setresp(3)") {
        // Maps come back in the order of Lua's tables.
        return without_order(&ordered_theirs) == without_order(&ordered_ours) || has_errno(theirs);
    }
    ordered_theirs == ordered_ours || has_errno(theirs)
}

fn has_errno(reply: &Value) -> bool {
    format!("{reply:?}").contains(ERRNO)
}

/// All that a reply holds, sorted.
fn without_order(reply: &Value) -> String {
    let all = |items: &[Value]| {
        let mut items: Vec<String> = items.iter().map(without_order).collect();
        items.sort_unstable();
        format!("{items:?}")
    };
    match reply {
        Value::Array(items) | Value::Set(items) => all(items),
        Value::Map(pairs) => {
            let pairs: Vec<Value> =
                pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();
            all(&pairs)
        }
        other => format!("{other:?}"),
    }
}

/// When entries were delivered is each side's own, and what is over may be there until somebody looks.
pub fn without_clock(keyspace: &mut Keyspace) {
    let now = now_ms();
    keyspace.retain(|_, entry| entry.expires_at_ms.is_none_or(|at| at > now));
    for entry in keyspace.values_mut() {
        if let Stored::Stream(stream) = &mut entry.value {
            for group in stream.groups.values_mut() {
                group.pending.values_mut().for_each(|pending| pending.1 = 0);
            }
        }
    }
}
