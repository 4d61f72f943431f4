//! The global functions that know about read-only tables: to them a read-only table is what it looks
//! like, though it is an empty table in front of the real one.

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::interpreter::forward;
use super::raise;
use super::session::Shared;

const READ_ONLY: &str = "Attempt to modify a readonly table";

/// `__newindex` and `__index` of protected tables.
pub fn guard(lua: &Lua, host: &Table) -> mlua::Result<()> {
    let refuse = lua.create_function(|lua, _: MultiValue| -> mlua::Result<()> {
        Err(raise::error(lua, READ_ONLY))
    });
    host.raw_set("refuse", refuse?)?;
    let undefined = lua.create_function(|lua, args: MultiValue| -> mlua::Result<()> {
        if args.len() != 2 {
            let text = "Wrong number of arguments to luaProtectedTableError";
            return Err(raise::error(lua, text));
        }
        let name = args.into_iter().nth(1).unwrap_or(Value::Nil);
        let Some(name) = lua.coerce_string(name)? else {
            let text = "Second argument to luaProtectedTableError must be a string or number";
            return Err(raise::error(lua, text));
        };
        let mut text = b"Script attempted to access nonexistent global variable '".to_vec();
        text.extend_from_slice(crate::engine::stop::c_text(&name.as_bytes(), usize::MAX));
        text.push(b'\'');
        Err(raise::error(lua, text))
    });
    host.raw_set("undefined", undefined?)
}

/// Replaces what would look behind, or change, a table that is read-only.
pub fn replace(lua: &Lua, globals: &Table, host: &Table, shared: &Shared) -> mlua::Result<()> {
    let reals: Table = host.raw_get("reals")?;
    for name in ["rawget", "next"] {
        let (raw, reals): (Function, Table) = (globals.raw_get(name)?, reals.clone());
        let replaced = lua.create_function(move |lua, mut args: MultiValue| {
            if let Some(table) = args.front_mut()
                && let Some(real) = behind(&reals, table)?
            {
                *table = Value::Table(real);
            }
            forward(lua, name, &raw, args)
        })?;
        globals.raw_set(name, replaced)?;
    }
    let raw: Function = globals.raw_get("pairs")?;
    let (next, known): (Function, Table) = (globals.raw_get("next")?, reals.clone());
    let pairs = lua.create_function(move |lua, args: MultiValue| {
        if let Some(table) = args.front()
            && behind(&known, table)?.is_some()
        {
            let table = table.clone();
            return Ok(MultiValue::from_iter([Value::Function(next.clone()), table, Value::Nil]));
        }
        forward(lua, "pairs", &raw, args)
    })?;
    globals.raw_set("pairs", pairs)?;
    for name in ["rawset", "setmetatable"] {
        let (raw, reals): (Function, Table) = (globals.raw_get(name)?, reals.clone());
        let replaced = lua.create_function(move |lua, args: MultiValue| {
            if let Some(table) = args.front()
                && behind(&reals, table)?.is_some()
            {
                return Err(raise::bare(READ_ONLY));
            }
            forward(lua, name, &raw, args)
        })?;
        globals.raw_set(name, replaced)?;
    }
    metatables(lua, globals, host)?;
    compile(lua, globals)?;
    random(lua, globals, shared)
}

/// The real table of a read-only one.
fn behind(reals: &Table, table: &Value) -> mlua::Result<Option<Table>> {
    match table {
        Value::Table(table) => reals.raw_get(table),
        _ => Ok(None),
    }
}

fn metatables(lua: &Lua, globals: &Table, host: &Table) -> mlua::Result<()> {
    let raw: Function = globals.raw_get("getmetatable")?;
    let (metas, strings): (Table, Table) = (host.raw_get("metas")?, host.raw_get("strings")?);
    let replaced = lua.create_function(move |lua, args: MultiValue| {
        let shown = match args.front() {
            Some(Value::Table(table)) => metas.raw_get(table)?,
            Some(Value::String(_)) => strings.raw_get("front")?,
            _ => Value::Nil,
        };
        match shown {
            Value::Nil => forward(lua, "getmetatable", &raw, args),
            Value::Boolean(_) => Ok(MultiValue::from_iter([Value::Nil])),
            meta => Ok(MultiValue::from_iter([meta])),
        }
    })?;
    globals.raw_set("getmetatable", replaced)
}

/// `loadstring`, of text only: a precompiled chunk could do anything. Behind a blank it is a syntax
/// error, as in Redis.
fn compile(lua: &Lua, globals: &Table) -> mlua::Result<()> {
    const PRECOMPILED: u8 = 27;
    let raw: Function = globals.raw_get("loadstring")?;
    let replaced = lua.create_function(move |lua, mut args: MultiValue| {
        if let Some(Value::String(source)) = args.front().cloned()
            && source.as_bytes().first() == Some(&PRECOMPILED)
        {
            let text = [b" ", &*source.as_bytes()].concat();
            let name = args.get(1).cloned().unwrap_or(Value::String(source));
            args = MultiValue::from_iter([Value::String(lua.create_string(text)?), name]);
        }
        forward(lua, "loadstring", &raw, args)
    })?;
    globals.raw_set("loadstring", replaced)
}

/// `math.random` and `math.randomseed`, whose numbers are the same everywhere.
fn random(lua: &Lua, globals: &Table, shared: &Shared) -> mlua::Result<()> {
    const RANGE: u32 = i32::MAX as u32;
    let math: Table = globals.raw_get("math")?;
    let session = shared.clone();
    let random = lua.create_function(move |lua, args: MultiValue| {
        let Some(drawn) = session.with(|run| run.random.next()) else {
            let text = "math.random can only be called inside a script invocation";
            return Err(raise::error(lua, text));
        };
        let drawn = f64::from(drawn % RANGE) / f64::from(RANGE);
        let integer = |at: usize| integer(lua, &args, at);
        match args.len() {
            0 => Ok(drawn),
            1 => {
                let most = f64::from(integer(0)?);
                if most < 1.0 {
                    return Err(raise::argument(lua, 1, "interval is empty"));
                }
                Ok((drawn * most).floor() + 1.0)
            }
            2 => {
                let (least, most) = (f64::from(integer(0)?), f64::from(integer(1)?));
                if least > most {
                    return Err(raise::argument(lua, 2, "interval is empty"));
                }
                Ok((drawn * (most - least + 1.0)).floor() + least)
            }
            _ => Err(raise::error(lua, "wrong number of arguments")),
        }
    })?;
    math.raw_set("random", random)?;
    let session = shared.clone();
    let seed = lua.create_function(move |lua, args: MultiValue| {
        let seed = match session.is_running() {
            true => integer(lua, &args, 0)?,
            false => {
                let text = "math.randomseed can only be called inside a script invocation";
                return Err(raise::error(lua, text));
            }
        };
        session.with(|run| run.random.seed(seed));
        Ok(())
    })?;
    math.raw_set("randomseed", seed)
}

/// `luaL_checkint` of the argument at `index`, counted from 0.
pub fn integer(lua: &Lua, args: &MultiValue, index: usize) -> mlua::Result<i32> {
    Ok(super::convert::truncated(number(lua, args, index)?) as i32)
}

/// `luaL_checknumber` of the argument at `index`, counted from 0.
pub fn number(lua: &Lua, args: &MultiValue, index: usize) -> mlua::Result<f64> {
    let given = args.get(index);
    let number = given.and_then(|value| lua.coerce_number(value.clone()).ok().flatten());
    number.ok_or_else(|| raise::argument_type(lua, index + 1, "number", given))
}

/// `luaL_checklstring` of the argument at `index`, counted from 0.
pub fn string(lua: &Lua, args: &MultiValue, index: usize) -> mlua::Result<mlua::LuaString> {
    let given = args.get(index);
    let text = given.and_then(|value| lua.coerce_string(value.clone()).ok().flatten());
    text.ok_or_else(|| raise::argument_type(lua, index + 1, "string", given))
}
