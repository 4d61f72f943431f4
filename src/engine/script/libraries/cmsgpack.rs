//! `cmsgpack`: MessagePack. Source: <https://github.com/msgpack/msgpack/blob/master/spec.md>, with the
//! older set of types that Redis has.

use mlua::{Lua, MultiValue, Table, Value};

use crate::engine::script::convert::truncated;
use crate::engine::script::globals::{number, string};
use crate::engine::script::{raise, with_stack};

/// Tables nested deeper are packed as nil.
const MAX_NESTING: usize = 16;
/// Arrays and maps nested deeper are refused when unpacked: each level is a call of ours.
const MAX_UNPACK_NESTING: usize = 1000;

pub fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(|lua, args| unpack(lua, &args, 0, 0))?)?;
    let one = lua.create_function(|lua, args: MultiValue| {
        let offset = offset(lua, &args, 1)?;
        unpack(lua, &args, 1, offset)
    })?;
    table.raw_set("unpack_one", one)?;
    let limit = lua.create_function(|lua, args: MultiValue| {
        let limit = truncated(number(lua, &args, 1)?);
        let offset = offset(lua, &args, 2)?;
        unpack(lua, &args, limit, offset)
    })?;
    table.raw_set("unpack_limit", limit)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}

fn offset(lua: &Lua, args: &MultiValue, index: usize) -> mlua::Result<i64> {
    match args.get(index) {
        None | Some(Value::Nil) => Ok(0),
        Some(_) => Ok(truncated(number(lua, args, index)?)),
    }
}

fn pack(lua: &Lua, args: MultiValue) -> mlua::Result<mlua::LuaString> {
    if args.is_empty() {
        return Err(raise::argument(lua, 0, "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for value in args {
        put(&value, 0, &mut out)?;
    }
    lua.create_string(out)
}

fn put(value: &Value, level: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    match value {
        Value::String(text) => put_string(&text.as_bytes(), out),
        Value::Boolean(yes) => out.push(if *yes { 0xc3 } else { 0xc2 }),
        Value::Integer(number) => put_integer(*number, out),
        Value::Number(number) => put_number(*number, out),
        Value::Table(table) if level < MAX_NESTING => {
            let array = is_array(table)?;
            if array {
                let len = table.raw_len();
                put_head(len, [0x90, 0xdc, 0xdd], out);
                for index in 1..=len {
                    put(&table.get(index)?, level + 1, out)?;
                }
            } else {
                put_head(table.pairs::<Value, Value>().count(), [0x80, 0xde, 0xdf], out);
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair?;
                    put(&key, level + 1, out)?;
                    put(&value, level + 1, out)?;
                }
            }
        }
        _ => out.push(0xc0),
    }
    Ok(())
}

/// Only keys from 1 to the number of keys.
fn is_array(table: &Table) -> mlua::Result<bool> {
    let (mut count, mut max) = (0.0, 0.0);
    for pair in table.pairs::<Value, Value>() {
        let key = match pair?.0 {
            Value::Integer(key) => key as f64,
            Value::Number(key) => key,
            _ => return Ok(false),
        };
        if key <= 0.0 || key.fract() != 0.0 || key > f64::from(i32::MAX) {
            return Ok(false);
        }
        max = key.max(max);
        count += 1.0;
    }
    Ok(max == count)
}

/// The head of an array or map.
fn put_head(len: usize, [fix, short, long]: [u8; 3], out: &mut Vec<u8>) {
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..16), _) => out.push(fix | len),
        (_, Ok(len)) => {
            out.push(short);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(long);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn put_string(text: &[u8], out: &mut Vec<u8>) {
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(len @ 0..32), _) => out.push(0xa0 | len),
        (Ok(len), _) => out.extend_from_slice(&[0xd9, len]),
        (_, Ok(len)) => {
            out.push(0xda);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

fn put_integer(number: i64, out: &mut Vec<u8>) {
    let mut put = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => put(0xcc, &[number as u8]),
        0x100..=0xffff => put(0xcd, &(number as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put(0xce, &(number as u32).to_be_bytes()),
        0x1_0000_0000.. => put(0xcf, &number.to_be_bytes()),
        -32..0 => out.push(number as u8),
        -128..-32 => put(0xd0, &[number as u8]),
        -32768..-128 => put(0xd1, &(number as i16).to_be_bytes()),
        -2_147_483_648..-32768 => put(0xd2, &(number as i32).to_be_bytes()),
        _ => put(0xd3, &number.to_be_bytes()),
    }
}

fn put_number(number: f64, out: &mut Vec<u8>) {
    let integer = truncated(number);
    // The largest integer of 64 bits is none of a double: what rounds to it is beyond.
    if integer as f64 == number && number < 9_223_372_036_854_775_808.0 {
        return put_integer(integer, out);
    }
    let short = number as f32;
    if f64::from(short) == number {
        out.push(0xca);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Why input cannot be unpacked.
enum Fault {
    Missing,
    Format,
    Lua(mlua::Error),
}

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Fault {
        Fault::Lua(error)
    }
}

fn unpack(lua: &Lua, args: &MultiValue, limit: i64, offset: i64) -> mlua::Result<MultiValue> {
    let input = string(lua, args, 0)?;
    let input = input.as_bytes();
    if offset < 0 || limit < 0 {
        let (offset, len) = (offset as i32, input.len() as i32);
        let text = format!("Invalid request to unpack with offset of {offset} and limit of {len}.");
        return Err(raise::error(lua, text));
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let Some(rest) = input.get(start..) else {
        let (offset, len) = (offset as i32, input.len() as i32);
        let text = format!("Start offset {offset} greater than input length {len}.");
        return Err(raise::error(lua, text));
    };
    let all = limit == 0 && offset == 0;
    let limit = if all { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut input = Input { lua, rest };
    let mut values = Vec::new();
    while !input.rest.is_empty() && values.len() < limit {
        values.push(input.value(0).map_err(|fault| match fault {
            Fault::Missing => raise::error(lua, "Missing bytes in input."),
            Fault::Format => raise::error(lua, "Bad data format in input."),
            Fault::Lua(error) => error,
        })?);
    }
    if !all {
        let next = if input.rest.is_empty() {
            -1.0
        } else {
            (start + rest.len() - input.rest.len()) as f64
        };
        values.insert(0, Value::Number(next));
    }
    Ok(MultiValue::from_iter(values))
}

struct Input<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Fault::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Big-endian bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::Missing)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Fault> {
        let bytes = self.take(bytes)?;
        Ok(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        if depth > MAX_UNPACK_NESTING {
            return Err(Fault::Format);
        }
        let [tag] = self.array()?;
        let number = match tag {
            0x00..=0x7f => f64::from(tag),
            0xe0..=0xff => f64::from(tag as i8),
            0xcc => f64::from(self.array::<1>()?[0]),
            0xd0 => f64::from(self.array::<1>()?[0] as i8),
            0xcd => f64::from(u16::from_be_bytes(self.array()?)),
            0xd1 => f64::from(i16::from_be_bytes(self.array()?)),
            0xce => f64::from(u32::from_be_bytes(self.array()?)),
            0xd2 => f64::from(i32::from_be_bytes(self.array()?)),
            0xcf => u64::from_be_bytes(self.array()?) as f64,
            0xd3 => i64::from_be_bytes(self.array()?) as f64,
            0xca => f64::from(f32::from_be_bytes(self.array()?)),
            0xcb => f64::from_be_bytes(self.array()?),
            0xc0 => return Ok(Value::Nil),
            0xc2 => return Ok(Value::Boolean(false)),
            0xc3 => return Ok(Value::Boolean(true)),
            0xa0..=0xbf => return self.string(usize::from(tag & 31)),
            0xd9 => {
                let length = self.length(1)?;
                return self.string(length);
            }
            0xda => {
                let length = self.length(2)?;
                return self.string(length);
            }
            0xdb => {
                let length = self.length(4)?;
                return self.string(length);
            }
            0x90..=0x9f => return self.list(usize::from(tag & 15), depth),
            0xdc => {
                let length = self.length(2)?;
                return self.list(length, depth);
            }
            0xdd => {
                let length = self.length(4)?;
                return self.list(length, depth);
            }
            0x80..=0x8f => return self.map(usize::from(tag & 15), depth),
            0xde => {
                let length = self.length(2)?;
                return self.map(length, depth);
            }
            0xdf => {
                let length = self.length(4)?;
                return self.map(length, depth);
            }
            _ => return Err(Fault::Format),
        };
        Ok(Value::Number(number))
    }

    fn string(&mut self, length: usize) -> Result<Value, Fault> {
        let text = self.take(length)?;
        Ok(Value::String(self.lua.create_string(text)?))
    }

    fn list(&mut self, length: usize, depth: usize) -> Result<Value, Fault> {
        let table = self.lua.create_table()?;
        for index in 1..=length {
            table.raw_set(index, with_stack(|| self.value(depth + 1))?)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Value, Fault> {
        let table = self.lua.create_table()?;
        for _ in 0..length {
            let key = with_stack(|| self.value(depth + 1))?;
            let value = with_stack(|| self.value(depth + 1))?;
            table.raw_set(key, value)?;
        }
        Ok(Value::Table(table))
    }
}
