use bytes::Bytes;

use crate::engine::stop::{Answer, Stop, shown};
use crate::engine::value::Value;
use crate::engine::{Call, Keyspace, encoding};
use crate::resp::Reply;

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

/// The integers that Redis keeps only once, and the reference count that it shows for them.
const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;
const SHARED_REFERENCES: i64 = i32::MAX as i64;

pub fn object(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let subcommand = call.arg(1)?.to_ascii_lowercase();
    let name = match subcommand.as_slice() {
        b"help" if call.args.len() == 2 => {
            let lines = HELP.iter().map(|line| Reply::Simple((*line).into()));
            return Ok(Reply::Array(lines.collect()));
        }
        b"encoding" | b"freq" | b"idletime" | b"refcount" | b"help" => {
            String::from_utf8_lossy(&subcommand)
        }
        _ => {
            let given = shown(call.arg(1)?);
            return Err(Stop::failed(format!(
                "ERR unknown subcommand '{given}'. Try OBJECT HELP."
            )));
        }
    };
    let [_, _, key] = call.args else {
        return Err(Stop::failed(format!(
            "ERR wrong number of arguments for 'object|{name}' command"
        )));
    };
    show(ks, call, &subcommand, key)
}

fn show(ks: &mut Keyspace, call: &Call<'_>, what: &[u8], key: &Bytes) -> Answer<Reply> {
    let now_ms = ks.now_ms;
    let Some(entry) = ks.whole_value(call.db, key)? else { return Ok(Reply::Nil) };
    Ok(match what {
        b"encoding" => Reply::bulk(encoding::of(&entry.value)),
        b"refcount" => Reply::Int(references(&entry.value)),
        b"idletime" => Reply::Int((now_ms - entry.looked_at_ms()).max(0) / 1000),
        _ => {
            return Err(Stop::error(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data \
                 will take some time to adjust.",
            ));
        }
    })
}

fn references(value: &Value) -> i64 {
    let Value::String(Some(content)) = value else { return 1 };
    let shared = crate::engine::number::parse_int(content)
        .is_some_and(|number| SHARED_INTEGERS.contains(&number));
    if shared { SHARED_REFERENCES } else { 1 }
}
