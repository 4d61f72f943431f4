use super::{encode_error, split_arguments};
use crate::config::Limits;

/// A request that Redis would refuse before looking at the command; it answers
/// `-ERR Protocol error: …` and closes the connection (`networking.c`, 7.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("Protocol error: too big inline request")]
    BigInline,
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    #[error("Protocol error: too big mbulk count string")]
    BigCount,
    #[error("Protocol error: invalid multibulk length")]
    Count,
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedCount,
    #[error("Protocol error: too big bulk count string")]
    BigLength,
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    Dollar(u8),
    #[error("Protocol error: invalid bulk length")]
    Length,
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedLength,
}

impl ProtocolError {
    /// Appends the reply that the client gets; an unexpected byte goes out as it came.
    pub fn push_reply(self, out: &mut Vec<u8>) {
        match self {
            ProtocolError::Dollar(byte) if !byte.is_ascii() => {
                out.extend_from_slice(b"-ERR Protocol error: expected '$', got '");
                out.push(byte);
                out.extend_from_slice(b"'\r\n");
            }
            other => encode_error(&format!("ERR {other}"), out),
        }
    }
}

/// The limits that a request is held to. Sizes in bytes, counts in arguments.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    pub count: usize,
    pub bulk: usize,
    pub inline: usize,
    pub unauthenticated_count: usize,
    pub unauthenticated_bulk: usize,
}

impl From<&Limits> for RequestLimits {
    fn from(limits: &Limits) -> RequestLimits {
        RequestLimits {
            count: limits.max_array,
            bulk: limits.max_bulk,
            inline: limits.max_inline,
            unauthenticated_count: limits.unauthenticated_array,
            unauthenticated_bulk: limits.unauthenticated_bulk,
        }
    }
}

/// What the front of the buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// Not a whole request yet.
    Incomplete,
    /// A request of this many bytes; its arguments are in [`RequestScanner::arguments`].
    Command(usize),
    /// An inline request of this many bytes, split into its words.
    Inline(usize, Vec<Vec<u8>>),
    /// This many bytes that ask for nothing: an empty line or an empty array.
    Nothing(usize),
}

/// Finds where a request ends and where its arguments lie, without copying. Keeps its place in a
/// request that arrives in pieces, so each byte is looked at once.
#[derive(Debug, Default)]
pub struct RequestScanner {
    arguments: Vec<(u32, u32)>,
    /// Arguments still to come; 0 at the start of a request.
    left: usize,
    at: usize,
    /// Length of the bulk that is awaited, once its header has been read.
    bulk: Option<usize>,
}

impl RequestScanner {
    /// Looks at the request at the front of `buffer`, which must start with the same bytes as in the
    /// last call when that was `Incomplete`. `trusted` is false before authentication.
    pub fn scan(
        &mut self,
        buffer: &[u8],
        limits: &RequestLimits,
        trusted: bool,
    ) -> Result<Scan, ProtocolError> {
        if self.left == 0 {
            match buffer.first() {
                None => return Ok(Scan::Incomplete),
                Some(b'*') => {}
                Some(_) => return self.inline(buffer, limits),
            }
            self.arguments.clear();
            let Some((line, end)) = header(buffer, 1) else {
                return too_long(buffer.len(), limits, ProtocolError::BigCount);
            };
            let Some(count) = strict_number(line) else {
                return endless(line, buffer, limits, ProtocolError::BigCount)
                    .unwrap_or(Err(ProtocolError::Count));
            };
            if count <= 0 {
                return Ok(Scan::Nothing(end));
            }
            let count = usize::try_from(count).map_err(|_| ProtocolError::Count)?;
            if count > limits.count {
                return Err(ProtocolError::Count);
            }
            if count > limits.unauthenticated_count && !trusted {
                return Err(ProtocolError::UnauthenticatedCount);
            }
            (self.left, self.at, self.bulk) = (count, end, None);
        }
        while self.left > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => match self.bulk_header(buffer, limits, trusted)? {
                    Some(length) => length,
                    None => return Ok(Scan::Incomplete),
                },
            };
            if buffer.len() - self.at < length + 2 {
                self.bulk = Some(length);
                return Ok(Scan::Incomplete);
            }
            self.arguments.push((self.at as u32, (self.at + length) as u32));
            self.at += length + 2;
            self.bulk = None;
            self.left -= 1;
        }
        Ok(Scan::Command(self.at))
    }

    /// Start and end of each argument of the last complete command, from the request's first byte.
    pub fn arguments(&self) -> &[(u32, u32)] {
        &self.arguments
    }

    /// Takes the arguments out, to be given back with [`RequestScanner::recycle`].
    pub fn take_arguments(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.arguments)
    }

    /// Takes back the memory of arguments that are done with.
    pub fn recycle(&mut self, arguments: Vec<(u32, u32)>) {
        if arguments.capacity() <= 1024 {
            self.arguments = arguments;
        }
    }

    /// Bytes of the bulk that is being waited for, so that a buffer can grow once.
    pub fn awaited(&self) -> usize {
        self.bulk.map_or(0, |length| length + 2)
    }

    fn bulk_header(
        &mut self,
        buffer: &[u8],
        limits: &RequestLimits,
        trusted: bool,
    ) -> Result<Option<usize>, ProtocolError> {
        let rest = &buffer[self.at..];
        let Some((line, end)) = header(rest, 1) else {
            return too_long(rest.len(), limits, ProtocolError::BigLength).map(|_| None);
        };
        let length = strict_number(line).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|&l| l <= limits.bulk && rest[0] == b'$');
        let Some(length) = length else {
            let error = match rest[0] {
                b'$' => ProtocolError::Length,
                other => ProtocolError::Dollar(other),
            };
            return endless(&rest[..end], rest, limits, ProtocolError::BigLength)
                .unwrap_or(Err(error))
                .map(|_| None);
        };
        if length > limits.unauthenticated_bulk && !trusted {
            return Err(ProtocolError::UnauthenticatedLength);
        }
        self.at += end;
        if self.at + length + 2 > u32::MAX as usize {
            return Err(ProtocolError::Length);
        }
        Ok(Some(length))
    }

    fn inline(&mut self, buffer: &[u8], limits: &RequestLimits) -> Result<Scan, ProtocolError> {
        // A zero byte hides what comes behind it, here too.
        let newline = memchr::memchr2(b'\n', 0, buffer).filter(|&at| buffer[at] == b'\n');
        let Some(newline) = newline else {
            return too_long(buffer.len(), limits, ProtocolError::BigInline);
        };
        let line = &buffer[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = split_arguments(line).ok_or(ProtocolError::Quotes)?;
        if words.is_empty() {
            return Ok(Scan::Nothing(newline + 1));
        }
        Ok(Scan::Inline(newline + 1, words))
    }
}

/// The text between `from` and the carriage return, and where the next line starts. As Redis does,
/// the byte behind the carriage return is not looked at.
fn header(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    // Length headers are a few bytes long: a plain loop finds their end soonest.
    let near = bytes.len().min(16);
    let end = match bytes[..near].iter().position(|&b| b == b'\r') {
        Some(end) => end,
        None => near + memchr::memchr(b'\r', &bytes[near..])?,
    };
    (end + 2 <= bytes.len()).then(|| (bytes.get(from..end).unwrap_or_default(), end + 2))
}

/// Redis looks for the end of a header as in a C string: behind a zero byte there is none.
fn endless(
    header: &[u8],
    buffer: &[u8],
    limits: &RequestLimits,
    error: ProtocolError,
) -> Option<Result<Scan, ProtocolError>> {
    header.contains(&0).then(|| too_long(buffer.len(), limits, error))
}

fn too_long(
    length: usize,
    limits: &RequestLimits,
    error: ProtocolError,
) -> Result<Scan, ProtocolError> {
    if length > limits.inline { Err(error) } else { Ok(Scan::Incomplete) }
}

/// A decimal number as `string2ll` takes it: no plus sign, no leading zeros, no blanks.
pub fn strict_number(text: &[u8]) -> Option<i64> {
    match text {
        [b'0'] => Some(0),
        [b'0', ..] | [b'-', b'0', ..] => None,
        _ => super::frames::number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> RequestLimits {
        RequestLimits::from(&Limits::default())
    }

    fn scan(bytes: &[u8]) -> Result<Scan, ProtocolError> {
        RequestScanner::default().scan(bytes, &limits(), true)
    }

    #[test]
    fn a_command_in_every_split() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n";
        let mut scanner = RequestScanner::default();
        for end in 0..bytes.len() {
            assert_eq!(scanner.scan(&bytes[..end], &limits(), true), Ok(Scan::Incomplete));
        }
        assert_eq!(scanner.scan(bytes, &limits(), true), Ok(Scan::Command(bytes.len())));
        assert_eq!(scanner.arguments(), [(8, 11), (17, 18), (24, 24)]);
    }

    #[test]
    fn inline_and_nothing() {
        let words = vec![b"SET".to_vec(), b"a b".to_vec()];
        assert_eq!(scan(b"SET \"a b\"\r\nrest"), Ok(Scan::Inline(11, words)));
        assert_eq!(scan(b"\r\n"), Ok(Scan::Nothing(2)));
        assert_eq!(scan(b"*0\r\n"), Ok(Scan::Nothing(4)));
        assert_eq!(scan(b"*-10\r\n"), Ok(Scan::Nothing(6)));
    }

    #[test]
    fn errors_are_redis_own() {
        for (bytes, error) in [
            (&b"*x\r\n"[..], "invalid multibulk length"),
            (b"*20000000\r\n", "invalid multibulk length"),
            (b"*1\r\n*1\r\n", "expected '$', got '*'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$4294967296\r\n", "invalid bulk length"),
            (b"*1\r\n$01\r\n", "invalid bulk length"),
            (b"set \"a\r\n", "unbalanced quotes in request"),
        ] {
            let text = scan(bytes).expect_err("refused").to_string();
            assert_eq!(text, format!("Protocol error: {error}"));
        }
        let mut long = vec![b'a'; 65 * 1024];
        assert_eq!(scan(&long), Err(ProtocolError::BigInline));
        long[0] = b'*';
        assert_eq!(scan(&long), Err(ProtocolError::BigCount));
        let untrusted = |bytes| RequestScanner::default().scan(bytes, &limits(), false);
        assert_eq!(untrusted(b"*11\r\n"), Err(ProtocolError::UnauthenticatedCount));
        assert_eq!(untrusted(b"*1\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedLength));
    }
}
