//! `struct`: C structures as strings.
//! Source: <https://redis.io/docs/latest/develop/programmability/lua-api/#struct-library>.

use mlua::{Lua, MultiValue, Table, Value};

use crate::engine::script::globals::{number, string};
use crate::engine::script::raise;

/// Largest integer, in bytes.
const MAX_INTEGER: usize = 32;
const MAX_ALIGNMENT: usize = 8;

pub fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    table.raw_set("size", lua.create_function(size)?)?;
    Ok(table)
}

/// A format as it is read.
struct Format<'a> {
    lua: &'a Lua,
    rest: std::vec::IntoIter<u8>,
    big_endian: bool,
    alignment: usize,
}

/// One option of a format and the bytes that it takes; 0 where only the data tells.
#[derive(Clone, Copy)]
struct Item {
    option: u8,
    size: usize,
}

impl<'a> Format<'a> {
    fn new(lua: &'a Lua, args: &MultiValue) -> mlua::Result<Format<'a>> {
        let text = string(lua, args, 0)?;
        let text = crate::engine::stop::c_text(&text.as_bytes(), usize::MAX).to_vec();
        Ok(Format { lua, rest: text.into_iter(), big_endian: false, alignment: 1 })
    }

    fn next(&mut self) -> mlua::Result<Option<Item>> {
        let Some(option) = self.rest.next() else { return Ok(None) };
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > MAX_INTEGER {
                    let text =
                        format!("integral size {size} is larger than limit of {MAX_INTEGER}");
                    return Err(raise::error(self.lua, text));
                }
                size
            }
            _ => 0,
        };
        Ok(Some(Item { option, size }))
    }

    fn number(&mut self, otherwise: usize) -> mlua::Result<usize> {
        if !self.rest.as_slice().first().is_some_and(u8::is_ascii_digit) {
            return Ok(otherwise);
        }
        let mut number: i32 = 0;
        while let Some(digit) = self.rest.as_slice().first().filter(|c| c.is_ascii_digit()) {
            let digit = i32::from(digit - b'0');
            let more = number.checked_mul(10).and_then(|number| number.checked_add(digit));
            number = more.ok_or_else(|| raise::error(self.lua, "integral size overflow"))?;
            self.rest.next();
        }
        Ok(usize::try_from(number).unwrap_or(0))
    }

    /// Bytes that are left out before an item at `at`.
    fn padding(&self, at: usize, item: Item) -> usize {
        let Item { option, size } = item;
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.alignment);
        size.wrapping_sub(at & (size - 1)) & (size - 1)
    }

    /// An option that takes no data.
    fn control(&mut self, option: u8) -> mlua::Result<()> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let alignment = self.number(MAX_ALIGNMENT)?;
                if !alignment.is_power_of_two() {
                    let text = format!("alignment {alignment} is not a power of 2");
                    return Err(raise::error(self.lua, text));
                }
                self.alignment = alignment;
            }
            _ => {
                let option = char::from(option);
                let text = format!("invalid format option '{option}'");
                return Err(raise::argument(self.lua, 1, &text));
            }
        }
        Ok(())
    }
}

fn pack(lua: &Lua, mut args: MultiValue) -> mlua::Result<mlua::LuaString> {
    let mut format = Format::new(lua, &args)?;
    // As Redis says it of the first one that is missing.
    args.push_back(Value::Nil);
    let mut out: Vec<u8> = Vec::new();
    let mut total = 0;
    let mut at = 1;
    while let Some(mut item) = format.next()? {
        let padding = format.padding(total, item);
        total += padding;
        out.resize(out.len() + padding, 0);
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let bytes = integer_bytes(number(lua, &args, at)?, item.size);
                extend(&mut out, bytes, format.big_endian);
                at += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                let bytes = (number(lua, &args, at)? as f32).to_le_bytes();
                extend(&mut out, bytes.to_vec(), format.big_endian);
                at += 1;
            }
            b'd' => {
                let bytes = number(lua, &args, at)?.to_le_bytes();
                extend(&mut out, bytes.to_vec(), format.big_endian);
                at += 1;
            }
            b'c' | b's' => {
                let text = string(lua, &args, at)?;
                let text = text.as_bytes();
                at += 1;
                if item.size == 0 {
                    item.size = text.len();
                }
                let Some(text) = text.get(..item.size) else {
                    return Err(raise::argument(lua, at + 1, "string too short"));
                };
                out.extend_from_slice(text);
                if item.option == b's' {
                    out.push(0);
                    item.size += 1;
                }
            }
            option => format.control(option)?,
        }
        total += item.size;
    }
    lua.create_string(out)
}

fn extend(out: &mut Vec<u8>, mut little_endian: Vec<u8>, big_endian: bool) {
    if big_endian {
        little_endian.reverse();
    }
    out.extend_from_slice(&little_endian);
}

/// The low bytes of an integer, lowest first; beyond 64 bits they are 0.
fn integer_bytes(number: f64, size: usize) -> Vec<u8> {
    let value = match number < 0.0 {
        true => crate::engine::script::convert::truncated(number) as u64,
        false => unsigned(number),
    };
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(size, 0);
    bytes
}

/// A number as C casts it to an unsigned 64-bit integer on common machines.
fn unsigned(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if number < HALF {
        return crate::engine::script::convert::truncated(number) as u64;
    }
    crate::engine::script::convert::truncated(number - HALF) as u64 ^ 1 << 63
}

fn unpack(lua: &Lua, args: MultiValue) -> mlua::Result<MultiValue> {
    let mut format = Format::new(lua, &args)?;
    let data = string(lua, &args, 1)?;
    let data = data.as_bytes();
    let start = match args.get(2) {
        None | Some(Value::Nil) => 1,
        Some(_) => crate::engine::script::convert::truncated(number(lua, &args, 2)?),
    };
    if start == 0 {
        return Err(raise::argument(lua, 3, "offset must be 1 or greater"));
    }
    let short = || raise::argument(lua, 2, "data string too short");
    // A negative start is a huge one, which is behind every end.
    let mut at = usize::try_from(start - 1).map_err(|_| short())?;
    let mut results: Vec<Value> = Vec::new();
    while let Some(mut item) = format.next()? {
        at = at.saturating_add(format.padding(at, item));
        let Some(rest) = data.get(at..).filter(|rest| rest.len() >= item.size) else {
            return Err(short());
        };
        let bytes = || {
            let mut bytes = rest[..item.size].to_vec();
            if format.big_endian {
                bytes.reverse();
            }
            bytes
        };
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = item.option.is_ascii_lowercase();
                results.push(Value::Number(read_integer(&bytes(), signed)));
            }
            b'x' => {}
            b'f' => {
                let bytes = bytes().try_into().unwrap_or_default();
                results.push(Value::Number(f64::from(f32::from_le_bytes(bytes))));
            }
            b'd' => {
                let bytes = bytes().try_into().unwrap_or_default();
                results.push(Value::Number(f64::from_le_bytes(bytes)));
            }
            b'c' => {
                if item.size == 0 {
                    let size = results.pop().and_then(|size| lua.coerce_number(size).ok()?);
                    let size =
                        size.ok_or_else(|| raise::error(lua, "format 'c0' needs a previous size"))?;
                    item.size = usize::try_from(unsigned(size)).unwrap_or(usize::MAX);
                }
                let text = rest.get(..item.size).ok_or_else(short)?;
                results.push(Value::String(lua.create_string(text)?));
            }
            b's' => {
                let end = memchr::memchr(0, rest);
                let end = end.ok_or_else(|| raise::error(lua, "unfinished string in data"))?;
                results.push(Value::String(lua.create_string(&rest[..end])?));
                item.size = end + 1;
            }
            option => format.control(option)?,
        }
        at += item.size;
    }
    results.push(Value::Number((at + 1) as f64));
    Ok(MultiValue::from_iter(results))
}

fn read_integer(little_endian: &[u8], signed: bool) -> f64 {
    let mut value: u64 = 0;
    for byte in little_endian.iter().rev() {
        value = value << 8 | u64::from(*byte);
    }
    if !signed {
        return value as f64;
    }
    // A shift counts modulo 64, as on common machines.
    let bits = (little_endian.len() as u32 * 8).wrapping_sub(1);
    let sign = u64::MAX.wrapping_shl(bits);
    let value = if value & sign != 0 { value | sign } else { value };
    value as i64 as f64
}

fn size(lua: &Lua, args: MultiValue) -> mlua::Result<f64> {
    let mut format = Format::new(lua, &args)?;
    let mut total: usize = 0;
    while let Some(item) = format.next()? {
        total += format.padding(total, item);
        match item.option {
            b's' => return Err(raise::argument(lua, 1, "option 's' has no fixed size")),
            b'c' if item.size == 0 => {
                return Err(raise::argument(lua, 1, "option 'c0' has no fixed size"));
            }
            option if !option.is_ascii_alphanumeric() => format.control(option)?,
            _ => {}
        }
        total += item.size;
    }
    Ok(total as f64)
}
