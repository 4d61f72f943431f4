//! Cursors of `SCAN` and its relatives. Source: <https://redis.io/commands/scan/>.
//!
//! Elements are visited in the order of a hash of their names, and the cursor is the lowest hash
//! that was not visited. So there is no state, and what is there from the first call to the last is
//! returned, whatever comes and goes in between.

use bytes::Bytes;

use super::glob;
use super::number::int;
use super::stop::{Answer, Stop};
use crate::resp::Reply;

/// The options of a call.
#[derive(Debug)]
pub struct Scan<'a> {
    pub count: usize,
    pattern: Option<&'a Bytes>,
    /// `TYPE`, as it was given.
    pub kind: Option<&'a Bytes>,
}

impl<'a> Scan<'a> {
    pub fn parse(args: &'a [Bytes], of_keys: bool) -> Answer<Scan<'a>> {
        let mut scan = Scan { count: 10, pattern: None, kind: None };
        let mut rest = args;
        while let [name, value, more @ ..] = rest {
            match name.to_ascii_lowercase().as_slice() {
                b"count" => {
                    let count = int(value)?;
                    if count < 1 {
                        return Err(Stop::SYNTAX);
                    }
                    scan.count = usize::try_from(count).unwrap_or(usize::MAX);
                }
                b"match" => scan.pattern = Some(value),
                b"type" if of_keys => scan.kind = Some(value),
                _ => return Err(Stop::SYNTAX),
            }
            rest = more;
        }
        if rest.is_empty() { Ok(scan) } else { Err(Stop::SYNTAX) }
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }

    /// About as many of the elements as were asked for, which come in order from the cursor on, each behind its
    /// position; and the next cursor, 0 at the end.
    pub fn next_page<T>(&self, elements: impl Iterator<Item = (u64, T)>) -> (u64, Vec<T>) {
        let (mut page, mut last) = (Vec::new(), 0);
        for (position, element) in elements {
            // Those with one hash stay together, as a cursor cannot stand between them.
            if page.len() >= self.count && position != last {
                return (last + 1, page);
            }
            last = position;
            page.push(element);
        }
        (0, page)
    }
}

/// Where a cursor stands. One that was not given out here begins anew.
pub fn from(cursor: u64) -> u64 {
    if cursor > LAST { 0 } else { cursor }
}

/// The last cursor that there can be.
pub const LAST: u64 = u32::MAX as u64 + 1;

/// The same in every process, so that a cursor outlives a restart. From 1 to [`LAST`].
pub fn position(name: &[u8]) -> u64 {
    u64::from(crc32fast::hash(name)) + 1
}

/// A name behind its position.
pub fn place(name: &Bytes) -> (u64, Bytes) {
    (position(name), name.clone())
}

/// A cursor as `strtoul` reads it: an empty one is 0, a negative one wraps around.
pub fn cursor(text: &[u8]) -> Answer<u64> {
    let fault = Stop::error("ERR invalid cursor");
    // A C string ends at its first zero byte.
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(text).map_err(|_| fault.clone())?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault);
    }
    let value: u64 = digits.parse().map_err(|_| fault)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

pub fn reply(next: u64, elements: impl Iterator<Item = Bytes>) -> Reply {
    let elements = elements.map(Reply::Bulk).collect();
    Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(elements)])
}

/// What a scan of nothing answers.
pub fn empty() -> Reply {
    reply(0, std::iter::empty())
}
