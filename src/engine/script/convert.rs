//! Redis's replies as Lua values and back.
//! Source: <https://redis.io/docs/latest/develop/programmability/lua-api/#data-type-conversion>.

use bytes::Bytes;
use mlua::{Lua, Table, Value};

use super::{raise, with_stack};
use crate::engine::number::double_text;
use crate::resp::{Protocol, Reply};

/// Nesting deeper than this is an error: Lua's own stack would not hold it.
const MAX_DEPTH: usize = 1990;

/// A reply as `redis.call` answers it.
pub fn to_lua(lua: &Lua, reply: Reply, protocol: Protocol) -> mlua::Result<Value> {
    let resp3 = protocol == Protocol::Resp3;
    let string = |bytes: &[u8]| lua.create_string(bytes).map(Value::String);
    let single = |field: &str, value: Value| -> mlua::Result<Value> {
        let table = lua.create_table_with_capacity(0, 1)?;
        table.raw_set(field, value)?;
        Ok(Value::Table(table))
    };
    match reply {
        Reply::Simple(text) => single("ok", string(text.as_bytes())?),
        Reply::Error(text) => Ok(Value::Table(raise::error_table(lua, &error_text(&text))?)),
        Reply::Int(number) => Ok(Value::Number(number as f64)),
        Reply::Bulk(bytes) => string(&bytes),
        Reply::Nil | Reply::NilArray if resp3 => Ok(Value::Nil),
        Reply::Nil | Reply::NilArray => Ok(Value::Boolean(false)),
        Reply::Map(pairs) if resp3 => {
            let map = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                map.raw_set(to_lua(lua, key, protocol)?, to_lua(lua, value, protocol)?)?;
            }
            single("map", Value::Table(map))
        }
        Reply::Set(items) if resp3 => {
            let set = lua.create_table_with_capacity(0, items.len())?;
            for item in items {
                set.raw_set(to_lua(lua, item, protocol)?, true)?;
            }
            single("set", Value::Table(set))
        }
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            sequence(lua, items.into_iter(), protocol)
        }
        Reply::Map(pairs) => sequence(lua, pairs.into_iter().flat_map(|(k, v)| [k, v]), protocol),
        Reply::Double(number) if resp3 => single("double", Value::Number(number)),
        Reply::Double(number) => string(double_text(number).as_bytes()),
        Reply::Bool(yes) if resp3 => Ok(Value::Boolean(yes)),
        Reply::Bool(yes) => Ok(Value::Number(f64::from(u8::from(yes)))),
        Reply::BigNumber(digits) if resp3 => single("big_number", string(&digits)?),
        Reply::BigNumber(digits) => string(&digits),
        Reply::Verbatim(format, text) if resp3 => {
            let table = lua.create_table_with_capacity(0, 2)?;
            table.raw_set("string", string(&text)?)?;
            table.raw_set("format", format.as_ref())?;
            single("verbatim_string", Value::Table(table))
        }
        Reply::Verbatim(_, text) => string(&text),
    }
}

fn sequence(
    lua: &Lua,
    items: impl Iterator<Item = Reply>,
    protocol: Protocol,
) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(items.size_hint().0, 0)?;
    for (index, item) in items.enumerate() {
        table.raw_set(index + 1, to_lua(lua, item, protocol)?)?;
    }
    Ok(Value::Table(table))
}

/// An error as scripts see it: always with a code in front.
pub fn error_text(text: &str) -> Vec<u8> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.contains(' ') { text.into() } else { format!("ERR {text}").into_bytes() }
}

/// What a script returns, as the reply to the client. `protocol` is the one that the script has
/// chosen with `redis.setresp`.
pub fn to_reply(lua: &Lua, value: Value, protocol: Protocol) -> Reply {
    reply(lua, value, protocol, 0)
}

fn reply(lua: &Lua, value: Value, protocol: Protocol, depth: usize) -> Reply {
    if depth > MAX_DEPTH {
        return Reply::Error("ERR reached lua stack limit".into());
    }
    match value {
        Value::String(text) => Reply::Bulk(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Boolean(yes) if protocol == Protocol::Resp3 => Reply::Bool(yes),
        Value::Boolean(true) => Reply::Int(1),
        Value::Boolean(false) => Reply::Nil,
        Value::Integer(number) => Reply::Int(number),
        Value::Number(number) => Reply::Int(truncated(number)),
        Value::Table(table) => {
            let reply = with_stack(|| table_reply(lua, &table, protocol, depth));
            reply.unwrap_or_else(|_| Reply::Array(Vec::new()))
        }
        _ => Reply::Nil,
    }
}

/// A number as C casts it to a 64-bit integer on common machines.
pub fn truncated(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

fn table_reply(lua: &Lua, table: &Table, protocol: Protocol, depth: usize) -> mlua::Result<Reply> {
    let inner = |value: Value| reply(lua, value, protocol, depth + 1);
    let line = |text: &mlua::LuaString| one_line(&text.as_bytes());
    if let Value::String(text) = table.raw_get("err")? {
        let text = text.as_bytes();
        let text = crate::engine::stop::c_text(&text, usize::MAX);
        let text = String::from_utf8_lossy(text).into_owned();
        return Ok(Reply::Error(one_line(text.trim_end_matches(['\r', '\n']).as_bytes()).into()));
    }
    if let Value::String(text) = table.raw_get("ok")? {
        let text = text.as_bytes();
        return Ok(Reply::Simple(one_line(crate::engine::stop::c_text(&text, usize::MAX)).into()));
    }
    match table.raw_get("double")? {
        Value::Number(number) => return Ok(Reply::Double(number)),
        Value::Integer(number) => return Ok(Reply::Double(number as f64)),
        _ => {}
    }
    if let Value::String(digits) = table.raw_get("big_number")? {
        return Ok(Reply::BigNumber(line(&digits).into()));
    }
    if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
        && let (Value::String(format), Value::String(text)) =
            (verbatim.raw_get("format")?, verbatim.raw_get("string")?)
    {
        let mut format = format.as_bytes().to_vec();
        format.resize(3, 0);
        let format = String::from_utf8_lossy(&format).into_owned();
        return Ok(Reply::Verbatim(format.into(), Bytes::copy_from_slice(&text.as_bytes())));
    }
    if let Value::Table(map) = table.raw_get("map")? {
        let mut pairs = Vec::new();
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            pairs.push((inner(key), inner(value)));
        }
        return Ok(Reply::Map(pairs));
    }
    if let Value::Table(set) = table.raw_get("set")? {
        let mut items = Vec::new();
        for pair in set.pairs::<Value, Value>() {
            items.push(inner(pair?.0));
        }
        return Ok(Reply::Set(items));
    }
    let mut items = Vec::new();
    loop {
        match table.raw_get(items.len() + 1)? {
            Value::Nil => return Ok(Reply::Array(items)),
            item => items.push(inner(item)),
        }
    }
}

fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}
