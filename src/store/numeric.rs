use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// An unsigned 64-bit number in a `numeric` column.
/// Format: `numeric_send` in PostgreSQL: digits to the base 10,000, the first has weight `weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct U64(pub u64);

const BASE: u64 = 10_000;

impl ToSql for U64 {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let mut digits = [0i16; 5];
        let (mut rest, mut count) = (self.0, 0);
        while rest > 0 {
            digits[count] = (rest % BASE) as i16;
            rest /= BASE;
            count += 1;
        }
        out.put_i16(count as i16);
        out.put_i16(count.saturating_sub(1) as i16);
        out.put_i16(0); // positive
        out.put_i16(0); // digits after the point
        for digit in digits[..count].iter().rev() {
            out.put_i16(*digit);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for U64 {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<U64, Box<dyn Error + Sync + Send>> {
        let mut words = raw.chunks_exact(2).map(|word| i16::from_be_bytes([word[0], word[1]]));
        let mut header = || words.next().ok_or("numeric: cut off");
        let (count, weight, sign, _scale) = (header()?, header()?, header()?, header()?);
        let digits: Vec<i16> = words.collect();
        let fits = sign == 0 && digits.len() == usize::from(count.unsigned_abs());
        // Trailing zero digits are not sent.
        let zeros = i32::from(weight) + 1 - i32::from(count);
        if !fits || (count > 0 && !(0..=5).contains(&zeros)) {
            return Err("numeric: not an unsigned 64-bit number".into());
        }
        let mut value = 0u64;
        let zeros = if count == 0 { 0 } else { zeros };
        for digit in digits.into_iter().chain((0..zeros).map(|_| 0)) {
            let digit = u64::try_from(digit)?;
            let shifted = value.checked_mul(BASE).and_then(|value| value.checked_add(digit));
            value = shifted.ok_or("numeric: more than 64 bits")?;
        }
        Ok(U64(value))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let powers = (0..64).map(|n| 1u64 << n);
        let tens = (0..20).map(|n| 10u64.pow(n));
        for value in powers.chain(tens).chain([0, 9_999, 10_001, u64::MAX]) {
            let mut wire = BytesMut::new();
            U64(value).to_sql(&Type::NUMERIC, &mut wire).expect("encodes");
            assert_eq!(U64::from_sql(&Type::NUMERIC, &wire).expect("decodes"), U64(value));
            // As PostgreSQL sends it: without trailing zeros.
            let count = i16::from_be_bytes([wire[0], wire[1]]);
            let kept = (0..count).rev().find(|n| {
                let at = 8 + 2 * *n as usize;
                wire[at..at + 2] != [0, 0]
            });
            let kept = kept.map_or(0, |last| last + 1);
            wire.truncate(8 + 2 * kept as usize);
            wire[..2].copy_from_slice(&kept.to_be_bytes());
            assert_eq!(U64::from_sql(&Type::NUMERIC, &wire).expect("decodes"), U64(value));
        }
    }
}
