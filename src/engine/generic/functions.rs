//! Function libraries are kept as their sources; running them is not the engine's.

use bytes::Bytes;

use crate::engine::delta::Step;
use crate::engine::stop::{Answer, Stop, shown};
use crate::engine::{Call, Keyspace};
use crate::rdb;
use crate::resp::{Reply, split_arguments};

/// The subcommands that change something.
pub fn function(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let subcommand = call.arg(1)?.to_ascii_lowercase();
    let count = call.args.len();
    match (subcommand.as_slice(), count) {
        (b"load", 3..) => load(ks, call),
        (b"delete", 3) => delete(ks, call.arg(2)?),
        (b"flush", 2 | 3) => flush(ks, call),
        (b"restore", 3 | 4) => restore(ks, call),
        (b"load" | b"delete" | b"restore", _) => {
            let name = String::from_utf8_lossy(&subcommand);
            Err(Stop::failed(format!(
                "ERR wrong number of arguments for 'function|{name}' command"
            )))
        }
        _ => {
            let name = shown(call.arg(1)?);
            Err(Stop::failed(format!("ERR unknown subcommand '{name}'. Try FUNCTION HELP.")))
        }
    }
}

fn load(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let [options @ .., source] = &call.args[2..] else {
        return Err(Stop::error("ERR Function code is missing"));
    };
    if let Some(unknown) = options.iter().find(|option| !option.eq_ignore_ascii_case(b"replace")) {
        let unknown = shown(unknown);
        return Err(Stop::failed(format!("ERR Unknown option given: {unknown}")));
    }
    let name = library_name(source)?;
    ks.push_step(Step::Function(name.clone(), Some(source.clone())));
    Ok(Reply::Bulk(name))
}

fn delete(ks: &mut Keyspace, name: &Bytes) -> Answer<Reply> {
    ks.push_step(Step::Function(name.clone(), None));
    Ok(Reply::OK)
}

fn flush(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let mode = call.args.get(2);
    let known =
        |mode: &Bytes| mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async");
    if mode.is_some_and(|mode| !known(mode)) {
        return Err(Stop::error("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    ks.push_step(Step::FlushFunctions);
    Ok(Reply::OK)
}

fn restore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let policy = call.args.get(3).map(|policy| policy.to_ascii_lowercase());
    let flush = match policy.as_deref() {
        None | Some(b"append" | b"replace") => false,
        Some(b"flush") => true,
        Some(_) => {
            return Err(Stop::error(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let sources =
        rdb::decode_functions(call.arg(2)?).map_err(|e| Stop::error(e.function_restore_reply()))?;
    let libraries: Vec<(Bytes, Bytes)> = sources
        .into_iter()
        .map(|source| Ok((library_name(&source)?, source)))
        .collect::<Answer<_>>()?;
    if flush {
        ks.push_step(Step::FlushFunctions);
    }
    for (name, source) in libraries {
        ks.push_step(Step::Function(name, Some(source)));
    }
    Ok(Reply::OK)
}

/// The name in a library's first line, such as `#!lua name=mylib`.
pub fn library_name(source: &Bytes) -> Answer<Bytes> {
    const INVALID: Stop = Stop::error("ERR Invalid library metadata");
    if !source.starts_with(b"#!") {
        return Err(Stop::error("ERR Missing library metadata"));
    }
    let end = memchr::memchr(b'\n', source).ok_or(INVALID)?;
    let words = split_arguments(&source[..end]).ok_or(INVALID)?;
    if words.first().is_some_and(|engine| engine.len() == 2) {
        return Err(Stop::error("ERR Engine '' not found"));
    }
    let mut name: Option<&[u8]> = None;
    for word in words.iter().skip(1) {
        let prefix = word.get(..5).filter(|prefix| prefix.eq_ignore_ascii_case(b"name="));
        if prefix.is_none() {
            let word = shown(word);
            return Err(Stop::failed(format!("ERR Invalid metadata value given: {word}")));
        }
        if name.replace(&word[5..]).is_some() {
            return Err(Stop::error(
                "ERR Invalid metadata value, name argument was given multiple times",
            ));
        }
    }
    let name = name.ok_or(Stop::error("ERR Library name was not given"))?;
    if name.is_empty() || !name.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_') {
        return Err(Stop::error(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at \
             least one character long",
        ));
    }
    Ok(Bytes::copy_from_slice(name))
}
