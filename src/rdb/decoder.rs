use bytes::{Buf, Bytes, BytesMut};

use super::cursor::{Cursor, Fault};
use super::error::{RdbError, RdbErrorKind};
use super::shape::{self, Scanner};
use super::types::*;
use super::{Item, crc64, value};

/// Decodes an RDB file as its bytes arrive. At most one value is held in memory, and never more
/// than what has arrived of it.
///
/// ```
/// # fn read() -> Result<(), tandem::rdb::RdbError> {
/// let mut decoder = tandem::rdb::Decoder::new();
/// decoder.push(b"REDIS0011\xff\0\0\0\0\0\0\0\0");
/// while let Some(item) = decoder.next()? {
///     println!("{item:?}");
/// }
/// decoder.finish()
/// # }
/// # read().unwrap();
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes consumed before `buffer`.
    offset: u64,
    crc: u64,
    version: u32,
    expire_at_ms: Option<i64>,
    skipped_empty: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Header,
    Opcode,
    /// A value's body is arriving.
    Value {
        type_byte: u8,
        key: Bytes,
        scanner: Scanner,
    },
    ModuleAux(Scanner),
    Checksum,
    Done,
    Failed(RdbError),
}

/// `REDIS` and four digits, or `VALKEY` and three.
const HEADER: usize = 9;

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder {
            buffer: BytesMut::new(),
            offset: 0,
            crc: 0,
            version: 0,
            expire_at_ms: None,
            skipped_empty: 0,
            state: State::Header,
        }
    }

    /// Adds bytes that have arrived.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next item; `None` when more bytes are needed, or after [`Item::End`]. An error is final.
    #[allow(clippy::should_implement_trait, reason = "None here does not mean the end")]
    pub fn next(&mut self) -> Result<Option<Item>, RdbError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        let start = self.offset;
        self.advance().map_err(|kind| {
            let error = RdbError { offset: start.max(self.offset), kind };
            self.state = State::Failed(error.clone());
            error
        })
    }

    /// To be called when no more bytes will come: an error unless [`Item::End`] has been given out.
    pub fn finish(&self) -> Result<(), RdbError> {
        let inside = match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::Done => return Ok(()),
            State::Header => "the header",
            State::Opcode => "the space between two keys",
            State::Value { .. } => "a value",
            State::ModuleAux(_) => "a module's data",
            State::Checksum => "the checksum",
        };
        let offset = self.offset + self.buffer.len() as u64;
        Err(RdbError { offset, kind: RdbErrorKind::Truncated(inside) })
    }

    /// True once [`Item::End`] has been given out.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes of the RDB that have been decoded.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// The RDB version; 0 before the header has arrived.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Keys left out because their value had no elements, as Redis itself does on loading.
    pub fn skipped_empty(&self) -> u64 {
        self.skipped_empty
    }

    /// After [`Item::End`]: the bytes pushed that lie behind the RDB.
    pub fn take_rest(&mut self) -> BytesMut {
        if self.is_done() { std::mem::take(&mut self.buffer) } else { BytesMut::new() }
    }

    fn advance(&mut self) -> Result<Option<Item>, RdbErrorKind> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
                    self.version = version(header)?;
                    self.consume(HEADER);
                    self.state = State::Opcode;
                }
                State::Opcode => match self.opcode() {
                    Ok(Some(item)) => return Ok(Some(item)),
                    Ok(None) => {}
                    Err(Fault::More(_)) => return Ok(None),
                    Err(Fault::Bad(kind)) => return Err(kind),
                },
                State::Value { scanner, .. } => {
                    let Some(length) = scanner.scan(&self.buffer)? else { return Ok(None) };
                    if let Some(item) = self.value(length)? {
                        return Ok(Some(item));
                    }
                }
                State::ModuleAux(scanner) => {
                    let Some(length) = scanner.scan(&self.buffer)? else { return Ok(None) };
                    self.consume(length);
                    self.state = State::Opcode;
                    return Ok(Some(Item::ModuleAux));
                }
                State::Checksum => return self.checksum(),
                State::Done | State::Failed(_) => return Ok(None),
            }
        }
    }

    /// Reads one opcode with its operands, or the type and key of a value.
    fn opcode(&mut self) -> Result<Option<Item>, Fault> {
        let mut cursor = Cursor::new(&self.buffer, 0);
        let mut state = State::Opcode;
        let mut expire = self.expire_at_ms;
        let item = match cursor.u8()? {
            OP_EOF => {
                state = if self.version >= 5 { State::Checksum } else { State::Done };
                (self.version < 5).then_some(Item::End { checksummed: false })
            }
            OP_SELECT_DB => Some(Item::SelectDb(database(cursor.length()?)?)),
            OP_RESIZE_DB => {
                Some(Item::ResizeDb { keys: cursor.length()?, expires: cursor.length()? })
            }
            OP_AUX => Some(Item::Aux { key: cursor.string_copy()?, value: cursor.string_copy()? }),
            OP_FUNCTION2 => Some(Item::Function(cursor.string_copy()?)),
            OP_FUNCTION_PRE_GA => return Err(RdbErrorKind::PreReleaseFunction.into()),
            OP_EXPIRE_S => {
                let seconds = i32::from_le_bytes(cursor.array()?);
                expire = Some(i64::from(seconds) * 1000);
                None
            }
            OP_EXPIRE_MS => {
                expire = Some(cursor.i64_le()?);
                None
            }
            OP_FREQ => {
                cursor.u8()?;
                None
            }
            OP_IDLE => {
                cursor.length()?;
                None
            }
            OP_SLOT_INFO => {
                for _ in 0..3 {
                    cursor.length()?;
                }
                None
            }
            OP_MODULE_AUX => {
                state = State::ModuleAux(Scanner::new(shape::MODULE_AUX));
                None
            }
            type_byte => {
                let scanner = Scanner::new(shape::of_type(type_byte)?);
                state = State::Value { type_byte, key: cursor.string_copy()?, scanner };
                None
            }
        };
        let used = cursor.at;
        self.consume(used);
        self.expire_at_ms = expire;
        self.state = state;
        Ok(item)
    }

    /// Takes the value whose body is the next `length` bytes; `None` when it has no elements.
    fn value(&mut self, length: usize) -> Result<Option<Item>, RdbErrorKind> {
        let State::Value { type_byte, key, .. } = std::mem::replace(&mut self.state, State::Opcode)
        else {
            return Ok(None);
        };
        let expire_at_ms = self.expire_at_ms.take();
        let body = self.buffer.split_to(length).freeze();
        match value::decode(type_byte, &body, self.version as u16) {
            Ok(value) => {
                self.crc = crc64::update(self.crc, &body);
                self.offset += length as u64;
                Ok(Some(Item::Key { key, expire_at_ms, value }))
            }
            Err(RdbErrorKind::Empty(_)) => {
                self.crc = crc64::update(self.crc, &body);
                self.offset += length as u64;
                self.skipped_empty += 1;
                Ok(None)
            }
            Err(kind) => Err(kind),
        }
    }

    fn checksum(&mut self) -> Result<Option<Item>, RdbErrorKind> {
        let Some(bytes) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let (expected, actual) = (u64::from_le_bytes(*bytes), self.crc);
        if expected != 0 && expected != actual {
            return Err(RdbErrorKind::Checksum { expected, actual });
        }
        self.consume(8);
        self.state = State::Done;
        Ok(Some(Item::End { checksummed: expected != 0 }))
    }

    fn consume(&mut self, count: usize) {
        self.crc = crc64::update(self.crc, &self.buffer[..count]);
        self.buffer.advance(count);
        self.offset += count as u64;
    }
}

fn database(number: u64) -> Result<u32, RdbErrorKind> {
    u32::try_from(number)
        .map_err(|_| RdbErrorKind::BadEncoding { what: "database number", problem: "too large" })
}

fn version(header: &[u8; HEADER]) -> Result<u32, RdbErrorKind> {
    let digits = header.strip_prefix(b"REDIS").or(header.strip_prefix(b"VALKEY"));
    let number = digits.and_then(|d| std::str::from_utf8(d).ok()?.parse::<u32>().ok());
    match number {
        None => Err(RdbErrorKind::BadMagic(String::from_utf8_lossy(header).into_owned())),
        Some(version @ 1..=MAX_VERSION) => Ok(version),
        Some(version) => Err(RdbErrorKind::UnsupportedVersion(version)),
    }
}
