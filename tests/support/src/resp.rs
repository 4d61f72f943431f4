use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A reply in RESP2 or RESP3. Simple strings and errors are text with every invalid byte replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// RESP2's null bulk string and null array, and RESP3's null.
    Nil,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(f64),
    Bool(bool),
    BigNumber(String),
    /// Format (three bytes) and text.
    Verbatim(String, Vec<u8>),
}

impl Value {
    pub fn ok() -> Value {
        Value::Simple("OK".into())
    }

    pub fn bulk(text: impl AsRef<[u8]>) -> Value {
        Value::Bulk(text.as_ref().to_vec())
    }

    /// An array of bulk strings.
    pub fn bulks<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Value {
        Value::Array(items.into_iter().map(Value::bulk).collect())
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// The bytes of a bulk, verbatim or simple string. Panics on anything else.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(b) | Value::Verbatim(_, b) => b,
            Value::Simple(s) => s.as_bytes(),
            other => panic!("not a string: {other:?}"),
        }
    }

    /// As [`Value::bytes`], as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// An integer, also one written as a string. Panics on anything else.
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            other => other.text().parse().unwrap_or_else(|_| panic!("not an integer: {other:?}")),
        }
    }

    /// The elements of an array, set or push, and a map's keys and values in turn.
    /// Panics on anything else.
    pub fn items(self) -> Vec<Value> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            Value::Map(pairs) => pairs.into_iter().flat_map(|(k, v)| [k, v]).collect(),
            other => panic!("not a collection: {other:?}"),
        }
    }
}

/// Why a reply could not be read.
#[derive(Debug)]
pub enum RespError {
    Io(io::Error),
    /// The bytes are no RESP.
    Protocol(String),
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RespError::Io(e) => write!(f, "{e}"),
            RespError::Protocol(what) => write!(f, "protocol error: {what}"),
        }
    }
}

impl std::error::Error for RespError {}

impl From<io::Error> for RespError {
    fn from(e: io::Error) -> Self {
        RespError::Io(e)
    }
}

/// A command as an array of bulk strings.
pub fn encode<T: AsRef<[u8]>>(args: impl IntoIterator<Item = T>) -> Vec<u8> {
    let args: Vec<T> = args.into_iter().collect();
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in &args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A blocking client. Replies are awaited for 10 s unless [`Client::set_timeout`] says otherwise.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Client { reader: BufReader::with_capacity(64 * 1024, stream) })
    }

    pub fn set_timeout(&mut self, timeout: Duration) {
        let stream = self.reader.get_ref();
        stream.set_read_timeout(Some(timeout)).unwrap_or_else(|e| panic!("set a timeout: {e}"));
    }

    /// Sends one command and returns its reply. Panics when the connection fails.
    pub fn call<T: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = T>) -> Value {
        self.try_call(args).unwrap_or_else(|e| panic!("no reply: {e}"))
    }

    /// Sends one command, written as in a shell without quotes: `client.run("SET key value")`.
    pub fn run(&mut self, words: &str) -> Value {
        self.call(words.split_whitespace())
    }

    /// As [`Client::run`], again and again until the answer is no error, for half a minute.
    pub fn insist(&mut self, words: &str) -> Value {
        let began = Instant::now();
        loop {
            let reply = self.run(words);
            if !reply.is_error() || began.elapsed() > Duration::from_secs(30) {
                return reply;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn try_call<T: AsRef<[u8]>>(
        &mut self,
        args: impl IntoIterator<Item = T>,
    ) -> Result<Value, RespError> {
        self.send(&encode(args))?;
        self.receive()
    }

    /// Sends all commands in one write, then reads all replies. Panics when the connection fails.
    pub fn pipeline<T: AsRef<[u8]>, C: IntoIterator<Item = T>>(
        &mut self,
        commands: impl IntoIterator<Item = C>,
    ) -> Vec<Value> {
        let mut bytes = Vec::new();
        let mut count = 0;
        for command in commands {
            bytes.extend_from_slice(&encode(command));
            count += 1;
        }
        self.send(&bytes).unwrap_or_else(|e| panic!("send a pipeline: {e}"));
        (0..count).map(|_| self.receive().unwrap_or_else(|e| panic!("no reply: {e}"))).collect()
    }

    /// Writes raw bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one reply or push.
    pub fn receive(&mut self) -> Result<Value, RespError> {
        read_value(&mut self.reader)
    }

    /// Reads until the other side closes or the timeout passes, whichever comes first.
    pub fn receive_raw(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 16 * 1024];
        while let Ok(n @ 1..) = self.reader.read(&mut buffer) {
            all.extend_from_slice(&buffer[..n]);
        }
        all
    }

    /// True when the other side has closed the connection within the timeout.
    pub fn closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    pub fn shutdown(&self, how: Shutdown) {
        let _ = self.reader.get_ref().shutdown(how);
    }

    /// A second handle to the connection, to write from another thread.
    pub fn writer(&self) -> TcpStream {
        self.reader.get_ref().try_clone().unwrap_or_else(|e| panic!("clone a socket: {e}"))
    }
}

fn read_value(reader: &mut impl BufRead) -> Result<Value, RespError> {
    let line = read_line(reader)?;
    let text = || String::from_utf8_lossy(&line[1..]).into_owned();
    let bad = |what: &str| RespError::Protocol(format!("{what}: {:?}", text()));
    let number = || text().parse::<i64>().map_err(|_| bad("not a number"));
    Ok(match line.first() {
        Some(b'+') => Value::Simple(text()),
        Some(b'-') => Value::Error(text()),
        Some(b':') => Value::Int(number()?),
        Some(b'_') => Value::Nil,
        Some(b'#') => Value::Bool(text() == "t"),
        Some(b',') => Value::Double(text().parse().map_err(|_| bad("not a double"))?),
        Some(b'(') => Value::BigNumber(text()),
        Some(b'$') => match number()? {
            -1 => Value::Nil,
            n => Value::Bulk(read_bulk(reader, n)?),
        },
        Some(b'!') => {
            let bytes = read_bulk(reader, number()?)?;
            Value::Error(String::from_utf8_lossy(&bytes).into_owned())
        }
        Some(b'=') => {
            let bytes = read_bulk(reader, number()?)?;
            let (format, text) = bytes.split_at_checked(4).ok_or_else(|| bad("short verbatim"))?;
            Value::Verbatim(String::from_utf8_lossy(&format[..3]).into_owned(), text.to_vec())
        }
        Some(b'*') => match number()? {
            -1 => Value::Nil,
            n => Value::Array(read_many(reader, n)?),
        },
        Some(b'~') => Value::Set(read_many(reader, number()?)?),
        Some(b'>') => Value::Push(read_many(reader, number()?)?),
        Some(b'%') => Value::Map(read_pairs(reader, number()?)?),
        // Attributes precede the reply that they belong to, and are not looked at.
        Some(b'|') => {
            read_pairs(reader, number()?)?;
            return read_value(reader);
        }
        _ => return Err(bad("unknown type")),
    })
}

fn read_line(reader: &mut impl BufRead) -> Result<Vec<u8>, RespError> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if !line.ends_with(b"\r\n") || line.len() < 3 {
        return Err(RespError::Protocol(format!("line {:?}", String::from_utf8_lossy(&line))));
    }
    line.truncate(line.len() - 2);
    Ok(line)
}

fn read_bulk(reader: &mut impl BufRead, len: i64) -> Result<Vec<u8>, RespError> {
    let len = usize::try_from(len).map_err(|_| RespError::Protocol(format!("length {len}")))?;
    let mut bytes = vec![0; len + 2];
    reader.read_exact(&mut bytes)?;
    if !bytes.ends_with(b"\r\n") {
        return Err(RespError::Protocol("a bulk string without its end".into()));
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn read_many(reader: &mut impl BufRead, count: i64) -> Result<Vec<Value>, RespError> {
    (0..count).map(|_| read_value(reader)).collect()
}

fn read_pairs(reader: &mut impl BufRead, count: i64) -> Result<Vec<(Value, Value)>, RespError> {
    (0..count).map(|_| Ok((read_value(reader)?, read_value(reader)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, RespError> {
        read_value(&mut text.as_bytes())
    }

    #[test]
    fn replies() {
        assert_eq!(parse("$-1\r\n").unwrap(), Value::Nil);
        assert_eq!(
            parse("*2\r\n:1\r\n$2\r\nab\r\n").unwrap(),
            Value::Array(vec![Value::Int(1), Value::bulk("ab")])
        );
        let map = Value::Map(vec![(Value::bulk("k"), Value::Double(1.5))]);
        assert_eq!(parse("|1\r\n+a\r\n+b\r\n%1\r\n$1\r\nk\r\n,1.5\r\n").unwrap(), map);
        assert!(parse("$3\r\nab\r\n").is_err() && parse("?\r\n").is_err() && parse("").is_err());
    }
}
