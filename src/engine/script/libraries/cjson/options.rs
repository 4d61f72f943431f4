use mlua::{Lua, MultiValue, Table, Value};

use super::Shared;
use crate::engine::script::convert::truncated;
use crate::engine::script::globals::{number, string};
use crate::engine::script::raise;

/// How values are written and read; scripts may change it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Arrays that are too sparse become objects instead of errors.
    pub sparse_convert: bool,
    /// An array is too sparse when its last index is above this many times its length; 0: never.
    pub sparse_ratio: i32,
    /// Up to this index no array is too sparse.
    pub sparse_safe: i32,
    pub encode_max_depth: i32,
    pub decode_max_depth: i32,
    pub encode_invalid: Invalid,
    /// Infinity, NaN, hexadecimal numbers and leading zeros are read.
    pub decode_invalid: bool,
    /// Significant digits.
    pub precision: i32,
    keep_buffer: bool,
}

/// What becomes of an infinity or NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    Refused,
    Written,
    Null,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
            precision: 14,
            keep_buffer: true,
        }
    }
}

type Setter = fn(&Lua, &MultiValue, &mut Options) -> mlua::Result<Vec<Value>>;

/// Name, greatest number of arguments, what it does.
const FUNCTIONS: [(&str, usize, Setter); 7] = [
    ("encode_sparse_array", 3, |lua, args, options| {
        Ok(vec![
            switch(lua, args, 0, &mut options.sparse_convert)?,
            whole(lua, args, 1, &mut options.sparse_ratio, 0..=i32::MAX)?,
            whole(lua, args, 2, &mut options.sparse_safe, 0..=i32::MAX)?,
        ])
    }),
    ("encode_max_depth", 1, |lua, args, options| {
        Ok(vec![whole(lua, args, 0, &mut options.encode_max_depth, 1..=i32::MAX)?])
    }),
    ("decode_max_depth", 1, |lua, args, options| {
        Ok(vec![whole(lua, args, 0, &mut options.decode_max_depth, 1..=i32::MAX)?])
    }),
    ("encode_number_precision", 1, |lua, args, options| {
        Ok(vec![whole(lua, args, 0, &mut options.precision, 1..=14)?])
    }),
    ("encode_keep_buffer", 1, |lua, args, options| {
        Ok(vec![switch(lua, args, 0, &mut options.keep_buffer)?])
    }),
    ("encode_invalid_numbers", 1, |lua, args, options| Ok(vec![invalid(lua, args, options)?])),
    ("decode_invalid_numbers", 1, |lua, args, options| {
        Ok(vec![switch(lua, args, 0, &mut options.decode_invalid)?])
    }),
];

pub fn functions(lua: &Lua, table: &Table, shared: &Shared) -> mlua::Result<()> {
    for (name, most, set) in FUNCTIONS {
        let shared = shared.clone();
        let function = lua.create_function(move |lua, args: MultiValue| {
            if args.len() > most {
                return Err(raise::argument(lua, most + 1, "found too many arguments"));
            }
            Ok(MultiValue::from_iter(set(lua, &args, &mut shared.lock())?))
        })?;
        table.raw_set(name, function)?;
    }
    Ok(())
}

fn given(args: &MultiValue, index: usize) -> Option<&Value> {
    args.get(index).filter(|value| !value.is_nil())
}

fn whole(
    lua: &Lua,
    args: &MultiValue,
    index: usize,
    setting: &mut i32,
    range: std::ops::RangeInclusive<i32>,
) -> mlua::Result<Value> {
    if given(args, index).is_some() {
        let value = truncated(number(lua, args, index)?) as i32;
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            let text = format!("expected integer between {least} and {most}");
            return Err(raise::argument(lua, 1, &text));
        }
        *setting = value;
    }
    Ok(Value::Number(f64::from(*setting)))
}

/// Which of these names the argument is.
fn choice(lua: &Lua, args: &MultiValue, index: usize, names: &[&str]) -> mlua::Result<usize> {
    let name = string(lua, args, index)?;
    let found = names.iter().position(|known| known.as_bytes() == &*name.as_bytes());
    found.ok_or_else(|| {
        let text = format!("invalid option '{}'", name.to_string_lossy());
        raise::argument(lua, index + 1, &text)
    })
}

fn switch(lua: &Lua, args: &MultiValue, index: usize, setting: &mut bool) -> mlua::Result<Value> {
    match given(args, index) {
        None => {}
        Some(Value::Boolean(on)) => *setting = *on,
        Some(_) => *setting = choice(lua, args, index, &["off", "on"])? == 1,
    }
    Ok(Value::Boolean(*setting))
}

fn invalid(lua: &Lua, args: &MultiValue, options: &mut Options) -> mlua::Result<Value> {
    const NAMES: [(&str, Invalid); 3] =
        [("off", Invalid::Refused), ("on", Invalid::Written), ("null", Invalid::Null)];
    match given(args, 0) {
        None => {}
        Some(Value::Boolean(false)) => options.encode_invalid = Invalid::Refused,
        Some(Value::Boolean(true)) => options.encode_invalid = Invalid::Written,
        Some(_) => options.encode_invalid = NAMES[choice(lua, args, 0, &NAMES.map(|(n, _)| n))?].1,
    }
    match options.encode_invalid {
        Invalid::Refused => Ok(Value::Boolean(false)),
        Invalid::Written => Ok(Value::Boolean(true)),
        Invalid::Null => Ok(Value::String(lua.create_string("null")?)),
    }
}
