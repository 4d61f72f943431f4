//! `cjson`: JSON. Source: <https://www.kyne.com.au/~mark/software/lua-cjson-manual.html>, version
//! 2.1.0.

mod decode;
mod encode;
mod number;
mod options;

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};
use parking_lot::Mutex;

use options::Options;

/// Nesting that is never exceeded, whatever the options say: each level is a call of ours.
const DEEPEST: usize = 1500;

/// What the functions of one such table share.
type Shared = Arc<Mutex<Options>>;

pub fn table(lua: &Lua) -> mlua::Result<Table> {
    let shared = Shared::default();
    let table = lua.create_table()?;
    let own = shared.clone();
    let encode = lua.create_function(move |lua, args: MultiValue| {
        let options = *own.lock();
        encode::encode(lua, &args, &options)
    })?;
    table.raw_set("encode", encode)?;
    let own = shared.clone();
    let decode = lua.create_function(move |lua, args: MultiValue| {
        let options = *own.lock();
        decode::decode(lua, &args, &options)
    })?;
    table.raw_set("decode", decode)?;
    options::functions(lua, &table, &shared)?;
    table.raw_set("new", lua.create_function(|lua, _: MultiValue| self::table(lua))?)?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}
