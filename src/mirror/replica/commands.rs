//! The command stream: arrays of bulk strings, cut out of the read buffer without copying.

use bytes::{Buf, BytesMut};
use smallvec::SmallVec;

use super::error::ReplicaError;
use super::event::{Args, Command};

/// Longest header line, `*` or `$` with its number and line end.
const MAX_HEADER: usize = 24;

/// Cuts commands and counts offsets. What has been parsed of a command that is not complete yet is
/// kept, so that each byte is looked at once.
#[derive(Debug)]
pub(super) struct CommandParser {
    /// Replication offset of the first byte of the input.
    offset: i64,
    /// Words still to come; `None` before the command's header.
    missing: Option<u64>,
    /// Where parsing goes on in the input.
    at: usize,
    /// Start and end of the words parsed so far.
    words: SmallVec<[(usize, usize); 8]>,
}

impl CommandParser {
    pub fn new(offset: i64) -> CommandParser {
        CommandParser { offset, missing: None, at: 0, words: SmallVec::new() }
    }

    /// The next command; `None` when it is not complete in `input`.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Command>, ReplicaError> {
        loop {
            match self.parse(input) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(problem) => {
                    return Err(ReplicaError::Protocol { offset: self.offset, problem });
                }
            }
            let length = self.at;
            let words = std::mem::take(&mut self.words);
            (self.at, self.missing) = (0, None);
            self.offset += length as i64;
            if words.is_empty() {
                input.advance(length);
                continue;
            }
            let whole = input.split_to(length).freeze();
            let args: Args = words.iter().map(|&(start, end)| whole.slice(start..end)).collect();
            return Ok(Some(Command { args, end_offset: self.offset }));
        }
    }

    /// True when a command is complete in `input[..self.at]`.
    fn parse(&mut self, input: &[u8]) -> Result<bool, String> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => {
                // A bare newline is a keep-alive, and its bytes count.
                if input.first().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                    self.at = 1;
                    return Ok(true);
                }
                let Some((count, at)) = header(input, 0, b'*')? else { return Ok(false) };
                self.at = at;
                count
            }
        };
        while missing > 0 {
            self.missing = Some(missing);
            let Some((length, start)) = header(input, self.at, b'$')? else { return Ok(false) };
            let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
            let end = end.ok_or("a bulk string of impossible length")?;
            // The line end counts too, so that a command is complete or not as a whole.
            if input.len() < end.saturating_add(2) {
                return Ok(false);
            }
            if input[end..end + 2] != *b"\r\n" {
                return Err("a bulk string is not followed by a line end".into());
            }
            self.words.push((start, end));
            self.at = end + 2;
            missing -= 1;
        }
        self.missing = Some(0);
        Ok(true)
    }
}

/// The number in a header line at `at`, and where the line ends.
fn header(input: &[u8], at: usize, mark: u8) -> Result<Option<(u64, usize)>, String> {
    let Some(line) = input.get(at..) else { return Ok(None) };
    let Some((&first, digits)) = line.split_first() else { return Ok(None) };
    if first != mark {
        return Err(format!("expected {:?}, got {:?}", char::from(mark), char::from(first)));
    }
    let mut number = 0u64;
    for (index, &byte) in digits.iter().enumerate().take(MAX_HEADER - 3) {
        match byte {
            b'0'..=b'9' => {
                number = number
                    .checked_mul(10)
                    .and_then(|n| n.checked_add(u64::from(byte - b'0')))
                    .ok_or("a number is too large")?;
            }
            b'\r' if index > 0 => {
                return match digits.get(index + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((number, at + index + 3))),
                    Some(_) => Err("a header line without line feed".into()),
                };
            }
            _ => return Err("a header line that is not a number".into()),
        }
    }
    if digits.len() >= MAX_HEADER - 3 { Err("a header line without end".into()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::super::handshake::command;
    use super::*;

    fn drain(parser: &mut CommandParser, input: &mut BytesMut) -> Vec<Command> {
        std::iter::from_fn(|| parser.next(input).expect("well formed")).collect()
    }

    #[test]
    fn every_split_gives_the_same_commands_and_offsets() {
        let mut stream = command(&[b"SET", b"k", b"a\r\nb"]);
        stream.extend_from_slice(b"\n");
        let first = stream.len() as i64;
        stream.extend(command(&[b"PING"]));
        stream.extend(command(&[b"DEL", b""]));
        let mut whole = BytesMut::from(&stream[..]);
        let expected = drain(&mut CommandParser::new(100), &mut whole);
        assert_eq!(expected.len(), 3);
        assert_eq!(expected[0].end_offset, 100 + first - 1);
        assert_eq!(expected[0].args[2], "a\r\nb");
        assert_eq!(expected[2].end_offset, 100 + stream.len() as i64);
        for split in 0..stream.len() {
            let (mut parser, mut input) = (CommandParser::new(100), BytesMut::new());
            let mut commands = Vec::new();
            for part in [&stream[..split], &stream[split..]] {
                input.extend_from_slice(part);
                commands.extend(drain(&mut parser, &mut input));
            }
            assert_eq!(commands, expected, "split at {split}");
        }
        let (mut parser, mut input) = (CommandParser::new(100), BytesMut::new());
        let mut commands = Vec::new();
        for byte in &stream {
            input.extend_from_slice(&[*byte]);
            commands.extend(drain(&mut parser, &mut input));
        }
        assert_eq!(commands, expected);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for bad in [
            "+OK\r\n",
            "*x\r\n",
            "*1\r\n+a\r\n",
            "*1\r\n$1\r\nab\r\n",
            "*-1\r\n",
            "*99999999999999999999999999\r\n",
            "*1\r\n$18446744073709551615\r\n",
            "*\r\n",
            "*1\rx",
        ] {
            let mut input = BytesMut::from(bad.as_bytes());
            let error = CommandParser::new(5).next(&mut input).expect_err(bad);
            assert!(error.to_string().contains("offset 5"), "{error}");
        }
        let mut input = BytesMut::from(&b"*1\r\n$4294967296\r\nabc"[..]);
        assert_eq!(CommandParser::new(0).next(&mut input).expect("only waits"), None);
        assert!(input.capacity() < 1024, "nothing is reserved for what has not arrived");
    }
}
