use super::long_double::{Parsed, hexadecimal};

/// A float as `strtod` reads it when the whole text has to be used, with Redis's limits: no leading
/// space, no NaN, nothing that overflows or becomes zero by rounding.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value: f64 = if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
        f64::INFINITY
    } else if let Some(digits) = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        hexadecimal_float(digits)?
    } else if body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let value: f64 = body.parse().ok()?;
        let nothing = body.bytes().take_while(|b| !matches!(b, b'e' | b'E'));
        let zero = nothing.filter(u8::is_ascii_digit).all(|b| b == b'0');
        (value.is_finite() && (value != 0.0 || zero)).then_some(value)?
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

fn hexadecimal_float(digits: &str) -> Option<f64> {
    let Parsed { digits, exponent } = hexadecimal(digits)?;
    if digits.is_zero() {
        return Some(0.0);
    }
    let (mut top, shift, rest) = digits.top();
    let mut exponent = exponent.saturating_add(shift as i64);
    // Normalised to 128 bits, of which 53 are kept; fewer where the result is subnormal.
    let zeros = top.leading_zeros();
    top <<= zeros;
    exponent -= i64::from(zeros);
    let above = exponent + 127;
    if above > 1023 {
        return None;
    }
    let kept = 53 + (above + 1022).clamp(-54, 0);
    let drop = u32::try_from(128 - kept).unwrap_or(128);
    let (mut mantissa, lost) = if drop >= 128 {
        (u128::from(drop == 128 && top > 1 << 127), 0)
    } else {
        (top >> drop, top << (128 - drop))
    };
    let half = 1u128 << 127;
    if lost > half || (lost == half && (rest || mantissa & 1 == 1)) {
        mantissa += 1;
    }
    // In two steps, as a power of two alone may be subnormal.
    let exponent = (exponent + i64::from(drop)).max(-1074) as i32;
    let value = mantissa as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
    (value.is_finite() && value != 0.0).then_some(value)
}

/// A double as Redis 7.0 replies it: `%.17g`; the infinities are `inf` and `-inf`.
/// Source: `addReplyDouble` in networking.c.
pub fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:.16e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).unwrap_or(0);
        return trimmed(&format!("{value:.decimals$}")).into();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Without zeros at the end of the fraction.
pub(super) fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_as_printf_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.10000000000000001"),
            (2.3, "2.2999999999999998"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123456789012345678.0, "1.2345678901234568e+17"),
            (1e-4, "0.0001"),
            (1.1e-5, "1.1e-05"),
            (1e100, "1e+100"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(double_text(value), text);
        }
    }

    #[test]
    fn floats_as_strtod_reads_them() {
        for (text, value) in [
            ("1", Some(1.0)),
            ("+1.5e3", Some(1500.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("-iNf", Some(f64::NEG_INFINITY)),
            ("infinity", Some(f64::INFINITY)),
            ("0x10", Some(16.0)),
            ("-0X1.8p1", Some(-3.0)),
            ("0x.8", Some(0.5)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1075", None),
            ("0x1.8p-1075", Some(5e-324)),
            ("0x1.fffffffffffff8p0", Some(2.0)),
            ("0x1.fffffffffffff7p0", Some(1.9999999999999998)),
            ("0x1p1024", None),
            ("0x", None),
            ("0x1p", None),
            ("1e400", None),
            ("1e-400", None),
            ("0e-400", Some(0.0)),
            ("4e-324", Some(5e-324)),
            ("", None),
            ("-", None),
            (".", None),
            ("1e", None),
            (" 1", None),
            ("1 ", None),
            ("nan", None),
            ("--1", None),
        ] {
            assert_eq!(parse_float(text.as_bytes()), value, "{text}");
        }
    }
}
