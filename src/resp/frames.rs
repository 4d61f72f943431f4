/// What cannot be a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("unknown type byte {0:#04x}")]
    Type(u8),
    #[error("bad length")]
    Length,
}

/// Longest header line that carries a length: type, sign, 20 digits, line end.
const MAX_HEADER: usize = 24;

/// Finds where a RESP2 or RESP3 reply ends, in pieces as they arrive. Each byte is looked at once,
/// nesting costs a counter and no memory, whatever its depth.
#[derive(Clone, Debug)]
pub struct ReplyScanner {
    /// Values still to come before the frame is complete; 1 before its first byte.
    values: u64,
    state: State,
    header: [u8; MAX_HEADER],
    header_len: usize,
    aggregates: usize,
    started: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the type byte of a value.
    Type,
    /// In a header line that ends with a length.
    Header,
    /// In a line whose text does not matter; true behind a carriage return.
    Line(bool),
    /// In the body of a bulk, with its line end: bytes left.
    Body(u64),
}

impl Default for ReplyScanner {
    fn default() -> Self {
        ReplyScanner {
            values: 1,
            state: State::Type,
            header: [0; MAX_HEADER],
            header_len: 0,
            aggregates: 0,
            started: false,
        }
    }
}

impl ReplyScanner {
    /// Takes bytes of the current frame from the front of `data`: how many belong to it, and whether
    /// it is complete. After a complete frame the scanner is ready for the next one.
    pub fn feed(&mut self, data: &[u8]) -> Result<(usize, bool), FrameError> {
        let mut at = 0;
        if !self.started && !data.is_empty() {
            self.aggregates = 0;
            self.started = true;
        }
        while at < data.len() {
            match self.state {
                State::Type => {
                    match data[at] {
                        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                            self.state = State::Line(false)
                        }
                        b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                            self.state = State::Header;
                            self.header[0] = data[at];
                            self.header_len = 1;
                        }
                        other => return Err(FrameError::Type(other)),
                    }
                    at += 1;
                }
                State::Line(behind_cr) => match memchr::memchr(b'\n', &data[at..]) {
                    Some(end) => {
                        let cr = if end == 0 { behind_cr } else { data[at + end - 1] == b'\r' };
                        at += end + 1;
                        match cr {
                            true => self.value_done(),
                            false => self.state = State::Line(false),
                        }
                    }
                    None => {
                        self.state = State::Line(data.last() == Some(&b'\r'));
                        return Ok((data.len(), false));
                    }
                },
                State::Header => {
                    let byte = data[at];
                    at += 1;
                    if byte == b'\n' {
                        self.header_done()?;
                    } else if self.header_len == MAX_HEADER {
                        return Err(FrameError::Length);
                    } else {
                        self.header[self.header_len] = byte;
                        self.header_len += 1;
                    }
                }
                State::Body(left) => {
                    let here = left.min((data.len() - at) as u64);
                    at += here as usize;
                    self.state = State::Body(left - here);
                    if left == here {
                        self.value_done();
                    }
                }
            }
            if self.values == 0 {
                self.values = 1;
                self.started = false;
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// True between the first and the last byte of a frame.
    pub fn in_frame(&self) -> bool {
        self.started
    }

    /// Arrays, maps, sets and pushes seen in the frame, its own included.
    pub fn aggregates(&self) -> usize {
        self.aggregates
    }

    fn value_done(&mut self) {
        self.values -= 1;
        self.state = State::Type;
    }

    fn header_done(&mut self) -> Result<(), FrameError> {
        let text = self.header[1..self.header_len].strip_suffix(b"\r").ok_or(FrameError::Length)?;
        let length = number(text).ok_or(FrameError::Length)?;
        let kind = self.header[0];
        let count = u64::try_from(length).ok();
        // A verbatim string begins with its format and a colon.
        if count.is_none() && length != -1 || kind == b'=' && length < 4 {
            return Err(FrameError::Length);
        }
        self.state = State::Type;
        let children = match (kind, count) {
            (b'$' | b'=' | b'!', Some(length)) => {
                let body = length.checked_add(2).ok_or(FrameError::Length)?;
                self.state = State::Body(body);
                return Ok(());
            }
            (_, None) => 0,
            (b'%', Some(pairs)) => pairs.checked_mul(2).ok_or(FrameError::Length)?,
            // The value that an attribute belongs to follows it.
            (b'|', Some(pairs)) => {
                let parts = pairs.checked_mul(2).ok_or(FrameError::Length)?;
                parts.checked_add(1).ok_or(FrameError::Length)?
            }
            (_, Some(count)) => count,
        };
        self.aggregates += usize::from(count.is_some());
        self.values = (self.values - 1).checked_add(children).ok_or(FrameError::Length)?;
        Ok(())
    }
}

/// The elements of a whole array, each as it is; none when `frame` is no array.
pub fn elements(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let end = memchr::memchr(b'\n', frame)?;
    let count = number(frame[..end].strip_prefix(b"*")?.strip_suffix(b"\r")?)?;
    let (mut scanner, mut rest) = (ReplyScanner::default(), &frame[end + 1..]);
    let mut elements = Vec::new();
    for _ in 0..count {
        let (length, true) = scanner.feed(rest).ok()? else { return None };
        let (element, behind) = rest.split_at(length);
        elements.push(element);
        rest = behind;
    }
    Some(elements)
}

/// A decimal number with an optional minus sign.
pub(super) fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if digits.len() > 18 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let value = digits.iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(frame: &[u8]) -> bool {
        ReplyScanner::default().feed(frame) == Ok((frame.len(), true))
    }

    #[test]
    fn frames_end_where_they_should_in_any_split() {
        let frames: &[&[u8]] = &[
            b"+OK\r\n",
            b"-ERR x\r\n",
            b":12\r\n",
            b"$5\r\nhello\r\n",
            b"$0\r\n\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"_\r\n",
            b"*2\r\n*2\r\n:1\r\n$2\r\nab\r\n%1\r\n+a\r\n,1.5\r\n",
            b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
            b"=7\r\ntxt:abc\r\n",
            b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
        ];
        for frame in frames {
            assert!(whole(frame), "{}", String::from_utf8_lossy(frame));
            let mut scanner = ReplyScanner::default();
            for (i, byte) in frame.iter().enumerate() {
                let last = i + 1 == frame.len();
                assert_eq!(scanner.feed(&[*byte]), Ok((1, last)));
                assert_eq!(scanner.in_frame(), !last);
            }
            let two = [*frame, *frame].concat();
            assert_eq!(ReplyScanner::default().feed(&two), Ok((frame.len(), true)));
        }
    }

    #[test]
    fn elements_are_cut_out_whole() {
        let frame = b"*3\r\n+OK\r\n*2\r\n:1\r\n$2\r\nab\r\n$-1\r\n";
        let wanted: [&[u8]; 3] = [b"+OK\r\n", b"*2\r\n:1\r\n$2\r\nab\r\n", b"$-1\r\n"];
        assert_eq!(elements(frame).as_deref(), Some(&wanted[..]));
        assert_eq!(elements(b"*-1\r\n"), Some(vec![]));
        assert_eq!(elements(&frame[..20]), None);
        assert_eq!(elements(b"+OK\r\n"), None);
    }

    #[test]
    fn a_line_ends_only_with_both_bytes() {
        assert_eq!(ReplyScanner::default().feed(b"+a\nb\r\n"), Ok((6, true)));
        let mut scanner = ReplyScanner::default();
        assert_eq!(scanner.feed(b"+a\r"), Ok((3, false)));
        assert_eq!(scanner.feed(b"\n+b"), Ok((1, true)));
    }

    #[test]
    fn nonsense_is_refused() {
        for frame in
            [&b"hello\r\n"[..], b"$x\r\n", b"*-2\r\n", b"$99999999999999999999999\r\n", b"=3\r\n"]
        {
            assert!(ReplyScanner::default().feed(frame).is_err());
        }
    }

    #[test]
    fn nesting_costs_no_stack() {
        let mut frame = b"*1\r\n".repeat(1_000_000);
        frame.extend_from_slice(b":1\r\n");
        assert!(whole(&frame));
    }
}
