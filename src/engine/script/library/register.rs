//! `redis.register_function`, which a library calls while it is loaded.

use std::collections::BTreeMap;

use bytes::Bytes;
use mlua::{Function, Lua, MultiValue, Table, Value};

use super::Declared;
use crate::engine::script::raise;
use crate::engine::script::session::Shared;
use crate::engine::script::shebang::Flags;

/// What a library has registered so far.
#[derive(Default)]
pub struct Loading(pub BTreeMap<Bytes, (Declared, Function)>);

struct Registration {
    name: Bytes,
    function: Function,
    declared: Declared,
}

pub fn register(lua: &Lua, shared: &Shared, args: MultiValue) -> mlua::Result<()> {
    let mut loading = shared.loading.lock();
    let Some(loading) = loading.as_mut() else {
        let text = "redis.register_function can only be called on FUNCTION LOAD command";
        return Err(raise::reply(text));
    };
    let registration = match args.len() {
        1 => named(lua, args.front())?,
        2 => positional(lua, &args)?,
        _ => return Err(raise::reply("wrong number of arguments to redis.register_function")),
    };
    let Registration { name, function, declared } = registration;
    if name.is_empty() || !name.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_') {
        return Err(raise::reply(
            "Library names can only contain letters, numbers, or underscores(_) and must be at \
             least one character long",
        ));
    }
    if loading.0.contains_key(&name) {
        return Err(raise::reply("Function already exists in the library"));
    }
    loading.0.insert(name, (declared, function));
    Ok(())
}

fn bytes(lua: &Lua, value: Value, fault: &str) -> mlua::Result<Bytes> {
    match lua.coerce_string(value)? {
        Some(text) => Ok(Bytes::copy_from_slice(&text.as_bytes())),
        None => Err(raise::reply(fault)),
    }
}

fn positional(lua: &Lua, args: &MultiValue) -> mlua::Result<Registration> {
    let mut args = args.iter().cloned();
    let mut next = || args.next().unwrap_or(Value::Nil);
    let fault = "first argument to redis.register_function must be a string";
    let name = bytes(lua, next(), fault)?;
    let Value::Function(function) = next() else {
        let fault = "second argument to redis.register_function must be a function";
        return Err(raise::reply(fault));
    };
    let declared = Declared { description: None, flags: Flags::default() };
    Ok(Registration { name, function, declared })
}

fn named(lua: &Lua, args: Option<&Value>) -> mlua::Result<Registration> {
    let Some(Value::Table(args)) = args else {
        return Err(raise::reply(
            "calling redis.register_function with a single argument is only applicable to Lua \
             table (representing named arguments).",
        ));
    };
    let (mut name, mut function) = (None, None);
    let mut declared = Declared { description: None, flags: Flags::default() };
    for pair in args.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let fault = "named argument key given to redis.register_function is not a string";
        let key = bytes(lua, key, fault)?.to_ascii_lowercase();
        match key.as_slice() {
            b"function_name" => {
                let fault =
                    "function_name argument given to redis.register_function must be a string";
                name = Some(bytes(lua, value, fault)?);
            }
            b"description" => {
                let fault =
                    "description argument given to redis.register_function must be a string";
                declared.description = Some(bytes(lua, value, fault)?);
            }
            b"callback" => {
                let Value::Function(callback) = value else {
                    return Err(raise::reply(
                        "callback argument given to redis.register_function must be a function",
                    ));
                };
                function = Some(callback);
            }
            b"flags" => {
                let Value::Table(names) = value else {
                    return Err(raise::reply(
                        "flags argument to redis.register_function must be a table representing \
                         function flags",
                    ));
                };
                declared.flags = flags(lua, &names)?;
            }
            _ => {
                let fault = "unknown argument given to redis.register_function";
                return Err(raise::reply(fault));
            }
        }
    }
    let name = name
        .ok_or_else(|| raise::reply("redis.register_function must get a function name argument"))?;
    let function = function
        .ok_or_else(|| raise::reply("redis.register_function must get a callback argument"))?;
    Ok(Registration { name, function, declared })
}

fn flags(lua: &Lua, names: &Table) -> mlua::Result<Flags> {
    let mut flags = Flags::default();
    for index in 1.. {
        let name: Value = names.get(index)?;
        if name.is_nil() {
            break;
        }
        let name = bytes(lua, name, "unknown flag given")?;
        if !flags.add(&name, true) {
            return Err(raise::reply("unknown flag given"));
        }
    }
    Ok(flags)
}
