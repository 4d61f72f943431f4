use super::big::Big;
use super::double::trimmed;

/// The bits of the significand.
const PRECISION: u32 = 64;
/// The exponent of the last bit of subnormal numbers, and of the greatest numbers.
const LOWEST: i64 = -16445;
const HIGHEST: i64 = 16320;

/// Longer texts are no float for Redis.
const MAX_TEXT: usize = 5 * 1024;

/// The 80-bit `long double` of x86-64, in which Redis computes `INCRBYFLOAT` and `HINCRBYFLOAT`.
/// Never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongDouble {
    negative: bool,
    /// The value is `significand * 2^exponent`; `None`: infinite.
    magnitude: Option<(u64, i64)>,
}

/// Digits as a whole number, and the power of the base that they are multiplied with.
pub(super) struct Parsed {
    pub digits: Big,
    pub exponent: i64,
}

impl LongDouble {
    pub const ZERO: LongDouble = LongDouble { negative: false, magnitude: Some((0, LOWEST)) };

    /// As `strtold` reads it, with Redis's limits (`string2ld`): the whole text, no leading space,
    /// no NaN, nothing that overflows or becomes zero by rounding.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= MAX_TEXT {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (negative, body) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
            return Some(LongDouble { negative, magnitude: None });
        }
        let magnitude = match body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
            Some(digits) => from_base_2(hexadecimal(digits)?, false),
            None => from_base_10(decimal(body)?),
        };
        // Out of range either way.
        let magnitude = magnitude?;
        Some(LongDouble { negative, magnitude: Some(magnitude) })
    }

    pub fn is_infinite(self) -> bool {
        self.magnitude.is_none()
    }

    /// The sum, rounded to nearest; `None` when it is not a number (infinity minus infinity).
    pub fn plus(self, other: LongDouble) -> Option<LongDouble> {
        let (a, b) = match (self.magnitude, other.magnitude) {
            (None, None) => return (self.negative == other.negative).then_some(self),
            (None, Some(_)) => return Some(self),
            (Some(_), None) => return Some(other),
            (Some(a), Some(b)) => (a, b),
        };
        let ((high, low), (negative, minus)) = if (a.1, a.0) >= (b.1, b.0) {
            ((a, b), (self.negative, self.negative != other.negative))
        } else {
            ((b, a), (other.negative, self.negative != other.negative))
        };
        // 63 guard bits below the higher number; what lies lower only says that there is more.
        const GUARD: i64 = 63;
        let wide = u128::from(high.0) << GUARD;
        let distance = high.1 - low.1;
        let (mut narrow, mut rest) = (u128::from(low.0) << GUARD, false);
        if distance > 0 {
            let shift = u32::try_from(distance).unwrap_or(u32::MAX);
            let kept = narrow.checked_shr(shift).unwrap_or(0);
            rest = kept.checked_shl(shift).unwrap_or(0) != narrow;
            narrow = kept;
        }
        let sum = if minus { wide - narrow - u128::from(rest) } else { wide + narrow };
        if sum == 0 && !rest {
            let negative = self.negative && other.negative;
            return Some(LongDouble { negative, ..LongDouble::ZERO });
        }
        Some(LongDouble { negative, magnitude: rounded(sum, high.1 - GUARD, rest) })
    }

    /// As Redis stores and replies it: `%.17Lf` without zeros at the end, `-0` as `0`.
    /// Source: `ld2string` with `LD_STR_HUMAN` in util.c.
    pub fn text(self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let Some((significand, exponent)) = self.magnitude else { return format!("{sign}inf") };
        if exponent >= 0 {
            let mut whole = Big::from_u64(significand);
            whole.shl(exponent.unsigned_abs());
            return format!("{sign}{}", whole.to_decimal());
        }
        const SCALE: u128 = 100_000_000_000_000_000;
        let scaled = u128::from(significand) * SCALE;
        let shift = exponent.unsigned_abs();
        let mut units = if shift < 128 { scaled >> shift } else { 0 };
        let lost = if shift <= 128 { scaled << (128 - shift.max(1)) } else { 0 };
        let half = 1u128 << 127;
        if shift <= 128 && (lost > half || (lost == half && units & 1 == 1)) {
            units += 1;
        }
        let text = format!("{sign}{}.{:017}", units / SCALE, units % SCALE);
        match trimmed(&text) {
            "-0" => "0".into(),
            text => text.into(),
        }
    }
}

/// Rounds `value * 2^exponent` (plus something less when `rest`) to nearest, ties to even.
/// `None` when it is too large. `value` keeps more than 64 bits where `rest` matters.
fn rounded(value: u128, exponent: i64, rest: bool) -> Option<(u64, i64)> {
    let bits = i64::from(128 - value.leading_zeros());
    let drop = (bits - i64::from(PRECISION)).max(LOWEST - exponent);
    if drop <= 0 {
        let value = (value << -drop.max(-127)) as u64;
        return in_range(value, exponent + drop);
    }
    let (mut kept, lost) = match drop {
        1..=127 => (value >> drop, value << (128 - drop)),
        128 => (0, value),
        _ => (0, u128::from(value > 0)),
    };
    let half = 1u128 << 127;
    if lost > half || (lost == half && (rest || kept & 1 == 1)) {
        kept += 1;
    }
    let exponent = exponent + drop;
    if kept >> PRECISION > 0 {
        return in_range((kept >> 1) as u64, exponent + 1);
    }
    in_range(kept as u64, exponent)
}

fn in_range(significand: u64, exponent: i64) -> Option<(u64, i64)> {
    match significand {
        0 => Some((0, LOWEST)),
        _ => (exponent <= HIGHEST).then_some((significand, exponent)),
    }
}

/// `None` when the number is too large, or not zero and becomes zero.
fn from_base_2(parsed: Parsed, rest: bool) -> Option<(u64, i64)> {
    if parsed.digits.is_zero() && !rest {
        return Some((0, LOWEST));
    }
    let (top, shift, below) = parsed.digits.top();
    let exponent = parsed.exponent.saturating_add(shift as i64);
    rounded(top, exponent.max(-40_000), below || rest).filter(|(significand, _)| *significand > 0)
}

fn from_base_10(parsed: Parsed) -> Option<(u64, i64)> {
    let Parsed { mut digits, exponent } = parsed;
    if digits.is_zero() {
        return Some((0, LOWEST));
    }
    let size = (digits.bit_len() as i64 * 30103 / 100_000).saturating_add(exponent);
    if !(-5000..5000).contains(&size) {
        return None;
    }
    if exponent >= 0 {
        (0..exponent).for_each(|_| digits.mul_add(10, 0));
        return from_base_2(Parsed { digits, exponent: 0 }, false);
    }
    // Enough bits that the quotient keeps 128 of them.
    let room = exponent.unsigned_abs() * 4 + 192;
    digits.shl(room);
    let mut rest = false;
    const NINE: i64 = 9;
    let mut left = -exponent;
    while left > 0 {
        let step = left.min(NINE) as u32;
        rest |= digits.div(10u32.pow(step)) > 0;
        left -= i64::from(step);
    }
    from_base_2(Parsed { digits, exponent: -(room as i64) }, rest)
}

/// Decimal digits with a point and an exponent; all of the text.
fn decimal(text: &str) -> Option<Parsed> {
    let (body, exponent) = match text.split_once(['e', 'E']) {
        Some((body, exponent)) => (body, power(exponent)?),
        None => (text, 0),
    };
    let (digits, exponent) = digits(body, 10, 1, exponent)?;
    Some(Parsed { digits, exponent })
}

/// Hexadecimal digits behind `0x`, with a point and a power of two; all of the text.
pub(super) fn hexadecimal(text: &str) -> Option<Parsed> {
    let (body, exponent) = match text.split_once(['p', 'P']) {
        Some((body, exponent)) => (body, power(exponent)?),
        None => (text, 0),
    };
    let (digits, exponent) = digits(body, 16, 4, exponent)?;
    Some(Parsed { digits, exponent })
}

fn digits(body: &str, base: u32, weight: i64, mut exponent: i64) -> Option<(Big, i64)> {
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut number = Big::default();
    for c in whole.chars().chain(fraction.chars()) {
        number.mul_add(base, c.to_digit(base)?);
    }
    exponent = exponent.saturating_sub(weight * fraction.len() as i64);
    Some((number, exponent))
}

/// A decimal exponent; one that is out of any range stays out of range.
fn power(text: &str) -> Option<i64> {
    const FAR: i64 = 1 << 40;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().unwrap_or(FAR).min(FAR);
    Some(if text.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let parse = |text: &str| LongDouble::parse(text.as_bytes()).expect(text);
        parse(a).plus(parse(b)).map_or("nan".into(), LongDouble::text)
    }

    #[test]
    fn sums_as_redis_prints_them() {
        for (a, b, text) in [
            ("0", "0", "0"),
            ("-0", "-0", "0"),
            ("0.1", "0.2", "0.3"),
            ("3", "1.1", "4.1"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("17179869184", "1.5", "17179869185.5"),
            ("1", "-1", "0"),
            ("1e-30", "0", "0"),
            ("-1e-30", "0", "0"),
            ("1e20", "1", "100000000000000000000"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "3", "18446744073709551620"),
            ("0x1p62", "0.5", "4611686018427387904.5"),
            ("0x1p63", "0.5", "9223372036854775808"),
            ("0x1.8p63", "-0x1.8p-1", "13835058055282163711"),
            ("1e4932", "1e4932", "inf"),
            ("inf", "-inf", "nan"),
        ] {
            let expected = text;
            let got = sum(a, b);
            if a == "1e4932" {
                assert!(got == "inf" || got.len() == 4933, "{got}");
            } else {
                assert_eq!(got, expected, "{a} + {b}");
            }
        }
    }

    #[test]
    fn texts_that_are_no_float() {
        for text in
            ["", "-", ".", "1e", "0x", "0x1p", "nan", " 1", "1 ", "1e5000", "1e-5000", "1.1.1"]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        for text in ["1e4932", "3.6e-4951", "0e9999999999999999999", "0x1p16383", "0x1p-16445"] {
            assert!(LongDouble::parse(text.as_bytes()).is_some(), "{text}");
        }
    }
}
