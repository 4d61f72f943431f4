//! Stream ids as text.

use bytes::Bytes;

use crate::engine::stop::{Answer, Stop};
use crate::engine::value::StreamId;

pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

const INVALID: Stop = Stop::error("ERR Invalid stream ID specified as stream command argument");

pub fn text(id: StreamId) -> Bytes {
    Bytes::from(format!("{}-{}", id.ms, id.seq))
}

/// An id whose sequence number may be missing, `missing_seq` then; not `-` and `+`.
pub fn strict(text: &[u8], missing_seq: u64) -> Answer<StreamId> {
    match parts(text) {
        Some((ms, Seq::Missing)) => Ok(StreamId { ms, seq: missing_seq }),
        Some((ms, Seq::Given(seq))) => Ok(StreamId { ms, seq }),
        Some((_, Seq::Auto)) | None => Err(INVALID),
    }
}

/// As [`strict`], or `-` for the lowest and `+` for the highest id.
pub fn any(text: &[u8], missing_seq: u64) -> Answer<StreamId> {
    match text {
        b"-" => Ok(StreamId::default()),
        b"+" => Ok(MAX),
        _ => strict(text, missing_seq),
    }
}

/// XADD's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    AutoSeq(u64),
    Given(StreamId),
}

pub fn new_id(text: &[u8]) -> Answer<NewId> {
    if text == b"*" {
        return Ok(NewId::Auto);
    }
    match parts(text).ok_or(INVALID)? {
        (ms, Seq::Auto) => Ok(NewId::AutoSeq(ms)),
        (ms, Seq::Missing) => Ok(NewId::Given(StreamId { ms, seq: 0 })),
        (ms, Seq::Given(seq)) => Ok(NewId::Given(StreamId { ms, seq })),
    }
}

/// The first id of a range; `(` excludes it.
pub fn range_start(text: &[u8]) -> Answer<StreamId> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => {
            strict(rest, 0)?.next().ok_or(Stop::error("ERR invalid start ID for the interval"))
        }
        _ => any(text, 0),
    }
}

/// The last id of a range; `(` excludes it.
pub fn range_end(text: &[u8]) -> Answer<StreamId> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => previous(strict(rest, u64::MAX)?)
            .ok_or(Stop::error("ERR invalid end ID for the interval")),
        _ => any(text, u64::MAX),
    }
}

fn previous(id: StreamId) -> Option<StreamId> {
    match id.seq.checked_sub(1) {
        Some(seq) => Some(StreamId { seq, ..id }),
        None => Some(StreamId { ms: id.ms.checked_sub(1)?, seq: u64::MAX }),
    }
}

enum Seq {
    Missing,
    Auto,
    Given(u64),
}

fn parts(text: &[u8]) -> Option<(u64, Seq)> {
    if text.len() > 127 {
        return None;
    }
    match text.iter().position(|byte| *byte == b'-') {
        None => Some((number(text)?, Seq::Missing)),
        Some(dash) => {
            let ms = number(&text[..dash])?;
            match &text[dash + 1..] {
                b"*" => Some((ms, Seq::Auto)),
                seq => Some((ms, Seq::Given(number(seq)?))),
            }
        }
    }
}

/// An unsigned number as `strtoull` reads it when the whole text has to be used.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii_start();
    let digits = text.strip_prefix('+').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()).then(|| digits.parse().ok())?
}
