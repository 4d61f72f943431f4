//! Numbers as C's `printf` and `strtod` write and read them.

use crate::engine::number::parse_float;

/// `%.{precision}g`.
pub fn general(value: f64, precision: usize) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let decimals = precision.saturating_sub(1);
    let scientific = format!("{value:.decimals$e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent >= -4 && exponent < precision as i32 {
        let decimals = usize::try_from(decimals as i32 - exponent).unwrap_or(0);
        return trimmed(&format!("{value:.decimals$}")).into();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Without zeros at the end of the fraction.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// The number that a text begins with, and its length; none when it begins with none.
pub fn leading(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let rest = &text[sign..];
    let negative = text.first() == Some(&b'-');
    let signed = |value: f64| if negative { -value } else { value };
    let begins = |word: &[u8]| rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word));
    for (word, value) in
        [(b"infinity".as_slice(), f64::INFINITY), (b"inf", f64::INFINITY), (b"nan", f64::NAN)]
    {
        if begins(word) {
            return Some((signed(value), sign + word.len()));
        }
    }
    if begins(b"0x")
        && let Some(len) = number_len(&rest[2..], u8::is_ascii_hexdigit, b'p')
    {
        let value = parse_float(&rest[..2 + len]).unwrap_or(0.0);
        return Some((signed(value), sign + 2 + len));
    }
    let len = number_len(rest, u8::is_ascii_digit, b'e')?;
    let value: f64 = std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?;
    Some((signed(value), sign + len))
}

/// Digits with a fraction and an exponent.
fn number_len(text: &[u8], digit: fn(&u8) -> bool, exponent: u8) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| digit(byte)).count();
    let whole = digits(0);
    let mut len = whole;
    let mut fraction = 0;
    if text.get(len) == Some(&b'.') {
        fraction = digits(len + 1);
        len += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if text.get(len).is_some_and(|byte| byte.eq_ignore_ascii_case(&exponent)) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let from = len + 1 + sign;
        let digits = text.get(from..).unwrap_or_default();
        let digits = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            len = from + digits;
        }
    }
    Some(len)
}
