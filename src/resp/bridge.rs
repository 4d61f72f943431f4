//! The bridge to the `redis-protocol` crate: whole frames into [`Reply`] values, wherever a reply is
//! really looked into (handshake, `EXEC`, `HELLO`, administration).

use bytes::Bytes;
use redis_protocol::resp3::decode::complete::decode;
use redis_protocol::resp3::types::{OwnedFrame, VerbatimStringFormat};

use super::{Reply, ReplyScanner};

/// Deepest nesting handed to the decoder, which recurses.
const MAX_DEPTH: usize = 128;

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the frame is not complete")]
    Incomplete,
    #[error("not a RESP frame: {0}")]
    Invalid(String),
    #[error("a frame nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Decodes one complete RESP2 or RESP3 frame.
pub fn decode_reply(frame: &[u8]) -> Result<Reply, DecodeError> {
    let mut scanner = ReplyScanner::default();
    let (_, done) = scanner.feed(frame).map_err(|e| DecodeError::Invalid(e.to_string()))?;
    if !done {
        return Err(DecodeError::Incomplete);
    }
    // Every level of nesting costs an aggregate header; fewer headers cannot nest deeper.
    if scanner.aggregates() > MAX_DEPTH && depth(frame) > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    // The RESP2 nils are not part of RESP3.
    match frame {
        b"$-1\r\n" => return Ok(Reply::Nil),
        b"*-1\r\n" => return Ok(Reply::NilArray),
        _ => {}
    }
    let resp2 = redis_protocol::resp2::decode::decode(frame);
    if let Ok(Some((frame, _))) = resp2 {
        return Ok(from_resp2(frame));
    }
    let decoded = decode(frame).map_err(|e| DecodeError::Invalid(e.to_string()))?;
    decoded.map(|(frame, _)| from_resp3(frame)).ok_or(DecodeError::Incomplete)
}

/// Nesting depth of a complete frame, found without recursion.
fn depth(frame: &[u8]) -> usize {
    let (mut open, mut deepest, mut at) = (Vec::<u64>::new(), 0, 0);
    while at < frame.len() {
        let Some(end) = memchr::memchr(b'\n', &frame[at..]) else { break };
        let line = &frame[at + 1..at + end];
        let number = std::str::from_utf8(line).ok().and_then(|t| t.trim_end().parse::<i64>().ok());
        let count = u64::try_from(number.unwrap_or(0)).unwrap_or(0);
        let children = match frame[at] {
            b'*' | b'~' | b'>' => count,
            b'%' => count.saturating_mul(2),
            // An attribute is followed by the value that it belongs to.
            b'|' => count.saturating_mul(2) + 1,
            _ => 0,
        };
        at += end + 1;
        if matches!(frame[at - end - 1], b'$' | b'=' | b'!') && number.is_some_and(|n| n >= 0) {
            at = at.saturating_add(count as usize + 2);
        }
        if children > 0 {
            open.push(children);
            deepest = deepest.max(open.len());
            continue;
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
    }
    deepest
}

fn from_resp2(frame: redis_protocol::resp2::types::OwnedFrame) -> Reply {
    use redis_protocol::resp2::types::OwnedFrame as Frame;
    match frame {
        Frame::SimpleString(bytes) => Reply::Simple(lossy(&bytes).into()),
        Frame::Error(text) => Reply::Error(text.into()),
        Frame::Integer(n) => Reply::Int(n),
        Frame::BulkString(bytes) => Reply::Bulk(bytes.into()),
        Frame::Array(items) => Reply::Array(items.into_iter().map(from_resp2).collect()),
        Frame::Null => Reply::Nil,
    }
}

fn from_resp3(frame: OwnedFrame) -> Reply {
    let list = |items: Vec<OwnedFrame>| items.into_iter().map(from_resp3).collect();
    match frame {
        OwnedFrame::BlobString { data, .. } => Reply::Bulk(data.into()),
        OwnedFrame::BlobError { data, .. } => Reply::Error(lossy(&data).into()),
        OwnedFrame::SimpleString { data, .. } => Reply::Simple(lossy(&data).into()),
        OwnedFrame::SimpleError { data, .. } => Reply::Error(data.into()),
        OwnedFrame::Boolean { data, .. } => Reply::Bool(data),
        OwnedFrame::Null => Reply::Nil,
        OwnedFrame::Number { data, .. } => Reply::Int(data),
        OwnedFrame::Double { data, .. } => Reply::Double(data),
        OwnedFrame::BigNumber { data, .. } => Reply::BigNumber(data.into()),
        OwnedFrame::VerbatimString { data, format, .. } => {
            let format = match format {
                VerbatimStringFormat::Text => "txt",
                VerbatimStringFormat::Markdown => "mkd",
            };
            Reply::Verbatim(format.into(), data.into())
        }
        OwnedFrame::Array { data, .. } => Reply::Array(list(data)),
        OwnedFrame::Push { data, .. } => Reply::Push(list(data)),
        OwnedFrame::Set { data, .. } => Reply::Set(data.into_iter().map(from_resp3).collect()),
        OwnedFrame::Map { data, .. } => {
            // The decoder builds a map from its last pair to its first.
            let pairs = data.into_iter().rev();
            Reply::Map(pairs.map(|(key, value)| (from_resp3(key), from_resp3(value))).collect())
        }
        OwnedFrame::Hello { .. } | OwnedFrame::ChunkedString(_) => Reply::Bulk(Bytes::new()),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_nesting_is_refused_before_the_decoder_recurses() {
        let mut frame = b"*1\r\n".repeat(100_000);
        frame.extend_from_slice(b":1\r\n");
        assert!(matches!(decode_reply(&frame), Err(DecodeError::TooDeep)));
        let mut wide = format!("*{}\r\n", 1000).into_bytes();
        wide.extend(b"*1\r\n:1\r\n".repeat(1000));
        assert!(matches!(decode_reply(&wide), Ok(Reply::Array(items)) if items.len() == 1000));
    }

    #[test]
    fn sets_and_maps_keep_the_order_of_the_wire() {
        let numbers: String = (0..100).map(|n| format!(":{}\r\n", n * 7919 % 100)).collect();
        for (head, count) in [('~', 100), ('%', 50)] {
            let frame = format!("{head}{count}\r\n{numbers}").into_bytes();
            let reply = decode_reply(&frame).expect("valid");
            let mut again = Vec::new();
            crate::resp::encode(&reply, crate::resp::Protocol::Resp3, &mut again);
            assert_eq!(again, frame);
        }
    }

    #[test]
    fn nils_inside_resp2_arrays() {
        let reply = decode_reply(b"*2\r\n$-1\r\n:7\r\n").expect("valid");
        assert_eq!(reply, Reply::Array(vec![Reply::Nil, Reply::Int(7)]));
    }
}
