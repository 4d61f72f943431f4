//! Streams. Source: <https://redis.io/commands/?group=stream>, replies as Redis 7.0.
//!
//! With `BLOCK`, XREAD and XREADGROUP do here what they do when there is data; without, they answer
//! the nil of a timeout, and waiting is the caller's.

mod add;
mod claim;
mod group;
mod id;
mod info;
mod lag;
mod pending;
mod range;
mod read;
mod trim;

use bytes::Bytes;

use super::Call;
use super::stop::{Stop, shown};
use super::table::{Command, Footprint};
use super::value::{EntryFields, StreamId};
use crate::resp::Reply;

const META: Footprint = Footprint::Meta;

pub const COMMANDS: &[Command] = &[
    Command { name: "xadd", arity: -5, footprint: META, run: add::xadd },
    Command { name: "xdel", arity: -3, footprint: META, run: add::xdel },
    Command { name: "xtrim", arity: -4, footprint: META, run: trim::xtrim },
    Command { name: "xsetid", arity: -3, footprint: META, run: add::xsetid },
    Command { name: "xlen", arity: 2, footprint: META, run: range::xlen },
    Command { name: "xrange", arity: -4, footprint: META, run: range::xrange },
    Command { name: "xrevrange", arity: -4, footprint: META, run: range::xrevrange },
    Command { name: "xread", arity: -4, footprint: Footprint::None, run: read::xread },
    Command { name: "xreadgroup", arity: -7, footprint: Footprint::None, run: read::xreadgroup },
    Command { name: "xgroup", arity: -2, footprint: Footprint::None, run: group::xgroup },
    Command { name: "xack", arity: -4, footprint: META, run: group::xack },
    Command { name: "xclaim", arity: -6, footprint: META, run: claim::xclaim },
    Command { name: "xautoclaim", arity: -6, footprint: META, run: claim::xautoclaim },
    Command { name: "xpending", arity: -3, footprint: META, run: pending::xpending },
    Command { name: "xinfo", arity: -2, footprint: Footprint::None, run: info::xinfo },
];

fn id_reply(id: StreamId) -> Reply {
    Reply::Bulk(id::text(id))
}

fn entry_reply((id, fields): (StreamId, EntryFields)) -> Reply {
    let fields = fields.into_iter().map(Reply::Bulk).collect();
    Reply::Array(vec![id_reply(id), Reply::Array(fields)])
}

fn no_group(key: &Bytes, group: &Bytes) -> Stop {
    let (key, group) = (shown(key), shown(group));
    Stop::failed(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

fn no_group_of(key: &Bytes, group: &Bytes) -> Stop {
    let (key, group) = (shown(key), shown(group));
    Stop::failed(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// A subcommand of a container command: its name and how many arguments it takes, as in Redis's
/// `COMMAND`. What is none, or has the wrong number, is answered with Redis's error.
fn subcommand<'a>(call: &Call<'_>, known: &'a [(&'a str, i32)]) -> Result<&'a str, Stop> {
    let (Some(container), Some(asked)) = (call.args.first(), call.args.get(1)) else {
        return Err(Stop::SYNTAX);
    };
    let container = shown(container);
    let Some((name, arity)) = known.iter().find(|(n, _)| asked.eq_ignore_ascii_case(n.as_bytes()))
    else {
        let asked: String = shown(asked).chars().take(128).collect();
        let container = container.to_ascii_uppercase();
        return Err(Stop::failed(format!(
            "ERR unknown subcommand '{asked}'. Try {container} HELP."
        )));
    };
    let (count, wanted) = (call.args.len(), arity.unsigned_abs() as usize);
    if count < wanted || (*arity > 0 && count != wanted) {
        let container = container.to_ascii_lowercase();
        return Err(Stop::failed(format!(
            "ERR wrong number of arguments for '{container}|{name}' command"
        )));
    }
    Ok(name)
}

/// Redis's words for a subcommand with options that it does not have.
fn wrong_subcommand(call: &Call<'_>) -> Stop {
    let text = |index: usize| call.args.get(index).map(|arg| shown(arg));
    let asked: String = text(1).unwrap_or_default().chars().take(128).collect();
    let container = text(0).unwrap_or_default().to_ascii_uppercase();
    Stop::failed(format!(
        "ERR unknown subcommand or wrong number of arguments for '{asked}'. Try {container} HELP."
    ))
}

/// The answer to `HELP`: a line each for the subcommands, framed as Redis does.
fn help(call: &Call<'_>, lines: &'static [&'static str]) -> Reply {
    let container = call.args.first().map(|name| shown(name));
    let container = container.unwrap_or_default().to_ascii_uppercase();
    let head = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let tail = ["HELP", "    Prints this help."];
    let lines = lines.iter().chain(&tail).map(|line| Reply::Simple((*line).into()));
    Reply::Array(std::iter::once(Reply::Simple(head.into())).chain(lines).collect())
}
