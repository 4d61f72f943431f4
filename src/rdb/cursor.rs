//! The primitives of RDB: lengths, strings, numbers. Every access is checked against what is there.

use bytes::Bytes;

use super::error::RdbErrorKind;
use super::lzf;

/// Why a primitive could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It needs at least this many bytes, counted from the beginning of the data.
    More(usize),
    Bad(RdbErrorKind),
}

impl From<RdbErrorKind> for Fault {
    fn from(kind: RdbErrorKind) -> Fault {
        Fault::Bad(kind)
    }
}

impl Fault {
    /// The error when no more bytes will come.
    pub fn at_end(self, inside: &'static str) -> RdbErrorKind {
        match self {
            Fault::More(_) => RdbErrorKind::Truncated(inside),
            Fault::Bad(kind) => kind,
        }
    }
}

fn bad(what: &'static str, problem: &'static str) -> Fault {
    Fault::Bad(RdbErrorKind::BadEncoding { what, problem })
}

/// A length, or in its place the mark of an encoded string.
enum Length {
    Plain(u64),
    Encoded(u8),
}

const INT8: u8 = 0;
const INT16: u8 = 1;
const INT32: u8 = 2;
const LZF: u8 = 3;

/// How a string lies in the data.
enum Text {
    Raw(usize),
    Integer(i32),
    Compressed { packed: usize, length: usize },
}

/// Reads forward through `data`.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub data: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(data: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { data, at }
    }

    pub fn remaining(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count).ok_or(bad("length", "too large"))?;
        let taken = self.data.get(self.at..end).ok_or(Fault::More(end))?;
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let end = self.at.checked_add(N).ok_or(bad("length", "too large"))?;
        let tail = self.data.get(self.at..).ok_or(Fault::More(end))?;
        let taken = tail.first_chunk::<N>().ok_or(Fault::More(end))?;
        self.at = end;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn i64_le(&mut self) -> Result<i64, Fault> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn f64_le(&mut self) -> Result<f64, Fault> {
        self.array().map(f64::from_le_bytes)
    }

    fn length_or_encoding(&mut self) -> Result<Length, Fault> {
        let first = self.u8()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0 => Length::Plain(low.into()),
            1 => Length::Plain(u64::from(low) << 8 | u64::from(self.u8()?)),
            2 => match first {
                0x80 => Length::Plain(u32::from_be_bytes(self.array()?).into()),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(bad("length", "unknown form")),
            },
            _ => Length::Encoded(low),
        })
    }

    /// A length or another unsigned number in the form of a length.
    pub fn length(&mut self) -> Result<u64, Fault> {
        match self.length_or_encoding()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(bad("length", "an encoded string stands in its place")),
        }
    }

    fn size(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.length()?).map_err(|_| bad("length", "too large"))
    }

    fn text(&mut self) -> Result<Text, Fault> {
        Ok(match self.length_or_encoding()? {
            Length::Plain(length) => {
                Text::Raw(usize::try_from(length).map_err(|_| bad("string", "too long"))?)
            }
            Length::Encoded(INT8) => Text::Integer(i8::from_le_bytes(self.array()?).into()),
            Length::Encoded(INT16) => Text::Integer(i16::from_le_bytes(self.array()?).into()),
            Length::Encoded(INT32) => Text::Integer(i32::from_le_bytes(self.array()?)),
            Length::Encoded(LZF) => Text::Compressed { packed: self.size()?, length: self.size()? },
            Length::Encoded(_) => return Err(bad("string", "unknown encoding")),
        })
    }

    /// Steps over a string; the cursor may come to stand behind the end of the data.
    pub fn skip_string(&mut self) -> Result<(), Fault> {
        let count = match self.text()? {
            Text::Raw(length) => length,
            Text::Integer(_) => 0,
            Text::Compressed { packed, .. } => packed,
        };
        self.skip(count)
    }

    /// Steps over `count` bytes, possibly behind the end of the data.
    pub fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.at = self.at.checked_add(count).ok_or(bad("length", "too large"))?;
        Ok(())
    }

    /// A string; where it lies raw in the data it is a slice of `whole`, of which `data` is a view.
    pub fn string(&mut self, whole: &Bytes) -> Result<Bytes, Fault> {
        Ok(match self.text()? {
            Text::Raw(length) => whole.slice_ref(self.take(length)?),
            Text::Integer(number) => decimal(number.into()),
            Text::Compressed { packed, length } => {
                Bytes::from(lzf::decompress(self.take(packed)?, length)?)
            }
        })
    }

    /// Like [`Cursor::string`], always a copy.
    pub fn string_copy(&mut self) -> Result<Bytes, Fault> {
        Ok(match self.text()? {
            Text::Raw(length) => Bytes::copy_from_slice(self.take(length)?),
            Text::Integer(number) => decimal(number.into()),
            Text::Compressed { packed, length } => {
                Bytes::from(lzf::decompress(self.take(packed)?, length)?)
            }
        })
    }

    /// A score as text behind its length byte: the form of sorted sets before RDB 8.
    pub fn text_double(&mut self) -> Result<f64, Fault> {
        match self.u8()? {
            253 => Ok(f64::NAN),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            length => parse_double(self.take(length.into())?).ok_or(bad("score", "not a number")),
        }
    }

    pub fn skip_text_double(&mut self) -> Result<(), Fault> {
        match self.u8()? {
            253..=255 => Ok(()),
            length => self.skip(length.into()),
        }
    }
}

pub(super) fn decimal(number: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes())
}

pub(super) fn parse_double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}
