//! Errors that Lua code can catch. A Rust function cannot throw a Lua value, so it throws a [`Raise`],
//! and whatever catches errors (`pcall`, `xpcall`, coroutines, the end of the script) puts the value
//! that Redis would have thrown in its place.

use mlua::{Lua, Value};

/// What is thrown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Raise {
    /// A string, as `luaL_error` throws it.
    #[error("a string")]
    Text(Vec<u8>),
    /// A table with the field `err`, as `redis.call` throws it.
    #[error("an error reply")]
    Reply(Vec<u8>),
    /// The script ends here, whatever would catch it.
    #[error("the end of the script")]
    End,
}

impl From<Raise> for mlua::Error {
    fn from(raise: Raise) -> mlua::Error {
        mlua::Error::external(raise)
    }
}

/// `luaL_error`: a string with the place of the caller in front.
pub fn error(lua: &Lua, text: impl AsRef<[u8]>) -> mlua::Error {
    let mut thrown = place(lua, 1).into_bytes();
    thrown.extend_from_slice(text.as_ref());
    Raise::Text(thrown).into()
}

/// A string without a place, as the interpreter's own functions throw it.
pub fn bare(text: impl Into<Vec<u8>>) -> mlua::Error {
    Raise::Text(text.into()).into()
}

/// `luaPushError` and `luaError` of Redis: an error reply of the generic code.
pub fn reply(text: &str) -> mlua::Error {
    Raise::Reply(format!("ERR {text}").into_bytes()).into()
}

/// `luaL_argerror`: argument `number`, counted from 1, is wrong.
pub fn argument(lua: &Lua, number: usize, what: &str) -> mlua::Error {
    let called = lua.inspect_stack(0, |frame| {
        let names = frame.names();
        (names.name.map(|name| name.into_owned()), names.name_what == Some("method"))
    });
    let (name, method) = called.unwrap_or_default();
    let name = name.unwrap_or_else(|| "?".into());
    match number.saturating_sub(usize::from(method)) {
        0 if method => error(lua, format!("calling '{name}' on bad self ({what})")),
        number => error(lua, format!("bad argument #{number} to '{name}' ({what})")),
    }
}

/// `luaL_typerror`: argument `number` is not of the type `wanted`.
pub fn argument_type(lua: &Lua, number: usize, wanted: &str, got: Option<&Value>) -> mlua::Error {
    let got = got.map_or("no value", Value::type_name);
    let got = if got == "integer" { "number" } else { got };
    argument(lua, number, &format!("{wanted} expected, got {got}"))
}

/// Where the function at this level of the stack is: `user_script:3: `, or nothing when it is not Lua.
pub fn place(lua: &Lua, level: usize) -> String {
    let place = lua.inspect_stack(level, |frame| {
        let source = frame.source().short_src.map(|source| source.into_owned());
        Some(format!("{}:{}: ", source?, frame.current_line()?))
    });
    place.flatten().unwrap_or_default()
}

/// The Lua value that an error stands for; none when the script has to end.
pub fn thrown(lua: &Lua, value: Value) -> mlua::Result<Value> {
    let Value::Error(error) = value else { return Ok(value) };
    match raised(&error) {
        Some(Raise::End) => Err(Raise::End.into()),
        Some(Raise::Text(text)) => Ok(Value::String(lua.create_string(text)?)),
        Some(Raise::Reply(text)) => Ok(Value::Table(error_table(lua, text)?)),
        None => Ok(Value::String(lua.create_string(message(&error))?)),
    }
}

/// The table that `redis.pcall` answers for an error.
pub fn error_table(lua: &Lua, text: &[u8]) -> mlua::Result<mlua::Table> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(text)?)?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(table)
}

fn raised(error: &mlua::Error) -> Option<&Raise> {
    match error {
        mlua::Error::CallbackError { cause, .. } => raised(cause),
        mlua::Error::ExternalError(error) => error.downcast_ref(),
        _ => None,
    }
}

/// The words of an error that the interpreter has thrown.
pub fn message(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => message(cause),
        mlua::Error::RuntimeError(text) | mlua::Error::MemoryError(text) => text.clone(),
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
