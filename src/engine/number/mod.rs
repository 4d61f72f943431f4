//! Numbers as Redis reads and writes them.

mod big;
mod double;
mod long_double;

use bytes::Bytes;

pub use double::{double_text, parse_float};
pub use long_double::LongDouble;

use super::stop::{Answer, Stop};

/// A signed 64-bit integer in its canonical form: no plus sign, no leading zeros, no spaces
/// (Redis's `string2ll`).
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical || text.len() > 20 {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// As [`parse_int`], with Redis's error.
pub fn int(text: &[u8]) -> Answer<i64> {
    parse_int(text).ok_or(Stop::NOT_AN_INTEGER)
}

/// As [`parse_float`], with Redis's error.
pub fn float(text: &[u8]) -> Answer<f64> {
    parse_float(text).ok_or(Stop::NOT_A_FLOAT)
}

/// A decimal integer as bytes.
pub fn int_bytes(value: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(value).as_bytes())
}
