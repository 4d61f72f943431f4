//! One command of the replication stream as a record of the spool.
//!
//! Layout, little-endian: `u32` length of the body, `u32` CRC32 of the body, then the body:
//! `i64` end offset, `i64` time of receipt (Unix ms), `u32` argument count, and each argument as
//! `u32` length and bytes.

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::mirror::log::Received;

/// A record's body is never longer than this: a command has at most 1 GiB of arguments on the wire.
const MAX_BODY: u32 = 2 << 30;

pub(super) fn encode(command: &Received, out: &mut BytesMut) -> Result<(), super::SpoolError> {
    let body: usize = 20 + command.args.iter().map(|arg| 4 + arg.len()).sum::<usize>();
    let length =
        u32::try_from(body).ok().filter(|n| *n <= MAX_BODY).ok_or(super::SpoolError::TooLong)?;
    out.reserve(body + 8);
    let start = out.len() + 8;
    out.put_u32_le(length);
    out.put_u32_le(0);
    out.put_i64_le(command.end_offset);
    out.put_i64_le(command.at_ms);
    out.put_u32_le(command.args.len() as u32);
    for arg in &command.args {
        out.put_u32_le(arg.len() as u32);
        out.put_slice(arg);
    }
    let crc = crc32fast::hash(&out[start..]);
    out[start - 4..start].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// The next record; `None` at a clean end or at a record that was cut off or damaged: what follows
/// one cannot be trusted.
pub(super) fn read(reader: &mut impl Read) -> io::Result<Option<Received>> {
    let mut header = [0u8; 8];
    if !fill(reader, &mut header)? {
        return Ok(None);
    }
    let mut head = &header[..];
    let (length, crc) = (head.get_u32_le(), head.get_u32_le());
    if !(20..=MAX_BODY).contains(&length) {
        return Ok(None);
    }
    let mut body = Vec::new();
    reader.by_ref().take(length.into()).read_to_end(&mut body)?;
    if body.len() != length as usize || crc32fast::hash(&body) != crc {
        return Ok(None);
    }
    Ok(decode(Bytes::from(body)))
}

fn decode(mut body: Bytes) -> Option<Received> {
    let (end_offset, at_ms, count) = (body.get_i64_le(), body.get_i64_le(), body.get_u32_le());
    let mut args = Vec::with_capacity((count as usize).min(body.len() / 4));
    for _ in 0..count {
        if body.len() < 4 {
            return None;
        }
        let length = body.get_u32_le() as usize;
        if body.len() < length {
            return None;
        }
        args.push(body.split_to(length));
    }
    Some(Received { args, end_offset, at_ms })
}

/// Fills the buffer; false when the input ends before it is full.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
