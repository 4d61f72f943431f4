use super::registers::{INDEX_BITS, REGISTERS};

/// Bits of the hash that are not the register's index.
const RANK_BITS: u32 = 64 - INDEX_BITS;

const SEED: u64 = 0xadc8_3b19;

/// The register that an element belongs to, and the length of its run of zeros plus one.
pub fn position(element: &[u8]) -> (usize, u8) {
    let hash = murmur(element);
    let index = hash as usize & (REGISTERS - 1);
    // A bit behind the last one ends the run.
    let rank = (hash >> INDEX_BITS | 1 << RANK_BITS).trailing_zeros() + 1;
    (index, rank as u8)
}

/// MurmurHash64A, by Austin Appleby.
fn murmur(data: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = SEED ^ (data.len() as u64).wrapping_mul(M);
    let (words, tail) = data.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

/// The estimate of how many different elements led to these registers.
/// Source: Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches",
/// arXiv:1702.01284.
pub fn of_registers(registers: &[u8]) -> i64 {
    /// 0.5 / ln 2.
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let mut histogram = [0u32; 64];
    for rank in registers {
        histogram[usize::from(*rank & 63)] += 1;
    }
    let m = REGISTERS as f64;
    let above = RANK_BITS as usize + 1;
    let mut z = m * tau((m - f64::from(histogram[above])) / m);
    for rank in (1..above).rev() {
        z = (z + f64::from(histogram[rank])) * 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    (ALPHA * m * m / z).round() as i64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}
