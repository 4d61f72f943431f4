use mlua::{Lua, MultiValue, Value};

use super::DEEPEST;
use super::number::leading;
use super::options::Options;
use crate::engine::script::globals::string;
use crate::engine::script::{raise, with_stack};

pub fn decode(lua: &Lua, args: &MultiValue, options: &Options) -> mlua::Result<Value> {
    if args.len() != 1 {
        return Err(raise::argument(lua, 1, "expected 1 argument"));
    }
    let text = string(lua, args, 0)?;
    let text = text.as_bytes();
    if let [first, second, ..] = *text
        && (first == 0 || second == 0)
    {
        return Err(raise::error(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut reader = Reader { lua, options, text: &text, at: 0, depth: 0, token_at: 0 };
    let token = reader.token();
    let value = reader.value(token)?;
    match reader.token() {
        Token::End => Ok(value),
        other => Err(reader.unexpected("the end", &other)),
    }
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Fault(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Fault(text) => text,
        }
    }
}

struct Reader<'a> {
    lua: &'a Lua,
    options: &'a Options,
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// Where the last token began, or what was wrong with it.
    token_at: usize,
}

impl Reader<'_> {
    fn unexpected(&self, wanted: &str, token: &Token) -> mlua::Error {
        let (found, at) = (token.name(), self.token_at + 1);
        raise::error(self.lua, format!("Expected {wanted} but found {found} at character {at}"))
    }

    /// The byte at an index; the text ends with a zero.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn fault(&mut self, text: &'static str) -> Token {
        self.token_at = self.at;
        Token::Fault(text)
    }

    fn token(&mut self) -> Token {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.byte(self.at) {
            0 => return Token::End,
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            _ => return self.word(),
        };
        self.at += 1;
        single
    }

    fn word(&mut self) -> Token {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let invalid = self.options.decode_invalid;
        match rest.first() {
            Some(b'"') => return self.string(),
            Some(b'-' | b'0'..=b'9') if !invalid && is_invalid_number(rest) => {
                return self.fault("invalid number");
            }
            Some(b'-' | b'0'..=b'9') => return self.number(),
            _ => {}
        }
        for (word, token) in [
            (b"true".as_slice(), Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        let may_be_one = matches!(rest.first(), Some(b'i' | b'I' | b'n' | b'N' | b'+'));
        if may_be_one && invalid && is_invalid_number(rest) {
            return self.number();
        }
        self.fault("invalid token")
    }

    fn number(&mut self) -> Token {
        match leading(&self.text[self.at..]) {
            Some((number, len)) => {
                self.at += len;
                Token::Number(number)
            }
            None => self.fault("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        let mut out = Vec::new();
        self.at += 1;
        loop {
            let byte = match self.byte(self.at) {
                b'"' => break,
                0 => return self.fault("unexpected end of string"),
                b'\\' => {
                    let escaped = match self.byte(self.at + 1) {
                        plain @ (b'"' | b'\\' | b'/') => plain,
                        b'b' => 8,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 12,
                        b'r' => b'\r',
                        b'u' => {
                            let Some((point, len)) = self.unicode() else {
                                return self.fault("invalid unicode escape code");
                            };
                            push_utf8(point, &mut out);
                            self.at += len;
                            continue;
                        }
                        _ => return self.fault("invalid escape code"),
                    };
                    self.at += 1;
                    escaped
                }
                byte => byte,
            };
            out.push(byte);
            self.at += 1;
        }
        self.at += 1;
        Token::String(out)
    }

    /// The code point of the escape here, of two when it is a surrogate pair, and its length.
    fn unicode(&self) -> Option<(u32, usize)> {
        let high = self.hex(self.at + 2)?;
        if high & 0xF800 != 0xD800 {
            return Some((high, 6));
        }
        if high & 0x400 != 0 || self.byte(self.at + 6) != b'\\' || self.byte(self.at + 7) != b'u' {
            return None;
        }
        let low = self.hex(self.at + 8).filter(|low| low & 0xFC00 == 0xDC00)?;
        Some(((high & 0x3FF) << 10 | low & 0x3FF, 12)).map(|(point, len)| (point + 0x10000, len))
    }

    fn hex(&self, at: usize) -> Option<u32> {
        (at..at + 4)
            .try_fold(0, |value, at| Some(value << 4 | char::from(self.byte(at)).to_digit(16)?))
    }

    fn value(&mut self, token: Token) -> mlua::Result<Value> {
        match token {
            Token::String(text) => Ok(Value::String(self.lua.create_string(text)?)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Boolean(yes) => Ok(Value::Boolean(yes)),
            Token::Null => Ok(Value::NULL),
            Token::ObjectBegin => with_stack(|| self.object()),
            Token::ArrayBegin => with_stack(|| self.array()),
            other => Err(self.unexpected("value", &other)),
        }
    }

    fn descend(&mut self) -> mlua::Result<()> {
        self.depth += 1;
        let most = usize::try_from(self.options.decode_max_depth).unwrap_or(0).min(DEEPEST);
        if self.depth <= most {
            return Ok(());
        }
        let (depth, at) = (self.depth, self.at);
        let text = format!("Found too many nested data structures ({depth}) at character {at}");
        Err(raise::error(self.lua, text))
    }

    fn object(&mut self) -> mlua::Result<Value> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.token();
        if !matches!(token, Token::ObjectEnd) {
            loop {
                let Token::String(key) = token else {
                    return Err(self.unexpected("object key string", &token));
                };
                match self.token() {
                    Token::Colon => {}
                    other => return Err(self.unexpected("colon", &other)),
                }
                let value = self.token();
                let value = self.value(value)?;
                table.raw_set(self.lua.create_string(key)?, value)?;
                match self.token() {
                    Token::ObjectEnd => break,
                    Token::Comma => {}
                    other => return Err(self.unexpected("comma or object end", &other)),
                }
                token = self.token();
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn array(&mut self) -> mlua::Result<Value> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.token();
        if !matches!(token, Token::ArrayEnd) {
            for index in 1.. {
                table.raw_set(index, self.value(token)?)?;
                match self.token() {
                    Token::ArrayEnd => break,
                    Token::Comma => {}
                    other => return Err(self.unexpected("comma or array end", &other)),
                }
                token = self.token();
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }
}

/// Numbers that C reads and JSON does not have.
fn is_invalid_number(text: &[u8]) -> bool {
    if text.first() == Some(&b'+') {
        return true;
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    match text {
        [b'0', next, ..] => next.eq_ignore_ascii_case(&b'x') || next.is_ascii_digit(),
        [0..=b'9', ..] => false,
        _ => {
            let begins = |word: &[u8]| text.get(..3).is_some_and(|t| t.eq_ignore_ascii_case(word));
            begins(b"inf") || begins(b"nan")
        }
    }
}

fn push_utf8(point: u32, out: &mut Vec<u8>) {
    match char::from_u32(point) {
        Some(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        // No surrogate gets here.
        None => out.extend_from_slice(b"?"),
    }
}
