//! Commands on keys of any type. Source: <https://redis.io/commands/?group=generic>, replies as
//! Redis 7.0.

mod dump;
mod flush;
mod functions;
mod object;
mod relocate;
mod walk;

pub use functions::library_name;

use super::stop::{Answer, Reads};
use super::table::{Command, Footprint};
use super::value::Kind;
use super::{Call, Keyspace};
use crate::resp::Reply;

const META: Footprint = Footprint::Meta;
const KEYS: Footprint = Footprint::Keys { step: 1 };
const NONE: Footprint = Footprint::None;

pub const COMMANDS: &[Command] = &[
    Command { name: "del", arity: -2, footprint: KEYS, run: del },
    Command { name: "unlink", arity: -2, footprint: KEYS, run: del },
    Command { name: "exists", arity: -2, footprint: KEYS, run: count },
    Command { name: "touch", arity: -2, footprint: KEYS, run: count },
    Command { name: "type", arity: 2, footprint: META, run: type_of },
    Command { name: "rename", arity: 3, footprint: KEYS, run: relocate::rename },
    Command { name: "renamenx", arity: 3, footprint: KEYS, run: relocate::renamenx },
    Command { name: "move", arity: 3, footprint: META, run: relocate::move_key },
    Command { name: "copy", arity: -3, footprint: Footprint::Whole, run: relocate::copy },
    Command { name: "dump", arity: 2, footprint: Footprint::Whole, run: dump::dump },
    Command { name: "restore", arity: -4, footprint: META, run: dump::restore },
    Command { name: "restore-asking", arity: -4, footprint: META, run: dump::restore },
    Command { name: "object", arity: -2, footprint: NONE, run: object::object },
    Command { name: "keys", arity: 2, footprint: NONE, run: walk::keys_matching },
    Command { name: "scan", arity: -2, footprint: NONE, run: walk::scan },
    Command { name: "randomkey", arity: 1, footprint: NONE, run: walk::randomkey },
    Command { name: "dbsize", arity: 1, footprint: NONE, run: walk::dbsize },
    Command { name: "flushdb", arity: -1, footprint: NONE, run: flush::flushdb },
    Command { name: "flushall", arity: -1, footprint: NONE, run: flush::flushall },
    Command { name: "swapdb", arity: 3, footprint: NONE, run: flush::swapdb },
    Command { name: "function", arity: -2, footprint: NONE, run: functions::function },
];

fn del(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    present(ks, call)?;
    let mut removed = 0;
    for key in &call.args[1..] {
        removed += i64::from(ks.remove(call.db, key)?);
    }
    Ok(Reply::Int(removed))
}

fn count(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(present(ks, call)?))
}

/// How many of the keys are there; one that is named twice counts twice.
fn present(ks: &mut Keyspace, call: &Call<'_>) -> Answer<i64> {
    let mut reads = Reads::default();
    let mut there = 0;
    for key in &call.args[1..] {
        there += i64::from(reads.of(ks.kind(call.db, key)).flatten().is_some());
    }
    reads.done().map(|()| there)
}

fn type_of(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let kind = ks.kind(call.db, call.key()?)?;
    Ok(Reply::Simple(kind.map_or("none", Kind::as_str).into()))
}
