//! Arguments that several families read alike, with Redis's errors.

use bytes::Bytes;

use super::number::{LongDouble, parse_float, parse_int};
use super::stop::{Answer, Stop};

/// An integer within `min..=max`; anything else is the error `otherwise`.
pub fn ranged(text: &[u8], min: i64, max: i64, otherwise: &'static str) -> Answer<i64> {
    parse_int(text).filter(|value| (min..=max).contains(value)).ok_or(Stop::error(otherwise))
}

/// A count that is not negative.
pub fn count(text: &[u8]) -> Answer<u64> {
    let value = ranged(text, 0, i64::MAX, "ERR value is out of range, must be positive")?;
    Ok(value.unsigned_abs())
}

/// A number of keys.
pub fn numkeys(text: &[u8]) -> Answer<usize> {
    let value = ranged(text, 1, i64::MAX, "ERR numkeys should be greater than 0")?;
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}

/// Where `start..=stop` lies in a sequence of `len`, negative indexes counting from its end:
/// the first index and the number of elements. `None`: nowhere.
pub fn span(start: i64, stop: i64, len: u64) -> Option<(u64, u64)> {
    let signed_len = i64::try_from(len).ok()?;
    let from_end = |index: i64| if index < 0 { signed_len.saturating_add(index) } else { index };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(signed_len - 1));
    if start > stop {
        return None;
    }
    Some((start.unsigned_abs(), (stop - start + 1).unsigned_abs()))
}

/// Checks the timeout of a blocking command, in seconds. The waiting is not the engine's.
pub fn check_timeout(text: &[u8]) -> Answer<()> {
    /// Milliseconds in 64 bits; Redis takes more than fit for a negative number.
    const MAX_MS: f64 = 9_223_372_036_854_775_807.0;
    LongDouble::parse(text).ok_or(Stop::error("ERR timeout is not a float or out of range"))?;
    // What is finite only as a long double does not fit anyway.
    let seconds = parse_float(text).unwrap_or(f64::INFINITY);
    // Redis rounds up to whole milliseconds before it looks at the sign.
    let ms = (seconds * 1000.0).ceil();
    if !(0.0..MAX_MS).contains(&ms) {
        return Err(Stop::error("ERR timeout is negative"));
    }
    Ok(())
}

/// The rest of a command that takes only `COUNT n`, once; 1 without it.
pub fn only_count(options: &[Bytes]) -> Answer<u64> {
    match options {
        [] => Ok(1),
        [name, value, rest @ ..] if name.eq_ignore_ascii_case(b"count") => {
            let count = ranged(value, 1, i64::MAX, "ERR count should be greater than 0")?;
            if rest.is_empty() { Ok(count.unsigned_abs()) } else { Err(Stop::SYNTAX) }
        }
        _ => Err(Stop::SYNTAX),
    }
}

/// The rest of a command that takes only `LIMIT n`; 0, without it too, means no limit.
pub fn only_limit(options: &[Bytes]) -> Answer<u64> {
    let mut limit = 0;
    for option in options.chunks(2) {
        match option {
            [name, value] if name.eq_ignore_ascii_case(b"limit") => {
                limit = ranged(value, 0, i64::MAX, "ERR LIMIT can't be negative")?;
            }
            _ => return Err(Stop::SYNTAX),
        }
    }
    Ok(limit.unsigned_abs())
}
