use mlua::{Lua, MultiValue, Table, Value};

use super::DEEPEST;
use super::number::general;
use super::options::{Invalid, Options};
use crate::engine::script::{raise, with_stack};

pub fn encode(lua: &Lua, args: &MultiValue, options: &Options) -> mlua::Result<mlua::LuaString> {
    let [value] = args.iter().collect::<Vec<_>>()[..] else {
        return Err(raise::argument(lua, 1, "expected 1 argument"));
    };
    let mut writer = Writer { lua, options, out: Vec::new() };
    writer.value(value, 0)?;
    lua.create_string(writer.out)
}

struct Writer<'a> {
    lua: &'a Lua,
    options: &'a Options,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn refused(&self, value: &Value, why: &str) -> mlua::Error {
        let kind = match value.type_name() {
            "integer" => "number",
            "lightuserdata" | "error" => "userdata",
            kind => kind,
        };
        raise::error(self.lua, format!("Cannot serialise {kind}: {why}"))
    }

    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Integer(number) => return self.number(*number as f64, value),
            Value::Number(number) => return self.number(*number, value),
            Value::Boolean(yes) => {
                self.out.extend_from_slice(if *yes { b"true" } else { b"false" })
            }
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                self.out.extend_from_slice(b"null");
            }
            Value::Table(table) => return with_stack(|| self.table(table, depth + 1)),
            other => return Err(self.refused(other, "type not supported")),
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let most = usize::try_from(self.options.encode_max_depth).unwrap_or(0).min(DEEPEST);
        if depth > most {
            let text = format!("Cannot serialise, excessive nesting ({depth})");
            return Err(raise::error(self.lua, text));
        }
        let len = self.array_len(table)?;
        if len > 0 {
            for index in 1..=len {
                self.out.push(if index == 1 { b'[' } else { b',' });
                self.value(&table.raw_get(index)?, depth)?;
            }
            self.out.push(b']');
            return Ok(());
        }
        self.out.push(b'{');
        let mut first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            match &key {
                Value::String(name) => self.string(&name.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    self.out.push(b'"');
                    self.value(&key, depth)?;
                    self.out.push(b'"');
                }
                _ => return Err(self.refused(&key, "table key must be a number or string")),
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// The last index of an array; 0 for what becomes an object.
    fn array_len(&self, table: &Table) -> mlua::Result<i64> {
        let (mut max, mut items) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            let index = match pair?.0 {
                Value::Integer(index) => index as f64,
                Value::Number(index) => index,
                _ => return Ok(0),
            };
            if index < 1.0 || index.floor() != index {
                return Ok(0);
            }
            max = max.max(index as i64);
            items += 1;
        }
        let (ratio, safe) = (self.options.sparse_ratio, self.options.sparse_safe);
        if ratio > 0 && max > items * i64::from(ratio) && max > i64::from(safe) {
            if !self.options.sparse_convert {
                let table = Value::Table(table.clone());
                return Err(self.refused(&table, "excessively sparse array"));
            }
            return Ok(0);
        }
        Ok(max)
    }

    fn number(&mut self, number: f64, value: &Value) -> mlua::Result<()> {
        if !number.is_finite() {
            match self.options.encode_invalid {
                Invalid::Refused => return Err(self.refused(value, "must not be NaN or Inf")),
                Invalid::Null => {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                Invalid::Written => {}
            }
        }
        let precision = usize::try_from(self.options.precision).unwrap_or(1);
        self.out.extend_from_slice(general(number, precision).as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for byte in text {
            let escaped: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                8 => b"\\b",
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                12 => b"\\f",
                b'\r' => b"\\r",
                0..32 | 127 => {
                    self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                _ => std::slice::from_ref(byte),
            };
            self.out.extend_from_slice(escaped);
        }
        self.out.push(b'"');
    }
}
