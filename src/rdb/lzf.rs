//! LZF, the compression of strings in RDB files. Source: the format of LibLZF 3.6.

use super::error::RdbErrorKind;

/// The best that LZF can do: three bytes that stand for 264.
const MAX_RATIO: usize = 88;

fn bad(problem: &'static str) -> RdbErrorKind {
    RdbErrorKind::BadEncoding { what: "LZF string", problem }
}

/// Expands `input` to exactly `length` bytes.
pub(super) fn decompress(input: &[u8], length: usize) -> Result<Vec<u8>, RdbErrorKind> {
    if length / MAX_RATIO > input.len() {
        return Err(bad("longer than its compressed form can be"));
    }
    let mut output = Vec::with_capacity(length);
    let mut rest = input;
    while let Some((&control, tail)) = rest.split_first() {
        rest = tail;
        let control = control as usize;
        if control < 32 {
            let literal = rest.get(..control + 1).ok_or(bad("a literal run is cut off"))?;
            output.extend_from_slice(literal);
            rest = &rest[control + 1..];
        } else {
            let mut count = control >> 5;
            if count == 7 {
                count += take(&mut rest)?;
            }
            let distance = ((control & 0x1f) << 8 | take(&mut rest)?) + 1;
            copy_back(&mut output, distance, count + 2)?;
        }
        if output.len() > length {
            return Err(bad("longer than it says"));
        }
    }
    if output.len() != length {
        return Err(bad("shorter than it says"));
    }
    Ok(output)
}

fn take(rest: &mut &[u8]) -> Result<usize, RdbErrorKind> {
    let (&byte, tail) = rest.split_first().ok_or(bad("a back reference is cut off"))?;
    *rest = tail;
    Ok(byte as usize)
}

/// Repeats `count` bytes that begin `distance` before the end; the two ranges may overlap.
fn copy_back(output: &mut Vec<u8>, distance: usize, count: usize) -> Result<(), RdbErrorKind> {
    let start = output.len().checked_sub(distance);
    let start = start.ok_or(bad("a back reference points before the beginning"))?;
    if distance >= count {
        output.extend_from_within(start..start + count);
    } else {
        for at in start..start + count {
            output.push(output[at]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_literals_and_overlapping_references() {
        assert_eq!(decompress(&[2, b'a', b'b', b'c'], 3).as_deref(), Ok(&b"abc"[..]));
        // One literal, then 7 + 1 + 2 bytes from one byte back.
        assert_eq!(decompress(&[0, b'x', 0xe0, 1, 0], 11).as_deref(), Ok(&b"xxxxxxxxxxx"[..]));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (input, length) in [
            (&[5u8, b'a'][..], 6),
            (&[0, b'x', 0x20], 4),
            (&[0, b'x', 0x20, 9], 4),
            (&[0, b'x', 0xe0, 1, 0], 5),
            (&[0, b'x'], 2),
            (&[0, b'x'], usize::MAX),
        ] {
            assert!(decompress(input, length).is_err(), "{input:?}");
        }
    }
}
