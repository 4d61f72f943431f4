//! Just enough arithmetic on large natural numbers to convert floats exactly.

/// A natural number in base 2^32, least digit first, without leading zeros.
#[derive(Clone, Debug, Default)]
pub struct Big {
    limbs: Vec<u32>,
}

impl Big {
    pub fn from_u64(value: u64) -> Big {
        let mut big = Big { limbs: vec![value as u32, (value >> 32) as u32] };
        big.trim();
        big
    }

    pub fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    /// `self = self * factor + addend`.
    pub fn mul_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.limbs.push(carry as u32);
        }
    }

    /// `self = self / divisor`; the remainder.
    pub fn div(&mut self, divisor: u32) -> u32 {
        let mut rest = 0;
        for limb in self.limbs.iter_mut().rev() {
            let value = (rest << 32) | u64::from(*limb);
            *limb = (value / u64::from(divisor)) as u32;
            rest = value % u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    /// `self = self * 2^bits`.
    pub fn shl(&mut self, bits: u64) {
        if self.is_zero() {
            return;
        }
        let small = 1u32 << (bits % 32);
        self.mul_add(small, 0);
        let zeros = usize::try_from(bits / 32).unwrap_or(usize::MAX);
        self.limbs.splice(0..0, std::iter::repeat_n(0, zeros));
    }

    pub fn bit_len(&self) -> u64 {
        let top = self.limbs.last().map_or(0, |limb| 32 - limb.leading_zeros());
        (self.limbs.len() as u64 * 32 + u64::from(top)).saturating_sub(32)
    }

    /// The 128 highest bits: `(top, shift, rest)` with `self = top * 2^shift` plus something when
    /// `rest` is true.
    pub fn top(&self) -> (u128, u64, bool) {
        let shift = self.bit_len().saturating_sub(128);
        let (skip, small) = ((shift / 32) as usize, (shift % 32) as u32);
        let limb = |i: usize| u128::from(self.limbs.get(skip + i).copied().unwrap_or(0));
        let low = limb(0) | limb(1) << 32 | limb(2) << 64 | limb(3) << 96;
        let top = if small == 0 { low } else { (low >> small) | (limb(4) << (128 - small)) };
        let rest = self.limbs.iter().take(skip).any(|limb| *limb > 0)
            || limb(0) as u32 & ((1u32 << small) - 1) > 0;
        (top, shift, rest)
    }

    pub fn to_decimal(&self) -> String {
        let mut groups = Vec::new();
        let mut left = self.clone();
        while !left.is_zero() {
            groups.push(left.div(1_000_000_000));
        }
        let Some(first) = groups.pop() else { return "0".into() };
        let mut text = first.to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }
}
