/// The generator behind `math.random`: 48 bits, linear congruential, the same everywhere for the
/// same seed. Source: `rand.c` of Redis, POSIX `lrand48`.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    const MASK: u64 = (1 << 48) - 1;

    /// As Redis starts.
    pub fn new() -> Random {
        Random(0x1234_ABCD_330E)
    }

    pub fn seed(&mut self, seed: i32) {
        self.0 = u64::from(seed as u32) << 16 | 0x330E;
    }

    /// 31 random bits.
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & Random::MASK;
        (self.0 >> 17) as u32
    }
}
