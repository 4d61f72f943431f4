//! The transfer of a snapshot: `$<length>` and that many bytes (from disk), or `$EOF:<mark>`, the RDB
//! and the mark again (diskless); before it newlines while Redis prepares it.

use bytes::{Buf, BytesMut};

use super::error::ReplicaError;
use crate::rdb::{Decoder, Item};

const MARK: usize = 40;
const MAX_HEADER: usize = 64;

/// Takes a snapshot out of the read buffer.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Replication offset of the snapshot, for errors.
    offset: i64,
    decoder: Decoder,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    /// The header has not come.
    Unknown,
    /// Bytes still to come.
    Length(u64),
    Mark([u8; MARK]),
}

/// What [`Transfer::next`] has found.
#[derive(Debug)]
pub(super) enum Progress {
    Item(Item),
    /// More bytes are needed.
    Wait,
    /// The snapshot and its framing are complete; the command stream follows in the buffer.
    Complete,
}

impl Transfer {
    pub fn new(offset: i64) -> Transfer {
        Transfer { offset, decoder: Decoder::new(), framing: Framing::Unknown }
    }

    pub fn next(&mut self, input: &mut BytesMut) -> Result<Progress, ReplicaError> {
        if let Framing::Unknown = self.framing {
            match self.header(input)? {
                Some(framing) => self.framing = framing,
                None => return Ok(Progress::Wait),
            }
        }
        loop {
            if let Some(item) = self.decoder.next()? {
                return Ok(Progress::Item(item));
            }
            if self.decoder.is_done() {
                return self.trailer(input);
            }
            let available = match &mut self.framing {
                Framing::Length(0) => {
                    self.decoder.finish()?;
                    return Ok(Progress::Wait);
                }
                Framing::Length(left) => {
                    let available = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= available as u64;
                    available
                }
                _ => input.len(),
            };
            if available == 0 {
                return Ok(Progress::Wait);
            }
            self.decoder.push(&input[..available]);
            input.advance(available);
        }
    }

    fn header(&self, input: &mut BytesMut) -> Result<Option<Framing>, ReplicaError> {
        while input.first() == Some(&b'\n') {
            input.advance(1);
        }
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > MAX_HEADER {
                Err(self.wrong("the snapshot's header has no end".into()))
            } else {
                Ok(None)
            };
        };
        let line = input.split_to(end + 1);
        let line = line.trim_ascii_end();
        if let Some(error) = line.strip_prefix(b"-") {
            return Err(ReplicaError::NotReady(String::from_utf8_lossy(error).into_owned()));
        }
        let framing = if let Some(mark) = line.strip_prefix(b"$EOF:") {
            mark.try_into().ok().map(Framing::Mark)
        } else {
            let digits = line.strip_prefix(b"$").and_then(|d| std::str::from_utf8(d).ok());
            digits.and_then(|digits| digits.parse().ok()).map(Framing::Length)
        };
        let shown = || String::from_utf8_lossy(line).into_owned();
        framing
            .map(Some)
            .ok_or_else(|| self.wrong(format!("{:?} is no header of a snapshot", shown())))
    }

    /// The RDB is complete: checks what its framing has behind it.
    fn trailer(&mut self, input: &mut BytesMut) -> Result<Progress, ReplicaError> {
        let mut rest = self.decoder.take_rest();
        match &self.framing {
            Framing::Mark(mark) => {
                if !rest.is_empty() {
                    rest.unsplit(std::mem::take(input));
                    *input = rest;
                }
                if input.len() < MARK {
                    return Ok(Progress::Wait);
                }
                if input[..MARK] != *mark {
                    return Err(self.wrong("the snapshot is not followed by its mark".into()));
                }
                input.advance(MARK);
                Ok(Progress::Complete)
            }
            Framing::Length(0) if rest.is_empty() => Ok(Progress::Complete),
            _ => Err(self.wrong("the snapshot ends before the length that was announced".into())),
        }
    }

    fn wrong(&self, problem: String) -> ReplicaError {
        ReplicaError::Protocol { offset: self.offset, problem }
    }
}
