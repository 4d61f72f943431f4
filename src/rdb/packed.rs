//! The compact encodings: listpack, ziplist, zipmap and intset, read into plain entries.

use bytes::Bytes;

use super::cursor::{Cursor, Fault, decimal};
use super::error::RdbErrorKind;

/// An entry of a listpack or ziplist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Text(Bytes),
    Number(i64),
}

impl Entry {
    pub fn into_bytes(self) -> Bytes {
        match self {
            Entry::Text(text) => text,
            Entry::Number(number) => decimal(number),
        }
    }
}

fn bad(what: &'static str, problem: &'static str) -> RdbErrorKind {
    RdbErrorKind::BadEncoding { what, problem }
}

fn integer<const N: usize>(bytes: [u8; N]) -> i64 {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = from;
    }
    i64::from_le_bytes(wide)
}

const LISTPACK: &str = "listpack";
const ZIPLIST: &str = "ziplist";
const ZIPMAP: &str = "zipmap";
const INTSET: &str = "intset";

/// Reads the entries of a listpack one by one.
pub(super) struct Listpack<'a> {
    whole: &'a Bytes,
    cursor: Cursor<'a>,
}

impl<'a> Listpack<'a> {
    /// Checks the header: total bytes (4, little endian) and number of entries (2).
    pub fn new(whole: &'a Bytes) -> Result<Listpack<'a>, RdbErrorKind> {
        let header = whole.first_chunk::<6>().ok_or(bad(LISTPACK, "no header"))?;
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if total as usize != whole.len() {
            return Err(bad(LISTPACK, "its length is not what its header says"));
        }
        if whole.last() != Some(&0xff) || whole.len() < 7 {
            return Err(bad(LISTPACK, "no end mark"));
        }
        Ok(Listpack { whole, cursor: Cursor::new(whole, 6) })
    }

    /// The next entry; `None` at the end mark.
    pub fn next(&mut self) -> Result<Option<Entry>, RdbErrorKind> {
        self.entry().map_err(|fault| match fault {
            Fault::More(_) => bad(LISTPACK, "an entry runs over the end"),
            Fault::Bad(kind) => kind,
        })
    }

    fn entry(&mut self) -> Result<Option<Entry>, Fault> {
        let start = self.cursor.at;
        let first = self.cursor.u8()?;
        let low = |bits: u32| usize::from(first & ((1u16 << bits) - 1) as u8);
        let entry = match first {
            0xff if self.cursor.remaining() == 0 => return Ok(None),
            0..=0x7f => Entry::Number(first.into()),
            0x80..=0xbf => self.text(low(6))?,
            0xc0..=0xdf => {
                let raw = (low(5) << 8 | usize::from(self.cursor.u8()?)) as i64;
                Entry::Number(if raw >= 1 << 12 { raw - (1 << 13) } else { raw })
            }
            0xe0..=0xef => {
                let length = low(4) << 8 | usize::from(self.cursor.u8()?);
                self.text(length)?
            }
            0xf0 => {
                let length = u32::from_le_bytes(self.cursor.array()?);
                self.text(length as usize)?
            }
            0xf1 => Entry::Number(integer(self.cursor.array::<2>()?)),
            0xf2 => Entry::Number(integer(self.cursor.array::<3>()?)),
            0xf3 => Entry::Number(integer(self.cursor.array::<4>()?)),
            0xf4 => Entry::Number(integer(self.cursor.array::<8>()?)),
            _ => return Err(bad(LISTPACK, "unknown entry encoding").into()),
        };
        self.cursor.take(backlen_size(self.cursor.at - start))?;
        Ok(Some(entry))
    }

    fn text(&mut self, length: usize) -> Result<Entry, Fault> {
        Ok(Entry::Text(self.whole.slice_ref(self.cursor.take(length)?)))
    }

    /// The next entry, which must be there.
    pub fn expect(&mut self) -> Result<Entry, RdbErrorKind> {
        self.next()?.ok_or(bad(LISTPACK, "it ends too early"))
    }

    /// The next entry, which must be a number.
    pub fn number(&mut self) -> Result<i64, RdbErrorKind> {
        match self.expect()? {
            Entry::Number(number) => Ok(number),
            Entry::Text(_) => Err(bad(LISTPACK, "text where a number belongs")),
        }
    }
}

/// How many bytes the length behind an entry of `size` bytes takes.
pub(super) fn backlen_size(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// All entries of a listpack.
pub(super) fn listpack(whole: &Bytes) -> Result<Vec<Entry>, RdbErrorKind> {
    let mut list = Listpack::new(whole)?;
    let mut entries = Vec::new();
    while let Some(entry) = list.next()? {
        entries.push(entry);
    }
    Ok(entries)
}

/// All entries of a ziplist: total bytes (4), offset of the tail (4), number of entries (2), then
/// per entry the length of the one before, an encoding and the content.
pub(super) fn ziplist(whole: &Bytes) -> Result<Vec<Entry>, RdbErrorKind> {
    let header = whole.first_chunk::<10>().ok_or(bad(ZIPLIST, "no header"))?;
    let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    if total as usize != whole.len() {
        return Err(bad(ZIPLIST, "its length is not what its header says"));
    }
    let mut cursor = Cursor::new(whole, 10);
    let mut entries = Vec::new();
    loop {
        let entry = ziplist_entry(whole, &mut cursor).map_err(|fault| match fault {
            Fault::More(_) => bad(ZIPLIST, "an entry runs over the end"),
            Fault::Bad(kind) => kind,
        })?;
        match entry {
            Some(entry) => entries.push(entry),
            None if cursor.remaining() == 0 => return Ok(entries),
            None => return Err(bad(ZIPLIST, "bytes behind the end mark")),
        }
    }
}

fn ziplist_entry(whole: &Bytes, cursor: &mut Cursor<'_>) -> Result<Option<Entry>, Fault> {
    match cursor.u8()? {
        0xff => return Ok(None),
        0xfe => cursor.take(4).map(drop)?,
        _ => {}
    }
    let first = cursor.u8()?;
    let length = match first {
        0x00..=0x3f => usize::from(first),
        0x40..=0x7f => usize::from(first & 0x3f) << 8 | usize::from(cursor.u8()?),
        0x80 => u32::from_be_bytes(cursor.array()?) as usize,
        _ => {
            let number = match first {
                0xc0 => integer(cursor.array::<2>()?),
                0xd0 => integer(cursor.array::<4>()?),
                0xe0 => integer(cursor.array::<8>()?),
                0xf0 => integer(cursor.array::<3>()?),
                0xfe => integer(cursor.array::<1>()?),
                0xf1..=0xfd => i64::from(first & 0x0f) - 1,
                _ => return Err(bad(ZIPLIST, "unknown entry encoding").into()),
            };
            return Ok(Some(Entry::Number(number)));
        }
    };
    Ok(Some(Entry::Text(whole.slice_ref(cursor.take(length)?))))
}

/// Fields and values of a zipmap, the form of small hashes before Redis 2.6.
pub(super) fn zipmap(whole: &Bytes) -> Result<Vec<(Bytes, Bytes)>, RdbErrorKind> {
    let mut cursor = Cursor::new(whole, 0);
    let mut pairs = Vec::new();
    zipmap_pairs(whole, &mut cursor, &mut pairs).map_err(|fault| match fault {
        Fault::More(_) => bad(ZIPMAP, "an entry runs over the end"),
        Fault::Bad(kind) => kind,
    })?;
    Ok(pairs)
}

fn zipmap_pairs(
    whole: &Bytes,
    cursor: &mut Cursor<'_>,
    pairs: &mut Vec<(Bytes, Bytes)>,
) -> Result<(), Fault> {
    cursor.u8()?;
    while let Some(length) = zipmap_length(cursor)? {
        let field = whole.slice_ref(cursor.take(length)?);
        let length = zipmap_length(cursor)?.ok_or(bad(ZIPMAP, "a field without a value"))?;
        let free = cursor.u8()?;
        let value = whole.slice_ref(cursor.take(length)?);
        cursor.take(free.into())?;
        pairs.push((field, value));
    }
    match cursor.remaining() {
        0 => Ok(()),
        _ => Err(bad(ZIPMAP, "bytes behind the end mark").into()),
    }
}

fn zipmap_length(cursor: &mut Cursor<'_>) -> Result<Option<usize>, Fault> {
    Ok(match cursor.u8()? {
        0xff => None,
        0xfe => Some(u32::from_le_bytes(cursor.array()?) as usize),
        short => Some(short.into()),
    })
}

/// Members of an intset: width (4), count (4), then the numbers, all little endian.
pub(super) fn intset(whole: &Bytes) -> Result<Vec<Bytes>, RdbErrorKind> {
    let header = whole.first_chunk::<8>().ok_or(bad(INTSET, "no header"))?;
    let width = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    let body = &whole[8..];
    if !matches!(width, 2 | 4 | 8) || Some(body.len()) != count.checked_mul(width) {
        return Err(bad(INTSET, "its length is not what its header says"));
    }
    let number = |bytes: &[u8]| {
        let mut wide = [if bytes[width - 1] & 0x80 != 0 { 0xff } else { 0 }; 8];
        wide[..width].copy_from_slice(bytes);
        decimal(i64::from_le_bytes(wide))
    };
    Ok(body.chunks_exact(width).map(number).collect())
}
