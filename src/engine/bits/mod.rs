//! Bit operations on strings. Source: <https://redis.io/commands/?group=bitmap>, replies as Redis 7.0.

mod field;
mod search;

use bytes::{Bytes, BytesMut};

use super::number::parse_int;
use super::stop::{Answer, Reads, Stop};
use super::strings::MAX_LEN;
use super::table::{Command, Footprint};
use super::{Call, Keyspace};
use crate::resp::Reply;

const WHOLE: Footprint = Footprint::Whole;

pub const COMMANDS: &[Command] = &[
    Command { name: "setbit", arity: 4, footprint: WHOLE, run: setbit },
    Command { name: "getbit", arity: 3, footprint: WHOLE, run: getbit },
    Command { name: "bitop", arity: -4, footprint: Footprint::None, run: bitop },
    Command { name: "bitcount", arity: -2, footprint: WHOLE, run: search::bitcount },
    Command { name: "bitpos", arity: -3, footprint: WHOLE, run: search::bitpos },
    Command { name: "bitfield", arity: -2, footprint: WHOLE, run: field::bitfield },
    Command { name: "bitfield_ro", arity: -2, footprint: WHOLE, run: field::bitfield_ro },
];

/// A bit's position, the highest bit of the first byte being 0.
fn offset(call: &Call<'_>, text: &[u8], unit: i64) -> Answer<u64> {
    let fault = Stop::error("ERR bit offset is not an integer or out of range");
    let Some(offset) = parse_int(text).map(|offset| offset.wrapping_mul(unit)) else {
        return Err(fault);
    };
    let offset = u64::try_from(offset).map_err(|_| fault.clone())?;
    if !call.from_log && offset >> 3 >= MAX_LEN {
        return Err(fault);
    }
    Ok(offset)
}

/// The content, long enough that the bit at `highest` is in it.
fn grown(content: &[u8], highest: u64) -> Answer<BytesMut> {
    let len = usize::try_from(highest >> 3)
        .ok()
        .and_then(|byte| byte.checked_add(1))
        .ok_or(Stop::error("ERR bit offset is not an integer or out of range"))?;
    let mut grown = BytesMut::with_capacity(len.max(content.len()));
    grown.extend_from_slice(content);
    if grown.len() < len {
        grown.resize(len, 0);
    }
    Ok(grown)
}

fn bit_at(content: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset >> 3).ok().and_then(|byte| content.get(byte));
    byte.is_some_and(|byte| byte >> (7 - (offset & 7)) & 1 == 1)
}

fn setbit(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let offset = offset(call, call.arg(2)?, 1)?;
    let on = match parse_int(call.arg(3)?) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Stop::error("ERR bit is not an integer or out of range")),
    };
    let old = ks.string(call.db, key)?;
    let content = old.as_deref().unwrap_or_default();
    let was = bit_at(content, offset);
    let long_enough = old.is_some() && offset >> 3 < content.len() as u64;
    if !long_enough || was != on {
        let mut content = grown(content, offset)?;
        let mask = 1 << (7 - (offset & 7));
        let byte = &mut content[(offset >> 3) as usize];
        *byte = if on { *byte | mask } else { *byte & !mask };
        ks.update_string(call.db, key, content.freeze())?;
    }
    Ok(Reply::Int(i64::from(was)))
}

fn getbit(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let offset = offset(call, call.arg(2)?, 1)?;
    let content = ks.string(call.db, call.key()?)?.unwrap_or_default();
    Ok(Reply::Int(i64::from(bit_at(&content, offset))))
}

fn bitop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let name = call.arg(1)?.to_ascii_lowercase();
    let (target, sources) = (call.arg(2)?, &call.args[3..]);
    let combine: fn(u8, u8) -> u8 = match name.as_slice() {
        b"and" => |a, b| a & b,
        b"or" => |a, b| a | b,
        b"xor" => |a, b| a ^ b,
        b"not" if sources.len() == 1 => |a, _| a,
        b"not" => {
            return Err(Stop::error("ERR BITOP NOT must be called with a single source key."));
        }
        _ => return Err(Stop::SYNTAX),
    };
    let mut reads = Reads::default();
    let mut contents: Vec<Bytes> = Vec::with_capacity(sources.len());
    for source in sources {
        contents.push(reads.of(ks.string(call.db, source)).flatten().unwrap_or_default());
    }
    reads.of(ks.kind(call.db, target));
    reads.done()?;
    let len = contents.iter().map(Bytes::len).max().unwrap_or(0);
    if len == 0 {
        ks.remove(call.db, target)?;
        return Ok(Reply::Int(0));
    }
    let mut result = BytesMut::zeroed(len);
    let (first, others) = contents.split_first().ok_or(Stop::SYNTAX)?;
    result[..first.len()].copy_from_slice(first);
    for other in others {
        let (both, alone) = result.split_at_mut(other.len());
        both.iter_mut().zip(other).for_each(|(a, b)| *a = combine(*a, *b));
        alone.iter_mut().for_each(|a| *a = combine(*a, 0));
    }
    if name == b"not" {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    ks.set_string(call.db, target, result.freeze(), None)?;
    Ok(Reply::Int(len as i64))
}
