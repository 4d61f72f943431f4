//! `COMMAND`, from the command table.

use bytes::Bytes;

use crate::commands::{self, Command};
use crate::engine::{Answer, Stop, glob};
use crate::resp::Reply;

pub(super) fn command(sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
    let top = || commands::all().filter(|command| !command.name.contains('|'));
    match sub {
        b"" => Ok(Reply::Array(top().map(describe).collect())),
        b"count" => Ok(Reply::Int(top().count() as i64)),
        b"list" => list(&args[2..]),
        b"info" => {
            let one = |name: &Bytes| commands::lookup(name).map_or(Reply::NilArray, describe);
            Ok(Reply::Array(match args.len() {
                2 => top().map(describe).collect(),
                _ => args[2..].iter().map(one).collect(),
            }))
        }
        b"docs" => Ok(Reply::Map(Vec::new())),
        b"getkeys" => {
            let keys = keys(&args[2..])?.into_iter();
            Ok(Reply::Array(keys.map(|(key, _)| Reply::Bulk(key)).collect()))
        }
        b"getkeysandflags" => {
            let pair = |(key, flags): (Bytes, &'static str)| {
                let flags = flags.split(',').map(|flag| Reply::Simple(flag.into()));
                Reply::Array(vec![Reply::Bulk(key), Reply::Set(flags.collect())])
            };
            Ok(Reply::Array(keys(&args[2..])?.into_iter().map(pair).collect()))
        }
        _ => {
            let sub = String::from_utf8_lossy(&args[1]);
            Err(Stop::failed(format!("ERR unknown subcommand '{sub}'. Try COMMAND HELP.")))
        }
    }
}

/// `COMMAND LIST [FILTERBY MODULE m|ACLCAT c|PATTERN p]`.
fn list(words: &[Bytes]) -> Answer<Reply> {
    let lower = |word: &Bytes| word.to_ascii_lowercase();
    let (kind, wanted) = match words {
        [] => (Vec::new(), String::new()),
        [filter, kind, wanted] if filter.eq_ignore_ascii_case(b"filterby") => {
            (lower(kind), String::from_utf8_lossy(&lower(wanted)).into_owned())
        }
        _ => return Err(Stop::SYNTAX),
    };
    let filter = |command: &&Command| match &kind[..] {
        b"" => true,
        b"aclcat" => command.in_category(&wanted),
        b"pattern" => glob::matches(wanted.as_bytes(), command.name.as_bytes()),
        _ => false,
    };
    if !matches!(&kind[..], b"" | b"aclcat" | b"pattern" | b"module") {
        return Err(Stop::SYNTAX);
    }
    let found = commands::all().filter(filter);
    Ok(Reply::Array(found.map(|command| Reply::bulk(command.name)).collect()))
}

/// The keys of a command, with their flags.
fn keys(words: &[Bytes]) -> Answer<Vec<(Bytes, &'static str)>> {
    const INVALID: Stop = Stop::error("ERR Invalid command specified");
    let command = words.first().and_then(|name| commands::lookup(name)).ok_or(INVALID)?;
    let sub = words.get(1).and_then(|word| commands::lookup_sub(command, word));
    let command = sub.unwrap_or(command);
    if command.keys.iter().all(|spec| spec.not_key) {
        return Err(Stop::error("ERR The command has no key arguments"));
    }
    if !command.takes(words.len()) {
        return Err(Stop::error("ERR Invalid number of arguments specified for command"));
    }
    let found = command.keys_and_flags(words);
    if found.is_empty() && !command.flag_names.contains(&"no_mandatory_keys") {
        return Err(Stop::error("ERR Invalid arguments specified for command"));
    }
    Ok(found.into_iter().map(|(at, flags)| (words[at].clone(), flags)).collect())
}

/// Name, arity, flags, first and last key and step where a simple range says it, categories, tips, key
/// specifications and subcommands; tips and specifications are left out.
fn describe(command: &Command) -> Reply {
    let (first, last, step) = command.key_range();
    let subcommands = commands::all().filter(|sub| {
        sub.name.strip_prefix(command.name).is_some_and(|rest| rest.starts_with('|'))
    });
    Reply::Array(vec![
        Reply::bulk(command.name),
        Reply::Int(i64::from(command.arity)),
        Reply::Set(command.flag_names.iter().map(|name| Reply::Simple((*name).into())).collect()),
        Reply::Int(first),
        Reply::Int(last),
        Reply::Int(step),
        Reply::Set(
            command
                .categories
                .iter()
                .map(|name| Reply::Simple(format!("@{name}").into()))
                .collect(),
        ),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(subcommands.map(describe).collect()),
    ])
}
