use support::Value;
use tandem::engine::number::double_text;
use tandem::engine::{Answer, Stop};
use tandem::resp::{Protocol, Reply};

/// What a client sees of an answer.
pub fn seen(answer: Answer<Reply>, protocol: Protocol) -> Value {
    match answer {
        Ok(reply) => value(reply, protocol),
        Err(Stop::Error(text)) => Value::Error(text.into_owned()),
        Err(Stop::NotLoaded(needs)) => panic!("not loaded: {needs:?}"),
    }
}

fn value(reply: Reply, protocol: Protocol) -> Value {
    let all = |items: Vec<Reply>| items.into_iter().map(|item| value(item, protocol)).collect();
    let resp3 = protocol == Protocol::Resp3;
    match reply {
        Reply::Simple(text) => Value::Simple(text.into_owned()),
        Reply::Error(text) => Value::Error(text.into_owned()),
        Reply::Int(number) => Value::Int(number),
        Reply::Bulk(bytes) => Value::Bulk(bytes.to_vec()),
        Reply::Nil | Reply::NilArray => Value::Nil,
        Reply::Array(items) => Value::Array(all(items)),
        Reply::Set(items) if resp3 => Value::Set(all(items)),
        Reply::Push(items) if resp3 => Value::Push(all(items)),
        Reply::Set(items) | Reply::Push(items) => Value::Array(all(items)),
        Reply::Map(pairs) if resp3 => Value::Map(
            pairs.into_iter().map(|(k, v)| (value(k, protocol), value(v, protocol))).collect(),
        ),
        Reply::Map(pairs) => {
            Value::Array(all(pairs.into_iter().flat_map(|(k, v)| [k, v]).collect()))
        }
        Reply::Double(number) if resp3 => Value::Double(number),
        Reply::Double(number) => Value::Bulk(double_text(number).into_bytes()),
        Reply::Bool(yes) if resp3 => Value::Bool(yes),
        Reply::Bool(yes) => Value::Int(i64::from(yes)),
        Reply::BigNumber(digits) if resp3 => {
            Value::BigNumber(String::from_utf8_lossy(&digits).into_owned())
        }
        Reply::BigNumber(digits) => Value::Bulk(digits.to_vec()),
        Reply::Verbatim(format, text) if resp3 => {
            Value::Verbatim(format.into_owned(), text.to_vec())
        }
        Reply::Verbatim(_, text) => Value::Bulk(text.to_vec()),
    }
}

/// The reply with everything that has no order put into one.
pub fn ordered(command: &[Vec<u8>], reply: Value) -> Value {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    match name.as_str() {
        "smembers" | "sinter" | "sunion" | "sdiff" | "keys" | "hkeys" | "hvals" => {
            by_items(reply, 1)
        }
        "hgetall" => by_items(reply, 2),
        // Where a scan that is not asked for everything pauses is each side's own affair.
        "hscan" | "zscan" | "sscan" | "scan" if !command.contains(&b"5000".to_vec()) => {
            if reply.is_error() { reply } else { Value::Nil }
        }
        // At random.
        "hrandfield" if command.len() == 2 && !reply.is_error() => Value::Nil,
        // With a count that takes all of them, in any order.
        "hrandfield" if command.len() == 3 => by_items(reply, 1),
        "hscan" | "zscan" => inner(reply, 2),
        "scan" | "sscan" => inner(reply, 1),
        // What is not sorted at all has no order when it is a set, whatever its name says.
        "sort" | "sort_ro" if unsorted(command) => {
            if reply.is_error() {
                reply
            } else {
                Value::Nil
            }
        }
        "sort" | "sort_ro" if command.get(1).is_some_and(|key| key.starts_with(b"e")) => {
            by_items(reply, 1)
        }
        _ => reply,
    }
}

/// `SORT … BY` something without a star.
fn unsorted(command: &[Vec<u8>]) -> bool {
    let by = command.iter().position(|arg| arg.eq_ignore_ascii_case(b"by"));
    by.and_then(|at| command.get(at + 1)).is_some_and(|by| !by.contains(&b'*'))
        && !command.iter().any(|arg| arg.eq_ignore_ascii_case(b"store"))
}

fn inner(reply: Value, step: usize) -> Value {
    match reply {
        Value::Array(mut parts) if parts.len() == 2 => {
            let items = parts.pop().unwrap_or(Value::Nil);
            parts.push(by_items(items, step));
            Value::Array(parts)
        }
        other => other,
    }
}

/// Sorts elements, or groups of `step` elements.
fn by_items(reply: Value, step: usize) -> Value {
    match reply {
        Value::Array(items) => Value::Array(sorted(items, step)),
        Value::Set(items) => Value::Set(sorted(items, step)),
        Value::Map(mut pairs) => {
            pairs.sort_by_key(|pair| format!("{pair:?}"));
            Value::Map(pairs)
        }
        other => other,
    }
}

fn sorted(items: Vec<Value>, step: usize) -> Vec<Value> {
    let mut groups: Vec<Vec<Value>> = items.chunks(step).map(<[Value]>::to_vec).collect();
    groups.sort_by_key(|group| format!("{group:?}"));
    groups.into_iter().flatten().collect()
}
