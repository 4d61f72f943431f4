//! HyperLogLog, in the same bytes as Redis keeps it. Source:
//! <https://redis.io/commands/?group=hyperloglog> and `hyperloglog.c` of Redis 7.0.

mod count;
mod debug;
mod registers;

use bytes::Bytes;

use super::stop::{Answer, Reads, Stop};
use super::table::{Command, Footprint};
use super::{Call, Keyspace};
use crate::resp::Reply;
use registers::{Hll, REGISTERS};

pub const COMMANDS: &[Command] = &[
    Command { name: "pfadd", arity: -2, footprint: Footprint::Whole, run: pfadd },
    Command { name: "pfcount", arity: -2, footprint: Footprint::WholeKeys, run: pfcount },
    Command { name: "pfdebug", arity: 3, footprint: Footprint::None, run: debug::pfdebug },
    Command { name: "pfmerge", arity: -2, footprint: Footprint::WholeKeys, run: pfmerge },
];

const CORRUPTED: Stop = Stop::error("INVALIDOBJ Corrupted HLL object detected");

/// The value of a key, which has to be a HyperLogLog.
fn read(ks: &mut Keyspace, call: &Call<'_>, key: &Bytes) -> Answer<Option<Hll>> {
    let Some(content) = ks.string(call.db, key)? else { return Ok(None) };
    let hll = Hll::from_bytes(&content);
    let invalid = Stop::error("WRONGTYPE Key is not a valid HyperLogLog string value.");
    hll.map(Some).ok_or(invalid)
}

fn pfadd(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let old = read(ks, call, key)?;
    let mut updated = old.is_none();
    let (mut hll, mut raised) = (old.unwrap_or_default(), false);
    for element in &call.args[2..] {
        let (index, rank) = count::position(element);
        let Some(more) = hll.raise(index, rank) else {
            // Redis works in place: what came before is in it, in spite of the error.
            if raised {
                ks.update_string(call.db, key, hll.into_bytes())?;
            }
            return Err(CORRUPTED);
        };
        raised |= more;
    }
    updated |= raised;
    if updated {
        hll.forget_count();
        ks.update_string(call.db, key, hll.into_bytes())?;
    }
    Ok(Reply::Int(i64::from(updated)))
}

fn pfcount(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    if call.args.len() > 2 {
        let (merged, _) = union(ks, call)?;
        return Ok(Reply::Int(count::of_registers(&merged)));
    }
    let key = call.key()?;
    let Some(mut hll) = read(ks, call, key)? else { return Ok(Reply::Int(0)) };
    if let Some(known) = hll.known_count() {
        return Ok(Reply::Int(known));
    }
    let count = count::of_registers(&hll.registers().ok_or(CORRUPTED)?);
    hll.keep_count(count);
    ks.update_string(call.db, key, hll.into_bytes())?;
    Ok(Reply::Int(count))
}

/// The highest of each register over all keys of the call, and whether one of them is dense.
fn union(ks: &mut Keyspace, call: &Call<'_>) -> Answer<(Vec<u8>, bool)> {
    let mut reads = Reads::default();
    let (mut merged, mut dense) = (vec![0; REGISTERS], false);
    for key in &call.args[1..] {
        let registers = read(ks, call, key).and_then(|hll| {
            let Some(hll) = hll else { return Ok(None) };
            dense |= hll.is_dense();
            hll.registers().map(Some).ok_or(CORRUPTED)
        });
        let Some(registers) = reads.of(registers).flatten() else { continue };
        merged.iter_mut().zip(registers).for_each(|(high, one)| *high = one.max(*high));
    }
    reads.done().map(|()| (merged, dense))
}

fn pfmerge(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let (merged, dense) = union(ks, call)?;
    let mut hll = read(ks, call, key)?.unwrap_or_default();
    if dense {
        hll.make_dense().ok_or(CORRUPTED)?;
    }
    for (index, rank) in merged.into_iter().enumerate().filter(|(_, rank)| *rank > 0) {
        hll.raise(index, rank).ok_or(CORRUPTED)?;
    }
    hll.forget_count();
    ks.update_string(call.db, key, hll.into_bytes())?;
    Ok(Reply::OK)
}
