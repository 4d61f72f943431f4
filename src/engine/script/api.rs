//! The `redis` table of scripts.
//! Source: <https://redis.io/docs/latest/develop/programmability/lua-api/>.

use bytes::Bytes;
use mlua::{Lua, MultiValue, Table, Value};
use sha1::{Digest, Sha1};

use super::raise::{self, Raise};
use super::running::Kind;
use super::session::{Called, Failure, Shared, command};
use super::{Level, convert, library, memory};
use crate::engine::number::double_text;
use crate::resp::{Protocol, Reply};

/// The version that scripts see.
const VERSION: &str = "7.0.15";
const VERSION_NUMBER: u32 = 0x0007_000F;

const CONSTANTS: [(&str, u32); 5] =
    [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)];

pub fn table(lua: &Lua, kind: Kind, shared: &Shared) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, raises) in [("call", true), ("pcall", false)] {
        let shared = shared.clone();
        let call = lua.create_function(move |lua, args| call(lua, &shared, args, raises))?;
        table.raw_set(name, call)?;
    }
    log(lua, &table, shared)?;
    let session = shared.clone();
    table
        .raw_set("setresp", lua.create_function(move |lua, args| set_resp(lua, &session, args))?)?;
    table.raw_set("sha1hex", lua.create_function(sha1_hex)?)?;
    table.raw_set("error_reply", lua.create_function(error_reply)?)?;
    table.raw_set("status_reply", lua.create_function(status_reply)?)?;
    let session = shared.clone();
    table.raw_set(
        "set_repl",
        lua.create_function(move |lua, args| set_repl(lua, &session, args))?,
    )?;
    for (name, value) in CONSTANTS {
        table.raw_set(name, value)?;
    }
    let session = shared.clone();
    let check = lua.create_function(move |lua, args| acl_check(lua, &session, args))?;
    table.raw_set("acl_check_cmd", check)?;
    if kind == Kind::Eval {
        table.raw_set("breakpoint", lua.create_function(|_, _: MultiValue| Ok(false))?)?;
        table.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
        table.raw_set("replicate_commands", lua.create_function(|_, _: MultiValue| Ok(true))?)?;
    }
    Ok(table)
}

/// The `redis` table that a library sees while it is loaded.
pub fn loading(lua: &Lua, shared: &Shared) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    log(lua, &table, shared)?;
    let shared = shared.clone();
    let register = lua.create_function(move |lua, args| library::register(lua, &shared, args))?;
    table.raw_set("register_function", register)?;
    Ok(table)
}

/// What the prelude needs to catch errors: `thrown`, `thrown_to_pcall`, `failed`.
pub fn catching(lua: &Lua, host: &Table, shared: &Shared) -> mlua::Result<()> {
    let session = shared.clone();
    let thrown = lua.create_function(move |lua, value: Value| catch(lua, &session, value))?;
    host.raw_set("thrown", thrown)?;
    let session = shared.clone();
    let thrown = lua.create_function(move |lua, value: Value| {
        let value = catch(lua, &session, value)?;
        // Scripts from before 7.0 expect the text.
        if let Value::Table(table) = &value {
            let text: Value = table.get("err")?;
            if matches!(text, Value::String(_) | Value::Integer(_) | Value::Number(_)) {
                return Ok(text);
            }
        }
        Ok(value)
    })?;
    host.raw_set("thrown_to_pcall", thrown)?;
    let session = shared.clone();
    let failed = lua.create_function(move |lua, value: Value| failed(lua, &session, value))?;
    host.raw_set("failed", failed)
}

fn catch(lua: &Lua, shared: &Shared, value: Value) -> mlua::Result<Value> {
    if shared.is_over() { Err(Raise::End.into()) } else { raise::thrown(lua, value) }
}

/// Notes an error that nothing has caught, and where it was thrown: the nearest Lua code on the stack.
fn failed(lua: &Lua, shared: &Shared, value: Value) -> mlua::Result<()> {
    if shared.is_over() {
        return Ok(());
    }
    let at = |level: usize| {
        lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let line = frame.current_line().map_or(-1, |line| line as i64);
            (source.what, source.source.map(|source| source.into_owned()), line)
        })
    };
    let frame = (1..4).map_while(at).find(|(what, ..)| *what != "C");
    let place = frame.and_then(|(_, source, line)| Some((source?, line)));
    let text = match raise::thrown(lua, value)? {
        Value::Table(table) => {
            let text: Value = table.get("err")?;
            match lua.coerce_string(text)? {
                Some(text) => text.as_bytes().to_vec(),
                None => b"ERR unknown error".to_vec(),
            }
        }
        other => [b"ERR ", text(lua, other)?.as_slice()].concat(),
    };
    shared.with(|run| run.failure = Some(Failure { text, place }));
    Ok(())
}

/// `tostring`, as far as it has a meaning outside of the interpreter.
fn text(lua: &Lua, value: Value) -> mlua::Result<Vec<u8>> {
    match value {
        Value::Nil => Ok(b"nil".to_vec()),
        Value::Boolean(yes) => Ok(yes.to_string().into_bytes()),
        other => {
            let kind = other.type_name();
            let text = lua.coerce_string(other)?;
            Ok(text.map_or_else(|| kind.as_bytes().to_vec(), |text| text.as_bytes().to_vec()))
        }
    }
}

/// The arguments of a command; none when one is neither a string nor a number.
fn words(args: &MultiValue) -> Option<Vec<Bytes>> {
    let word = |value: &Value| match value {
        Value::String(text) => Some(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Integer(number) => Some(double_text(*number as f64).into()),
        Value::Number(number) => Some(double_text(*number).into()),
        _ => None,
    };
    args.iter().map(word).collect()
}

fn call(lua: &Lua, shared: &Shared, args: MultiValue, raises: bool) -> mlua::Result<Value> {
    if !shared.is_running() {
        return Err(raise::reply("redis.call/pcall can only be called inside a script invocation"));
    }
    let refused = |text: &str, counted: bool| {
        if raises {
            return Err(raise::reply(text));
        }
        let table = raise::error_table(lua, format!("ERR {text}").as_bytes())?;
        if !counted {
            table.raw_set("ignore_error_stats_update", Value::Nil)?;
        }
        Ok(Value::Table(table))
    };
    if args.is_empty() {
        return refused("Please specify at least one argument for this redis lib call", false);
    }
    let Some(words) = words(&args) else {
        return refused("Lua redis lib command arguments must be strings or integers", false);
    };
    match shared.call(&words) {
        Some(Called::Replied(Reply::Error(text), _)) if raises => {
            Err(Raise::Reply(convert::error_text(&text)).into())
        }
        Some(Called::Replied(reply, protocol)) => {
            let size = memory::size_of_reply(&reply);
            memory::make(lua, size, || convert::to_lua(lua, reply, protocol))
        }
        Some(Called::Refused(text)) => refused(text, true),
        Some(Called::Stopped) | None => Err(Raise::End.into()),
    }
}

fn sha1_hex(lua: &Lua, args: MultiValue) -> mlua::Result<String> {
    let [value] = args.iter().collect::<Vec<_>>()[..] else {
        return Err(raise::reply("wrong number of arguments"));
    };
    let text = lua.coerce_string(value.clone())?;
    Ok(hex_sha1(&text.map_or_else(Vec::new, |text| text.as_bytes().to_vec())))
}

/// SHA1 as 40 lower case hexadecimal digits.
pub fn hex_sha1(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    Sha1::digest(bytes).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn only_string(args: &MultiValue) -> Option<Vec<u8>> {
    match args.iter().collect::<Vec<_>>()[..] {
        [Value::String(text)] => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

fn plain_error(lua: &Lua, text: &[u8]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(text)?)?;
    Ok(table)
}

fn error_reply(lua: &Lua, args: MultiValue) -> mlua::Result<Table> {
    let Some(text) = only_string(&args) else {
        return plain_error(lua, b"ERR wrong number or type of arguments");
    };
    let text = crate::engine::stop::c_text(&text, usize::MAX);
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (code, rest) = match memchr::memchr(b' ', text) {
        Some(blank) => (&text[..blank], &text[blank + 1..]),
        None => (b"ERR".as_slice(), text),
    };
    let line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = rest.iter().take_while(|byte| line_end(byte)).count();
    let end = rest.len() - rest[start..].iter().rev().take_while(|byte| line_end(byte)).count();
    plain_error(lua, &[code, b" ", &rest[start..end]].concat())
}

fn status_reply(lua: &Lua, args: MultiValue) -> mlua::Result<Table> {
    let Some(text) = only_string(&args) else {
        return plain_error(lua, b"ERR wrong number or type of arguments");
    };
    let table = lua.create_table()?;
    table.raw_set("ok", lua.create_string(text)?)?;
    Ok(table)
}

fn set_resp(lua: &Lua, shared: &Shared, args: MultiValue) -> mlua::Result<()> {
    if !shared.is_running() {
        return Err(raise::reply("redis.setresp can only be called inside a script invocation"));
    }
    let [version] = args.iter().collect::<Vec<_>>()[..] else {
        return Err(raise::reply("redis.setresp() requires one argument."));
    };
    let protocol = match lua.coerce_number(version.clone())?.map(f64::trunc) {
        Some(2.0) => Protocol::Resp2,
        Some(3.0) => Protocol::Resp3,
        _ => return Err(raise::reply("RESP version must be 2 or 3.")),
    };
    shared.with(|run| run.protocol = protocol);
    Ok(())
}

/// Replication is by effects, always: only the arguments are checked.
fn set_repl(lua: &Lua, shared: &Shared, args: MultiValue) -> mlua::Result<()> {
    if !shared.is_running() {
        return Err(raise::reply("redis.set_repl can only be called inside a script invocation"));
    }
    let [flags] = args.iter().collect::<Vec<_>>()[..] else {
        return Err(raise::reply("redis.set_repl() requires two arguments."));
    };
    let flags = convert::truncated(lua.coerce_number(flags.clone())?.unwrap_or(0.0));
    if flags & !3 != 0 {
        return Err(raise::reply(
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ));
    }
    Ok(())
}

fn acl_check(_: &Lua, shared: &Shared, args: MultiValue) -> mlua::Result<bool> {
    if !shared.is_running() {
        let text = "redis.acl_check_cmd can only be called inside a script invocation";
        return Err(raise::reply(text));
    }
    if args.is_empty() {
        let text = "Please specify at least one argument for this redis lib call";
        return Err(raise::reply(text));
    }
    let Some(words) = words(&args) else {
        let text = "Lua redis lib command arguments must be strings or integers";
        return Err(raise::reply(text));
    };
    if command(&words).is_none() {
        return Err(raise::reply("Invalid command passed to redis.acl_check_cmd()"));
    }
    Ok(shared.outside(|outside| outside.may_call(&words)))
}

/// `redis.log`, its levels and the version.
fn log(lua: &Lua, table: &Table, shared: &Shared) -> mlua::Result<()> {
    for (value, level) in Level::ALL.iter().enumerate() {
        table.raw_set(level.constant(), value)?;
    }
    table.raw_set("REDIS_VERSION", VERSION)?;
    table.raw_set("REDIS_VERSION_NUM", VERSION_NUMBER)?;
    let shared = shared.clone();
    let log = lua.create_function(move |lua, args: MultiValue| {
        if args.len() < 2 {
            return Err(raise::reply("redis.log() requires two arguments or more."));
        }
        let mut args = args.into_iter();
        let Some(level) = lua.coerce_number(args.next().unwrap_or(Value::Nil))? else {
            return Err(raise::reply("First argument must be a number (log level)."));
        };
        let level = usize::try_from(convert::truncated(level)).ok();
        let Some(level) = level.and_then(|level| Level::ALL.get(level)) else {
            return Err(raise::reply("Invalid debug level."));
        };
        let mut line = Vec::new();
        for (index, arg) in args.enumerate() {
            if let Some(text) = lua.coerce_string(arg)? {
                if index > 0 {
                    line.push(b' ');
                }
                line.extend_from_slice(&text.as_bytes());
            }
        }
        shared.outside(|outside| outside.log(*level, &String::from_utf8_lossy(&line)));
        Ok(())
    })?;
    table.raw_set("log", log)
}
