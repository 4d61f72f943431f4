//! An RDB file of any bytes, in two pieces, whose checksum is switched off.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::rdb::Decoder;

fuzz_target!(|input: (u16, &[u8])| {
    let (split, data) = input;
    let (first, second) = data.split_at(usize::from(split).min(data.len()));
    let mut decoder = Decoder::new();
    decoder.push(b"REDIS0012");
    for piece in [first, second] {
        decoder.push(piece);
        while let Ok(Some(_)) = decoder.next() {}
    }
    let _ = decoder.finish();
});
