//! `DUMP` payloads: type byte, body, RDB version (2 bytes), CRC64 (8 bytes), little endian.
//! Source: `cluster.c` of Redis 7.0 (`createDumpPayload`, `verifyDumpPayload`).

use bytes::{BufMut, Bytes, BytesMut};

use super::cursor::Cursor;
use super::encode::Encoder;
use super::error::{RdbError, RdbErrorKind};
use super::shape::{self, Scanner};
use super::types::*;
use super::{Object, crc64, value};

const FOOTER: usize = 10;

/// Decodes what `DUMP` answers and `RESTORE` takes. [`RdbError::restore_reply`] has the words in
/// which Redis refuses a bad one. Bytes between the value and the footer are ignored, as Redis does.
pub fn decode_dump(payload: &[u8]) -> Result<Object, RdbError> {
    let footer_at = payload.len().saturating_sub(FOOTER);
    let version = verify(payload)
        .ok_or(RdbError { offset: footer_at as u64, kind: RdbErrorKind::DumpFooter })?;
    decode_value(&payload[..footer_at], version).map_err(|kind| RdbError { offset: 0, kind })
}

/// The sources of the function libraries in what `FUNCTION DUMP` answers and `FUNCTION RESTORE`
/// takes.
pub fn decode_functions(payload: &[u8]) -> Result<Vec<Bytes>, RdbError> {
    let footer_at = payload.len().saturating_sub(FOOTER);
    let wrong = RdbError { offset: footer_at as u64, kind: RdbErrorKind::DumpFooter };
    verify(payload).ok_or(wrong)?;
    let mut cursor = Cursor::new(&payload[..footer_at], 0);
    let mut sources = Vec::new();
    while cursor.remaining() > 0 {
        let offset = cursor.at as u64;
        let source = match cursor.u8() {
            Ok(OP_FUNCTION2) => {
                cursor.string_copy().map_err(|fault| fault.at_end("a function library"))
            }
            Ok(OP_FUNCTION_PRE_GA) => Err(RdbErrorKind::PreReleaseFunction),
            Ok(other) => Err(RdbErrorKind::UnknownType(other)),
            Err(fault) => Err(fault.at_end("a function library")),
        };
        sources.push(source.map_err(|kind| RdbError { offset, kind })?);
    }
    Ok(sources)
}

/// What `FUNCTION DUMP` answers for these sources.
pub fn encode_functions<'a>(sources: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut encoder = Encoder::default();
    for source in sources {
        encoder.out.put_u8(OP_FUNCTION2);
        encoder.text(source);
    }
    seal(encoder.out, 10)
}

/// The RDB version of a payload whose footer is right.
fn verify(payload: &[u8]) -> Option<u16> {
    let (covered, crc) = payload.split_last_chunk::<8>()?;
    let (_, version) = covered.split_last_chunk::<2>()?;
    let version = u16::from_le_bytes(*version);
    let right =
        u32::from(version) <= MAX_VERSION && crc64::update(0, covered) == u64::from_le_bytes(*crc);
    right.then_some(version)
}

fn decode_value(value: &[u8], version: u16) -> Result<Object, RdbErrorKind> {
    let (&type_byte, body) = value.split_first().ok_or(RdbErrorKind::Truncated("the type byte"))?;
    let length = Scanner::new(shape::of_type(type_byte)?).scan(body)?;
    let body = length.and_then(|length| body.get(..length));
    let body = body.ok_or(RdbErrorKind::Truncated("a value"))?;
    value::decode(type_byte, &Bytes::copy_from_slice(body), version)
}

/// The `DUMP` payload of a value. Redis 7.0 and later restore all of them; Redis 5 and later all
/// but streams. What RDB 10 has no place for is left out: the active time of stream consumers.
pub fn encode_dump(object: &Object) -> Bytes {
    let version = if matches!(object, Object::Stream(_)) { 10 } else { 9 };
    let mut encoder = Encoder::default();
    let type_byte = match object {
        Object::Opaque { dump, .. } => return dump.clone(),
        Object::String(text) => {
            encoder.text(text);
            STRING
        }
        Object::List(items) => {
            encoder.texts(items);
            LIST
        }
        Object::Set(members) => {
            encoder.texts(members);
            SET
        }
        Object::ZSet(members) => {
            encoder.length(members.len() as u64);
            for (member, score) in members {
                encoder.text(member);
                encoder.out.put_f64_le(*score);
            }
            ZSET_2
        }
        Object::Hash(fields) => {
            encoder.length(fields.len() as u64);
            for (field, value) in fields {
                encoder.text(field);
                encoder.text(value);
            }
            HASH
        }
        Object::Stream(stream) => {
            encoder.stream(stream);
            STREAM_LISTPACKS_2
        }
    };
    seal_dump(type_byte, &encoder.out, version)
}

/// Makes a `DUMP` payload of a type byte and the body that an RDB file of `version` has behind it.
pub fn seal_dump(type_byte: u8, body: &[u8], version: u16) -> Bytes {
    let mut payload = BytesMut::with_capacity(1 + body.len() + FOOTER);
    payload.put_u8(type_byte);
    payload.put_slice(body);
    seal(payload, version)
}

fn seal(mut payload: BytesMut, version: u16) -> Bytes {
    payload.put_u16_le(version);
    let crc = crc64::update(0, &payload);
    payload.put_u64_le(crc);
    payload.freeze()
}
