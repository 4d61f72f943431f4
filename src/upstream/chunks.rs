use std::collections::VecDeque;

/// No chunk grows beyond this, in bytes, unless one piece is larger.
const CHUNK: usize = 256 * 1024;
/// A buffer larger than this, in bytes, is given back when it is empty.
const KEEP: usize = 16 * 1024;

/// Bytes that wait to be written, in chunks: what a slow reader leaves is never moved, and takes no
/// more memory than it has bytes.
#[derive(Default)]
pub struct Chunks {
    /// Full ones, before `last`; empty unless the reader is slow.
    full: VecDeque<Vec<u8>>,
    last: Vec<u8>,
    /// Bytes of the first chunk that are gone already.
    gone: usize,
    /// Bytes that wait.
    len: usize,
}

impl Chunks {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends one piece. Pieces may end anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.last.is_empty() && self.last.len() + bytes.len() > CHUNK {
            self.full.push_back(std::mem::take(&mut self.last));
            self.last.reserve_exact(CHUNK.max(bytes.len()));
        }
        self.last.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends what `write` encodes.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.last.len();
        write(&mut self.last);
        self.len += self.last.len() - before;
    }

    /// Appends all of `other`, which nothing was taken from.
    pub fn append(&mut self, other: Chunks) {
        for chunk in other.full.into_iter().chain([other.last]) {
            if chunk.len() < CHUNK / 2 {
                self.push(&chunk);
                continue;
            }
            self.len += chunk.len();
            let before = std::mem::replace(&mut self.last, chunk);
            if !before.is_empty() {
                self.full.push_back(before);
            }
        }
    }

    /// The bytes to be written next; empty only when nothing waits.
    pub fn front(&self) -> &[u8] {
        &self.full.front().unwrap_or(&self.last)[self.gone..]
    }

    /// The first `bytes` of [`Chunks::front`] are written.
    pub fn advance(&mut self, bytes: usize) {
        self.gone += bytes;
        self.len -= bytes;
        if self.front().is_empty() {
            self.gone = 0;
            if self.full.pop_front().is_none() {
                self.last.clear();
                self.last.shrink_to(KEEP);
            }
        }
    }
}

impl From<&[u8]> for Chunks {
    fn from(bytes: &[u8]) -> Chunks {
        Chunks { last: bytes.to_vec(), len: bytes.len(), ..Chunks::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let pieces = [1, 70_000, CHUNK - 1, 0, CHUNK, 3 * CHUNK, 5, 200_000, CHUNK / 2, 17];
        for read in [1000, 65_536, 1 << 30] {
            let (mut chunks, mut expected, mut seen) = (Chunks::default(), Vec::new(), Vec::new());
            for (i, size) in pieces.into_iter().enumerate() {
                let piece: Vec<u8> = (0..size).map(|n| (n * 31 + i) as u8).collect();
                expected.extend_from_slice(&piece);
                if i % 3 == 0 {
                    let mut other = Chunks::default();
                    piece.chunks(100_000).for_each(|part| other.push(part));
                    chunks.append(other);
                } else {
                    chunks.push(&piece);
                }
                let some = chunks.front().len().min(read);
                seen.extend_from_slice(&chunks.front()[..some]);
                chunks.advance(some);
                assert_eq!(chunks.len(), expected.len() - seen.len());
            }
            while !chunks.is_empty() {
                let some = chunks.front().len().min(read);
                assert!(some > 0, "nothing to write of {}", chunks.len());
                seen.extend_from_slice(&chunks.front()[..some]);
                chunks.advance(some);
            }
            assert!(seen == expected, "other bytes came out");
            assert!(chunks.front().is_empty());
        }
    }
}
