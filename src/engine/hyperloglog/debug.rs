//! `PFDEBUG`, which shows how a HyperLogLog is kept. Source: `hyperloglog.c` of Redis 7.0.

use super::{CORRUPTED, read};
use crate::engine::stop::{Answer, Stop, shown};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

pub fn pfdebug(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (sub, key) = (call.arg(1)?, call.arg(2)?);
    let hll = read(ks, call, key)?;
    let mut hll = hll.ok_or(Stop::error("ERR The specified key does not exist"))?;
    match sub.to_ascii_lowercase().as_slice() {
        b"getreg" => {
            let registers = hll.registers().ok_or(CORRUPTED)?;
            if !hll.is_dense() {
                hll.make_dense().ok_or(CORRUPTED)?;
                ks.update_string(call.db, key, hll.into_bytes())?;
            }
            let registers = registers.into_iter().map(|rank| Reply::Int(rank.into()));
            Ok(Reply::Array(registers.collect()))
        }
        b"decode" if hll.is_dense() => Err(Stop::error("ERR HLL encoding is not sparse")),
        b"decode" => Ok(Reply::Bulk(hll.runs().ok_or(CORRUPTED)?.into())),
        b"encoding" => Ok(Reply::Simple(if hll.is_dense() { "dense" } else { "sparse" }.into())),
        b"todense" => {
            let converted = !hll.is_dense();
            if converted {
                hll.make_dense().ok_or(CORRUPTED)?;
                ks.update_string(call.db, key, hll.into_bytes())?;
            }
            Ok(Reply::Int(converted.into()))
        }
        _ => Err(Stop::failed(format!("ERR Unknown PFDEBUG subcommand '{}'", shown(sub)))),
    }
}
