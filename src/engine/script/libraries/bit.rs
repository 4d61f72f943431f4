//! `bit`: operations on 32 bits. Source: <https://bitop.luajit.org/api.html>.

use mlua::{Lua, MultiValue, Table};

use crate::engine::script::globals::number;

type Single = fn(u32) -> u32;
type Fold = fn(u32, u32) -> u32;

const FOLDS: [(&str, Fold); 3] =
    [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];

/// By a number of bits that counts modulo 32.
const SHIFTS: [(&str, Fold); 5] = [
    ("lshift", |bits, by| bits << by),
    ("rshift", |bits, by| bits >> by),
    ("arshift", |bits, by| (bits as i32 >> by) as u32),
    ("rol", |bits, by| bits.rotate_left(by)),
    ("ror", |bits, by| bits.rotate_right(by)),
];

const SINGLE: [(&str, Single); 3] =
    [("tobit", |bits| bits), ("bnot", |bits| !bits), ("bswap", u32::swap_bytes)];

pub fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, operation) in SINGLE {
        let function =
            lua.create_function(move |lua, args| Ok(signed(operation(bits(lua, &args, 0)?))))?;
        table.raw_set(name, function)?;
    }
    for (name, operation) in FOLDS {
        let function = lua.create_function(move |lua, args: MultiValue| {
            let mut result = bits(lua, &args, 0)?;
            for index in (1..args.len()).rev() {
                result = operation(result, bits(lua, &args, index)?);
            }
            Ok(signed(result))
        })?;
        table.raw_set(name, function)?;
    }
    for (name, operation) in SHIFTS {
        let function = lua.create_function(move |lua, args: MultiValue| {
            let (value, by) = (bits(lua, &args, 0)?, bits(lua, &args, 1)?);
            Ok(signed(operation(value, by & 31)))
        })?;
        table.raw_set(name, function)?;
    }
    table.raw_set("tohex", lua.create_function(to_hex)?)?;
    Ok(table)
}

/// A number modulo 2^32, rounded to the nearest, halves to even.
fn bits(lua: &Lua, args: &MultiValue, index: usize) -> mlua::Result<u32> {
    /// Added to a double, it brings its integer part into the lowest bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    Ok((number(lua, args, index)? + SHIFT).to_bits() as u32)
}

fn signed(bits: u32) -> f64 {
    f64::from(bits as i32)
}

fn to_hex(lua: &Lua, args: MultiValue) -> mlua::Result<String> {
    let value = bits(lua, &args, 0)?;
    let digits = if args.len() > 1 { bits(lua, &args, 1)? as i32 } else { 8 };
    let width = digits.unsigned_abs().min(8) as usize;
    let text = if digits < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
    Ok(text[8 - width..].into())
}
