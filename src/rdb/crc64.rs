//! CRC-64 with Jones's polynomial, as Redis computes it: reflected, initial value 0, no final xor.

const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
// Not `const`: unoptimised code would copy it at every use.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[slice - 1][byte];
            tables[slice][byte] = (crc >> 8) ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// Carries `crc` on over `data`; begin with 0.
pub(super) fn update(mut crc: u64, data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        let x = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
        crc = TABLES[7][x[0] as usize]
            ^ TABLES[6][x[1] as usize]
            ^ TABLES[5][x[2] as usize]
            ^ TABLES[4][x[3] as usize]
            ^ TABLES[3][x[4] as usize]
            ^ TABLES[2][x[5] as usize]
            ^ TABLES[1][x[6] as usize]
            ^ TABLES[0][x[7] as usize];
    }
    for byte in rest {
        crc = (crc >> 8) ^ TABLES[0][((crc as u8) ^ byte) as usize];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_redis() {
        assert_eq!(update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let text: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let halves = update(update(0, &text[..333]), &text[333..]);
        assert_eq!(halves, update(0, &text));
    }
}
