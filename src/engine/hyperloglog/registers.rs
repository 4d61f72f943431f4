//! The bytes of a HyperLogLog: a header of 16 bytes (`HYLL`, the encoding, three unused, the last
//! count in eight bytes, little endian), then the registers, dense or sparse.

use bytes::Bytes;

pub const INDEX_BITS: u32 = 14;
pub const REGISTERS: usize = 1 << INDEX_BITS;

const HEADER: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const ENCODING: usize = 4;
const COUNT: usize = 8;
/// The highest bit of the count says that it is out of date.
const OUTDATED: u8 = 0x80;

const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// Bits of a dense register.
const WIDTH: usize = 6;
const DENSE_LEN: usize = HEADER + REGISTERS * WIDTH / 8;
/// Redis's default `hll-sparse-max-bytes`: a longer sparse value becomes dense.
const SPARSE_MAX_LEN: usize = 3000;

#[derive(Clone, Debug)]
pub struct Hll {
    bytes: Vec<u8>,
}

impl Default for Hll {
    /// An empty one.
    fn default() -> Hll {
        let mut bytes = vec![0; HEADER];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[ENCODING] = SPARSE;
        Run::zeros(REGISTERS).write(&mut bytes);
        Hll { bytes }
    }
}

impl Hll {
    /// `None` when it is none. A sparse one is not looked into yet.
    pub fn from_bytes(bytes: &[u8]) -> Option<Hll> {
        let encoding = *bytes.get(ENCODING)?;
        let valid = bytes.len() >= HEADER
            && bytes.starts_with(MAGIC)
            && (encoding == SPARSE || encoding == DENSE && bytes.len() == DENSE_LEN);
        valid.then(|| Hll { bytes: bytes.to_vec() })
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    pub fn is_dense(&self) -> bool {
        self.bytes[ENCODING] == DENSE
    }

    /// The count as it was computed last, when nothing has changed since.
    pub fn known_count(&self) -> Option<i64> {
        let count = self.bytes[COUNT..HEADER].try_into().map(i64::from_le_bytes);
        count.ok().filter(|count| *count >= 0)
    }

    pub fn keep_count(&mut self, count: i64) {
        self.bytes[COUNT..HEADER].copy_from_slice(&count.to_le_bytes());
    }

    pub fn forget_count(&mut self) {
        self.bytes[HEADER - 1] |= OUTDATED;
    }

    /// All registers; `None` when a sparse one is corrupted.
    pub fn registers(&self) -> Option<Vec<u8>> {
        if self.is_dense() {
            return Some((0..REGISTERS).map(|index| self.dense(index)).collect());
        }
        let mut registers = Vec::with_capacity(REGISTERS);
        let mut at = HEADER;
        while at < self.bytes.len() {
            let run = Run::read(&self.bytes, at)?;
            if registers.len() + run.len > REGISTERS {
                return None;
            }
            registers.resize(registers.len() + run.len, run.rank);
            at += run.size;
        }
        (registers.len() == REGISTERS).then_some(registers)
    }

    /// The runs of a sparse one as `PFDEBUG DECODE` shows them; `None` when it is corrupted.
    pub fn runs(&self) -> Option<String> {
        let (mut text, mut at) = (String::new(), HEADER);
        while at < self.bytes.len() {
            let run = Run::read(&self.bytes, at)?;
            text += &match (run.rank, run.size) {
                (0, 1) => format!("z:{} ", run.len),
                (0, _) => format!("Z:{} ", run.len),
                (rank, _) => format!("v:{rank},{} ", run.len),
            };
            at += run.size;
        }
        Some(text)
    }

    /// Raises a register to `rank`: whether it was lower. `None` when a sparse one is corrupted.
    pub fn raise(&mut self, index: usize, rank: u8) -> Option<bool> {
        if self.is_dense() {
            let lower = self.dense(index) < rank;
            if lower {
                self.set_dense(index, rank);
            }
            return Some(lower);
        }
        if rank <= Run::MAX_RANK
            && let Some(raised) = self.raise_sparse(index, rank)?
        {
            return Some(raised);
        }
        self.make_dense()?;
        self.raise(index, rank)
    }

    pub fn make_dense(&mut self) -> Option<()> {
        if self.is_dense() {
            return Some(());
        }
        let registers = self.registers()?;
        self.bytes.truncate(HEADER);
        self.bytes.resize(DENSE_LEN, 0);
        self.bytes[ENCODING] = DENSE;
        for (index, rank) in registers.into_iter().enumerate().filter(|(_, rank)| *rank > 0) {
            self.set_dense(index, rank);
        }
        Some(())
    }

    /// Registers lie one after the other from the lowest bit on; the last one ends with its byte.
    fn dense(&self, index: usize) -> u8 {
        let (byte, bit) = (HEADER + index * WIDTH / 8, index * WIDTH % 8);
        let next = self.bytes.get(byte + 1).copied().unwrap_or(0);
        (u16::from_le_bytes([self.bytes[byte], next]) >> bit) as u8 & 63
    }

    fn set_dense(&mut self, index: usize, rank: u8) {
        let (byte, bit) = (HEADER + index * WIDTH / 8, index * WIDTH % 8);
        let [low_mask, high_mask] = (63u16 << bit).to_le_bytes();
        let [low, high] = (u16::from(rank) << bit).to_le_bytes();
        self.bytes[byte] = self.bytes[byte] & !low_mask | low;
        if let Some(next) = self.bytes.get_mut(byte + 1) {
            *next = *next & !high_mask | high;
        }
    }

    /// As [`Hll::raise`]; `Some(None)` when it would become too long.
    fn raise_sparse(&mut self, index: usize, rank: u8) -> Option<Option<bool>> {
        let (mut at, mut first, mut previous) = (HEADER, 0, HEADER);
        let run = loop {
            let run = Run::read(&self.bytes, at)?;
            if index < first + run.len {
                break run;
            }
            previous = at;
            at += run.size;
            first += run.len;
        };
        if run.rank >= rank {
            return Some(Some(false));
        }
        let before = index - first;
        let behind = run.len - before - 1;
        let mut split = Vec::with_capacity(5);
        Run { len: before, ..run }.write(&mut split);
        Run { rank, len: 1, size: 1 }.write(&mut split);
        Run { len: behind, ..run }.write(&mut split);
        if split.len() > run.size && self.bytes.len() + split.len() - run.size > SPARSE_MAX_LEN {
            return Some(None);
        }
        let (end, len) = (self.bytes.len(), self.bytes.len() + split.len() - run.size);
        self.bytes.splice(at..(at + run.size).min(end), split);
        self.bytes.truncate(len);
        self.merge_from(previous);
        self.forget_count();
        Some(Some(true))
    }

    /// Joins neighbouring runs of one rank, looking at as many runs as Redis does.
    fn merge_from(&mut self, mut at: usize) {
        for _ in 0..5 {
            let Some(run) = Run::read(&self.bytes, at) else { return };
            let next = Run::read(&self.bytes, at + run.size);
            match next {
                Some(next)
                    if run.rank > 0
                        && next.rank == run.rank
                        && run.len + next.len <= Run::MAX_LEN =>
                {
                    let mut joined = Vec::with_capacity(1);
                    Run { len: run.len + next.len, ..run }.write(&mut joined);
                    self.bytes.splice(at..at + 2, joined);
                }
                _ => at += run.size,
            }
        }
    }
}

/// A run of equal registers in the sparse encoding: `00llllll` (up to 64 zeros),
/// `01llllll llllllll` (up to 16384 zeros) or `1vvvvvll` (up to 4 times the same rank up to 32).
#[derive(Clone, Copy)]
struct Run {
    rank: u8,
    len: usize,
    /// Bytes that it takes.
    size: usize,
}

impl Run {
    const MAX_RANK: u8 = 32;
    const MAX_LEN: usize = 4;
    const SHORT_ZEROS: usize = 64;

    fn zeros(len: usize) -> Run {
        Run { rank: 0, len, size: if len > Run::SHORT_ZEROS { 2 } else { 1 } }
    }

    fn read(bytes: &[u8], at: usize) -> Option<Run> {
        let first = *bytes.get(at)?;
        let low = usize::from(first & 0x3f);
        Some(match first >> 6 {
            0 => Run { rank: 0, len: low + 1, size: 1 },
            // Where the text has been cut off, Redis sees the zero byte that ends its strings.
            1 => {
                let second = bytes.get(at + 1).copied().unwrap_or(0);
                Run { rank: 0, len: (low << 8 | usize::from(second)) + 1, size: 2 }
            }
            _ => Run { rank: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, size: 1 },
        })
    }

    /// Nothing when the run is empty.
    fn write(self, into: &mut Vec<u8>) {
        let Some(len) = self.len.checked_sub(1) else { return };
        if self.rank > 0 {
            into.push(0x80 | (self.rank - 1) << 2 | len as u8);
        } else if len < Run::SHORT_ZEROS {
            into.push(len as u8);
        } else {
            into.extend([0x40 | (len >> 8) as u8, len as u8]);
        }
    }
}
