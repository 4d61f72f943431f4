use bytes::Bytes;

use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

/// True for `BIT`, false for `BYTE`.
fn in_bits(unit: &Bytes) -> Answer<bool> {
    match unit.to_ascii_lowercase().as_slice() {
        b"bit" => Ok(true),
        b"byte" => Ok(false),
        _ => Err(Stop::SYNTAX),
    }
}

/// The bits from `start` to `end`, both included and in bits or bytes, negative ones counting from
/// the end: first bit, and the bit behind the last one. `None`: there are none.
fn bits(start: i64, end: i64, by_bit: bool, len: usize) -> Option<(u64, u64)> {
    let total = if by_bit { len as i64 * 8 } else { len as i64 };
    let from_end = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(total - 1));
    if start > end {
        return None;
    }
    let scale = if by_bit { 1 } else { 8 };
    Some((start.unsigned_abs() * scale, (end.unsigned_abs() + 1) * scale))
}

pub fn bitcount(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let Some(content) = ks.string(call.db, call.key()?)? else { return Ok(Reply::Int(0)) };
    let range = match &call.args[2..] {
        [] => bits(0, -1, false, content.len()),
        [start, end, unit @ ..] if unit.len() <= 1 => {
            let (start, end) = (int(start)?, int(end)?);
            if start < 0 && end < 0 && start > end {
                return Ok(Reply::Int(0));
            }
            let by_bit = unit.first().map_or(Ok(false), in_bits)?;
            bits(start, end, by_bit, content.len())
        }
        _ => return Err(Stop::SYNTAX),
    };
    let count = range.map_or(0, |(start, end)| {
        let bytes = &content[(start / 8) as usize..end.div_ceil(8) as usize];
        let count: u64 = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
        // What the first and the last byte have outside of the range.
        let before = bytes.first().map_or(0, |byte| masked(*byte, !(0xff >> (start % 8))));
        let behind = match end % 8 {
            0 => 0,
            used => bytes.last().map_or(0, |byte| masked(*byte, 0xff >> used)),
        };
        count - before - behind
    });
    Ok(Reply::Int(count as i64))
}

fn masked(byte: u8, mask: u8) -> u64 {
    u64::from((byte & mask).count_ones())
}

pub fn bitpos(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let bit = match int(call.arg(2)?)? {
        0 => false,
        1 => true,
        _ => return Err(Stop::error("ERR The bit argument must be 1 or 0.")),
    };
    let Some(content) = ks.string(call.db, call.key()?)? else {
        return Ok(Reply::Int(if bit { -1 } else { 0 }));
    };
    let (range, end_given) = match &call.args[3..] {
        [] => (bits(0, -1, false, content.len()), false),
        [start] => (bits(int(start)?, -1, false, content.len()), false),
        [start, end] => (bits(int(start)?, int(end)?, false, content.len()), true),
        [start, end, unit] => {
            let start = int(start)?;
            let by_bit = in_bits(unit)?;
            (bits(start, int(end)?, by_bit, content.len()), true)
        }
        _ => return Err(Stop::SYNTAX),
    };
    let Some((start, end)) = range else { return Ok(Reply::Int(-1)) };
    Ok(Reply::Int(match first(&content, bit, start, end) {
        Some(at) => at as i64,
        // Behind the string there are only zeros.
        None if !bit && !end_given => content.len() as i64 * 8,
        None => -1,
    }))
}

/// The first bit of this value in a range of bits.
fn first(content: &[u8], bit: bool, start: u64, end: u64) -> Option<u64> {
    let uniform = if bit { 0 } else { 0xff };
    let mut at = start;
    while at < end {
        let byte = content[(at / 8) as usize];
        if at.is_multiple_of(8) && byte == uniform {
            at += 8;
            continue;
        }
        if super::bit_at(content, at) == bit {
            return Some(at);
        }
        at += 1;
    }
    None
}
