/// Splits an inline command as Redis does (`sdssplitargs` in `sds.c`, 7.0): blanks separate,
/// `"…"` knows `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a` and `\<any>`, `'…'` knows `\'`. None when quotes are
/// not closed or a closing quote is not followed by a blank.
pub fn split_arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut arguments = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|&&b| is_space(b)).count();
        rest = &rest[blanks..];
        // Redis works on a C string: a zero byte ends the line.
        if rest.first().is_none_or(|&b| b == 0) {
            return Some(arguments);
        }
        let (argument, used) = one(rest)?;
        arguments.push(argument);
        rest = &rest[used..];
    }
}

/// Reads one argument: its value and the bytes it took.
fn one(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match text.get(at).copied() {
            None | Some(0 | b' ' | b'\n' | b'\r' | b'\t') => return Some((value, at)),
            Some(quote @ (b'"' | b'\'')) => {
                at = quoted(text, at + 1, quote, &mut value)?;
                // The closing quote must end the argument.
                if text.get(at).is_some_and(|&b| b != 0 && !is_space(b)) {
                    return None;
                }
                return Some((value, at));
            }
            Some(byte) => value.push(byte),
        }
        at += 1;
    }
}

/// Reads up to the closing quote; returns the place behind it.
fn quoted(text: &[u8], mut at: usize, quote: u8, value: &mut Vec<u8>) -> Option<usize> {
    loop {
        let byte = *text.get(at).filter(|&&b| b != 0)?;
        let next = text.get(at + 1).copied().unwrap_or(0);
        if byte == quote {
            return Some(at + 1);
        }
        if byte == b'\\' && quote == b'\'' && next == b'\'' {
            value.push(b'\'');
            at += 2;
        } else if byte == b'\\' && quote == b'"' && next != 0 {
            let hex = text.get(at + 2..at + 4).and_then(hex_byte).filter(|_| next == b'x');
            if let Some(escaped) = hex {
                value.push(escaped);
                at += 4;
                continue;
            }
            value.push(match next {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'a' => 7,
                other => other,
            });
            at += 2;
        } else {
            value.push(byte);
            at += 1;
        }
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<String>> {
        let words = split_arguments(line.as_bytes())?;
        Some(words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect())
    }

    #[test]
    fn quoting_follows_redis() {
        let words = |list: &[&str]| Some(list.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        assert_eq!(split("  set a  b "), words(&["set", "a", "b"]));
        assert_eq!(split(r#"set "a b" 'c\'d'"#), words(&["set", "a b", "c'd"]));
        assert_eq!(split(r#""\x41\n\q\xzz""#), words(&["A\nqxzz"]));
        assert_eq!(split(r#"a"b c""#), words(&["ab c"]));
        assert_eq!(split(""), words(&[]));
        assert_eq!(split(r#"'' "" x"#), words(&["", "", "x"]));
        for unbalanced in [r#""a"#, "'a", r#""a"b"#, r#"'a'b"#, r#""a\""#] {
            assert_eq!(split(unbalanced), None, "{unbalanced}");
        }
    }
}
