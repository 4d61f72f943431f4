//! The value of a `DUMP` payload: any bytes with a right footer. What decodes must encode and decode to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::rdb::{Object, decode_dump, encode_dump, seal_dump};

fuzz_target!(|value: &[u8]| {
    let Some((&type_byte, body)) = value.split_first() else { return };
    let Ok(object) = decode_dump(&seal_dump(type_byte, body, 12)) else { return };
    if let Object::Stream(stream) = &object {
        // The older form that is written has no place for these.
        let timed = |time: &Option<i64>| time.is_some();
        if stream.groups.iter().flat_map(|g| &g.consumers).any(|c| timed(&c.active_time_ms)) {
            return;
        }
    }
    assert_eq!(decode_dump(&encode_dump(&object)), Ok(object));
});
