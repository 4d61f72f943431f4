//! The libraries that Redis gives to scripts beside Lua's own.

mod bit;
mod cjson;
mod cmsgpack;
mod structs;

use mlua::{Lua, Table};

/// Sets the libraries as globals.
pub fn open(lua: &Lua, globals: &Table) -> mlua::Result<()> {
    globals.raw_set("cjson", cjson::table(lua)?)?;
    globals.raw_set("cmsgpack", cmsgpack::table(lua)?)?;
    globals.raw_set("bit", bit::table(lua)?)?;
    globals.raw_set("struct", structs::table(lua)?)?;
    Ok(())
}
