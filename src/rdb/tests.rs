//! Encodings that no Redis at hand writes any more, or not yet, built by the format; and bytes that
//! are no RDB at all.

use bytes::Bytes;
use proptest::prelude::*;

use super::encode::{Encoder, ListpackWriter};
use super::types::*;
use super::*;

fn text(text: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.text(text);
    encoder.out.to_vec()
}

/// An RDB file of one key, in pieces of one byte.
fn one_key(version: u32, type_byte: u8, body: &[u8]) -> Result<Vec<Item>, RdbError> {
    let mut file = format!("REDIS{version:04}").into_bytes();
    file.push(type_byte);
    file.extend(text(b"key"));
    file.extend_from_slice(body);
    file.push(OP_EOF);
    let crc = crc64::update(0, &file);
    if version >= 5 {
        file.extend(crc.to_le_bytes());
    }
    let mut decoder = Decoder::new();
    let mut items = Vec::new();
    for byte in file {
        decoder.push(&[byte]);
        while let Some(item) = decoder.next()? {
            items.push(item);
        }
    }
    decoder.finish()?;
    Ok(items)
}

/// The value of a file of one key.
fn value_of(version: u32, type_byte: u8, body: &[u8]) -> Result<Object, RdbError> {
    let mut items = one_key(version, type_byte, body)?;
    assert_eq!(items.len(), 2);
    match items.swap_remove(0) {
        Item::Key { value, .. } => Ok(value),
        other => panic!("{other:?}"),
    }
}

fn bytes(items: &[&str]) -> Vec<Bytes> {
    items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect()
}

fn pairs(items: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    items.iter().map(|(a, b)| (Bytes::from(a.to_string()), Bytes::from(b.to_string()))).collect()
}

/// A ziplist of entries that are encoded already.
fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    let (mut before, mut tail) = (0, 10);
    for entry in entries {
        tail = 10 + body.len();
        if before < 254 {
            body.push(before as u8);
        } else {
            body.push(254);
            body.extend((before as u32).to_le_bytes());
        }
        body.extend_from_slice(entry);
        before = 10 + body.len() - tail;
    }
    let total = 10 + body.len() + 1;
    let mut list = (total as u32).to_le_bytes().to_vec();
    list.extend((tail as u32).to_le_bytes());
    list.extend((entries.len() as u16).to_le_bytes());
    list.extend(body);
    list.push(0xff);
    list
}

/// Every encoding of a ziplist entry, and what it stands for.
fn ziplist_of_all() -> (Vec<u8>, Vec<String>) {
    let long = "x".repeat(300);
    let longer = "y".repeat(20_000);
    let mut medium = (0x4000u16 | 300).to_be_bytes().to_vec();
    medium.extend(long.as_bytes());
    let mut large = vec![0x80];
    large.extend(20_000u32.to_be_bytes());
    large.extend(longer.as_bytes());
    let list = ziplist(&[
        b"\x03abc",
        &medium,
        &large,
        b"\xfe\x80",
        b"\xc0\x00\x80",
        b"\xf0\xff\xff\x7f",
        b"\xd0\x00\x00\x00\x80",
        b"\xe0\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xf1",
        b"\xfd",
    ]);
    let numbers = ["-128", "-32768", "8388607", "-2147483648", "9223372036854775807", "0", "12"];
    let head = ["abc".to_owned(), long, longer];
    (list, head.into_iter().chain(numbers.map(str::to_owned)).collect())
}

#[test]
fn encodings_of_old_versions() {
    let (list, expected) = ziplist_of_all();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let all = Object::List(bytes(&expected));
    assert_eq!(value_of(6, LIST_ZIPLIST, &text(&list)).as_ref(), Ok(&all));

    let mut quicklist = vec![2];
    quicklist.extend(text(&ziplist(&[b"\x01a"])));
    quicklist.extend(text(&ziplist(&[b"\x01b", b"\xf2"])));
    let expected = Object::List(bytes(&["a", "b", "1"]));
    assert_eq!(value_of(9, LIST_QUICKLIST, &quicklist), Ok(expected));

    let hash = Object::Hash(pairs(&[("f", "v"), ("n", "1")]));
    let list = ziplist(&[b"\x01f", b"\x01v", b"\x01n", b"\xf2"]);
    assert_eq!(value_of(9, HASH_ZIPLIST, &text(&list)).as_ref(), Ok(&hash));
    // The value of `f` has two free bytes behind it; the length of `n` takes the long form.
    let zipmap = b"\x02\x01f\x01\x02v..\xfe\x01\0\0\0n\x01\x001\xff";
    assert_eq!(value_of(3, HASH_ZIPMAP, &text(zipmap)).as_ref(), Ok(&hash));

    let zset = Object::ZSet(vec![("a".into(), 1.0), ("b".into(), 2.5)]);
    let list = ziplist(&[b"\x01a", b"\xf2", b"\x01b", b"\x032.5"]);
    assert_eq!(value_of(9, ZSET_ZIPLIST, &text(&list)), Ok(zset));
    let infinite = b"\x03\x01a\xfe\x01b\xff\x01c\x0417.5";
    let zset =
        vec![("a".into(), f64::INFINITY), ("b".into(), f64::NEG_INFINITY), ("c".into(), 17.5)];
    assert_eq!(value_of(4, ZSET, infinite), Ok(Object::ZSet(zset)));

    let intset = b"\x04\0\0\0\x02\0\0\0\xff\xff\xff\xff\x00\x00\x01\x00";
    assert_eq!(value_of(9, SET_INTSET, &text(intset)), Ok(Object::Set(bytes(&["-1", "65536"]))));

    let numbers = [
        (&b"\xc0\x80"[..], "-128"),
        (b"\xc1\x00\x80", "-32768"),
        (b"\xc2\0\0\0\x80", "-2147483648"),
    ];
    for (body, expected) in numbers {
        assert_eq!(value_of(9, STRING, body), Ok(Object::String(expected.into())));
    }
    assert_eq!(
        value_of(9, STRING, b"\xc3\x05\x0b\0x\xe0\x01\0"),
        Ok(Object::String("xxxxxxxxxxx".into()))
    );
}

#[test]
fn encodings_of_new_versions() {
    let mut set = ListpackWriter::new();
    let numbers = [0, 127, 128, -1, 4095, -4096, 4096, -32_768, 1 << 20, -(1 << 30), i64::MIN];
    numbers.iter().for_each(|number| set.number(*number));
    let long = ["s".repeat(63), "m".repeat(64), "m".repeat(4095), "l".repeat(4096)];
    long.iter().for_each(|long| set.text(long.as_bytes()));
    let expected = numbers.iter().map(i64::to_string).chain(long.iter().cloned()).map(Bytes::from);
    let expected = Object::Set(expected.collect());
    assert_eq!(value_of(11, SET_LISTPACK, &text(&set.finish())), Ok(expected));

    let mut node = ListpackWriter::new();
    node.text(b"packed");
    let mut quicklist = vec![2, 1];
    quicklist.extend(text(b"plain"));
    quicklist.push(2);
    quicklist.extend(text(&node.finish()));
    let expected = Object::List(bytes(&["plain", "packed"]));
    assert_eq!(value_of(10, LIST_QUICKLIST_2, &quicklist), Ok(expected));
}

#[test]
fn hashes_with_expiring_fields_are_kept_as_dumps() {
    let mut body = 1_900_000_000_000u64.to_le_bytes().to_vec();
    body.extend(b"\x02\x00\x01f\x01v\x01\x01g\x01w");
    let mut pack = ListpackWriter::new();
    [&b"f"[..], b"v"].iter().for_each(|word| pack.text(word));
    pack.number(0);
    let mut packed = 1_900_000_000_000u64.to_le_bytes().to_vec();
    packed.extend(text(&pack.finish()));
    for (type_byte, body) in [
        (HASH_METADATA, &body[..]),
        (HASH_METADATA_PRE_GA, &body[8..]),
        (HASH_LISTPACK_EX, &packed),
        (HASH_LISTPACK_EX_PRE_GA, &packed[8..]),
    ] {
        let value = value_of(12, type_byte, body).expect("kept");
        let Object::Opaque { type_byte: kept, dump } = &value else { panic!("{value:?}") };
        assert_eq!((*kept, dump[0], value.type_name()), (type_byte, type_byte, "hash"));
        assert_eq!(&dump[1..dump.len() - 10], body);
        assert_eq!(dump[dump.len() - 10..dump.len() - 8], 12u16.to_le_bytes());
        assert_eq!(decode_dump(dump).as_ref(), Ok(&value));
        assert_eq!(encode_dump(&value), *dump);
    }
}

#[test]
fn modules_are_skipped_without_knowing_them() {
    // Id, then signed, unsigned, float, double, string, end.
    let parts = b"\x01\x05\x02\x40\xff\x03abcd\x04abcdefgh\x05\x03xyz\x00";
    let mut body = b"\x81\x01\x02\x03\x04\x05\x06\x07\x08".to_vec();
    body.extend(parts);
    let value = value_of(9, MODULE_2, &body).expect("kept");
    assert!(matches!(&value, Object::Opaque { dump, .. } if dump[1..dump.len() - 10] == body));
    assert_eq!(value.type_name(), "module");

    let mut file = b"REDIS0009\xf7\x01\x02\x01".to_vec();
    file.extend(parts);
    file.extend(
        b"\xfe\x02\xfb\x01\x00\xf8\x05\xf9\x07\xfd\x01\0\0\0\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0rest",
    );
    let mut decoder = Decoder::new();
    decoder.push(&file);
    let items: Vec<Item> = std::iter::from_fn(|| decoder.next().expect("valid")).collect();
    let key =
        Item::Key { key: "k".into(), expire_at_ms: Some(1000), value: Object::String("v".into()) };
    let resize = Item::ResizeDb { keys: 1, expires: 0 };
    let end = Item::End { checksummed: false };
    assert_eq!(items, [Item::ModuleAux, Item::SelectDb(2), resize, key, end]);
    assert_eq!(decoder.take_rest(), &b"rest"[..]);
    assert_eq!(
        value_of(9, MODULE_PRE_GA, b"\0").expect_err("unknown").kind,
        RdbErrorKind::ModuleVersion1
    );
}

#[test]
fn streams_before_redis_7_and_since_7_2() {
    let mut node = ListpackWriter::new();
    [1, 0, 1].iter().for_each(|number| node.number(*number));
    node.text(b"f");
    [0, 2, 0, 0].iter().for_each(|number| node.number(*number));
    node.text(b"v");
    node.number(4);
    let raw_id = [&[0; 7][..], &[5], &[0; 7], &[1]].concat();
    let head = [&[1][..], &text(&raw_id), &text(&node.finish()), &[1]].concat();
    let time = 77i64.to_le_bytes();
    let pending = [&[1][..], &raw_id, &time, &[3]].concat();
    let group = [&b"\x01\x01g\x05\x01"[..], &pending, b"\x01\x01c", &time, &[1], &raw_id].concat();
    let old = [&head[..], &[5, 1], &group].concat();
    let id = StreamId { ms: 5, seq: 1 };
    let mut expected = StreamObject {
        entries: vec![StreamEntry { id, fields: pairs(&[("f", "v")]) }],
        last_id: id,
        first_id: id,
        max_deleted_id: StreamId::default(),
        entries_added: 1,
        groups: vec![StreamGroup {
            name: "g".into(),
            last_id: id,
            entries_read: Some(1),
            pending: vec![PendingEntry {
                id,
                consumer: "c".into(),
                delivery_time_ms: 77,
                delivery_count: 3,
            }],
            consumers: vec![StreamConsumer {
                name: "c".into(),
                seen_time_ms: 77,
                active_time_ms: None,
            }],
        }],
    };
    assert_eq!(value_of(9, STREAM_LISTPACKS, &old), Ok(Object::Stream(expected.clone())));

    let unknown = [&[0x81][..], &[0xff; 8]].concat();
    let active = 78i64.to_le_bytes();
    let group = [
        &b"\x01\x01g\x05\x01"[..],
        &unknown,
        &pending,
        b"\x01\x01c",
        &time,
        &active,
        &[1],
        &raw_id,
    ];
    let new = [&head[..], &[5, 1, 5, 1, 4, 9, 12], &group.concat()].concat();
    expected.max_deleted_id = StreamId { ms: 4, seq: 9 };
    expected.entries_added = 12;
    expected.groups[0].entries_read = None;
    expected.groups[0].consumers[0].active_time_ms = Some(78);
    assert_eq!(value_of(11, STREAM_LISTPACKS_3, &new), Ok(Object::Stream(expected)));
}

#[test]
fn what_is_no_rdb_is_named() {
    let error = |file: &[u8]| {
        let mut decoder = Decoder::new();
        decoder.push(file);
        loop {
            match decoder.next() {
                Ok(Some(_)) => {}
                Ok(None) => return decoder.finish().expect_err("bad").to_string(),
                Err(error) => {
                    assert_eq!(decoder.next(), Err(error.clone()), "an error is final");
                    return error.to_string();
                }
            }
        }
    };
    assert!(error(b"HTTP/1.1 200 OK").contains("not an RDB file"));
    assert!(error(b"VALKEY080\xff").contains("RDB version 80 is not supported"));
    assert!(error(b"REDIS0013\xff").contains("RDB version 13 is not supported"));
    assert_eq!(
        error(b"REDIS0011\xf6"),
        "at byte 9: functions of a Redis 7.0 release candidate are not supported"
    );
    assert_eq!(error(b"REDIS0011\x1e\x01k"), "at byte 9: type byte 30 is not known");
    assert!(error(b"REDIS0011\xff\x01\0\0\0\0\0\0\0").contains("the file says 0000000000000001"));
    assert_eq!(
        error(b"REDIS0011\x01\x01k\x02\x01a"),
        "at byte 15: the RDB ends too early, inside a value"
    );
    // Four gigabytes by the header alone.
    let mut decoder = Decoder::new();
    decoder.push(b"REDIS0011\x00\x01k\x80\xff\xff\xff\xffabc");
    assert_eq!(decoder.next(), Ok(None));
    // Lists, sets and hashes that cannot be.
    for (type_byte, body) in [
        (SET, &b"\x02\x01a\x01a"[..]),
        (HASH, b"\x02\x01a\x01b\x01a\x01c"),
        (ZSET_2, b"\x01\x01a\0\0\0\0\0\0\xf8\x7f"),
        (SET_INTSET, b"\x08\x02\0\0\0\xff\0\0\0"),
        (LIST_ZIPLIST, b"\x03abc"),
        (HASH_LISTPACK, b"\x09\x09\0\0\0\x01\0\x01\x01\xff"),
        (STREAM_LISTPACKS, b"\0\x05\x01\0\0"),
    ] {
        let error = value_of(9, type_byte, body).expect_err("impossible");
        assert_eq!(error.offset, 14, "{type_byte}: {error}");
    }
    // Redis leaves out keys without elements on loading; RESTORE refuses them.
    let items = one_key(9, SET, b"\0").expect("skipped");
    assert_eq!(items, [Item::End { checksummed: true }]);
    let refused = decode_dump(&dump::seal_dump(SET, b"\0", 9)).expect_err("empty");
    assert_eq!(refused.restore_reply(), "ERR Bad data format");
    let mut payload = encode_dump(&Object::String("v".into())).to_vec();
    payload[1] ^= 1;
    let refused = decode_dump(&payload).expect_err("checksum");
    assert_eq!(refused.restore_reply(), "ERR DUMP payload version or checksum are wrong");
    let newer = decode_dump(&dump::seal_dump(STRING, b"\x01v", 13)).expect_err("version");
    assert_eq!(newer.kind, RdbErrorKind::DumpFooter);
    assert_eq!(decode_dump(b"").expect_err("nothing").kind, RdbErrorKind::DumpFooter);
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::collection::vec(any::<u8>(), 60..70),
        "[0-9]{1,19}".prop_map(String::into_bytes),
    ]
    .prop_map(Bytes::from)
}

fn any_stream() -> impl Strategy<Value = StreamObject> {
    let fields = proptest::collection::vec((any_bytes(), any_bytes()), 1..4);
    let entries = proptest::collection::vec((1..1u64 << 40, 0..u64::MAX, fields), 0..250);
    (entries, any::<u32>(), proptest::option::of(0..1u64 << 40)).prop_map(
        |(entries, extra, entries_read)| {
            let mut ms = 0;
            let entries: Vec<StreamEntry> = entries
                .into_iter()
                .map(|(step, seq, fields)| {
                    ms += step;
                    StreamEntry { id: StreamId { ms, seq }, fields }
                })
                .collect();
            let name = Bytes::from_static(b"consumer");
            let pending = entries.iter().step_by(3).map(|entry| PendingEntry {
                id: entry.id,
                consumer: name.clone(),
                delivery_time_ms: extra.into(),
                delivery_count: 2,
            });
            let consumer =
                StreamConsumer { name: name.clone(), seen_time_ms: -1, active_time_ms: None };
            let last_id = entries.last().map(|entry| entry.id).unwrap_or_default();
            let group = StreamGroup {
                name: Bytes::from_static(b"group"),
                last_id,
                entries_read,
                pending: pending.collect(),
                consumers: vec![consumer],
            };
            StreamObject {
                last_id,
                first_id: entries.first().map(|entry| entry.id).unwrap_or_default(),
                max_deleted_id: StreamId { ms: 0, seq: extra.into() },
                entries_added: entries.len() as u64 + u64::from(extra),
                entries,
                groups: vec![group],
            }
        },
    )
}

fn any_object() -> impl Strategy<Value = Object> {
    let set = proptest::collection::hash_set(any_bytes(), 1..50);
    let zset = proptest::collection::hash_map(any_bytes(), -1e300..1e300f64, 1..50);
    let hash = proptest::collection::hash_map(any_bytes(), any_bytes(), 1..50);
    prop_oneof![
        any_bytes().prop_map(Object::String),
        proptest::collection::vec(any_bytes(), 1..50).prop_map(Object::List),
        set.prop_map(|set| Object::Set(set.into_iter().collect())),
        zset.prop_map(|zset| Object::ZSet(zset.into_iter().collect())),
        hash.prop_map(|hash| Object::Hash(hash.into_iter().collect())),
        any_stream().prop_map(Object::Stream),
    ]
}

const TYPES: [u8; 24] = [
    STRING,
    LIST,
    SET,
    ZSET,
    HASH,
    ZSET_2,
    MODULE_2,
    HASH_ZIPMAP,
    LIST_ZIPLIST,
    SET_INTSET,
    ZSET_ZIPLIST,
    HASH_ZIPLIST,
    LIST_QUICKLIST,
    STREAM_LISTPACKS,
    HASH_LISTPACK,
    ZSET_LISTPACK,
    LIST_QUICKLIST_2,
    STREAM_LISTPACKS_2,
    SET_LISTPACK,
    STREAM_LISTPACKS_3,
    HASH_METADATA_PRE_GA,
    HASH_LISTPACK_EX_PRE_GA,
    HASH_METADATA,
    HASH_LISTPACK_EX,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn values_survive_encoding(object in any_object()) {
        prop_assert_eq!(decode_dump(&encode_dump(&object)), Ok(object));
    }

    #[test]
    fn damaged_values_never_panic(
        object in any_object(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let payload = encode_dump(&object);
        let mut body = payload[1..payload.len() - 10].to_vec();
        for (at, bit) in flips {
            let at = at.index(body.len());
            body[at] ^= 1u8 << bit;
        }
        let _ = decode_dump(&dump::seal_dump(payload[0], &body, 10));
        body.truncate(cut.index(body.len()));
        let _ = decode_dump(&dump::seal_dump(payload[0], &body, 10));
    }

    #[test]
    fn random_bodies_never_panic(
        type_byte in prop::sample::select(&TYPES[..]),
        body in proptest::collection::vec(prop_oneof![0..8u8, any::<u8>()], 0..200),
    ) {
        let _ = decode_dump(&dump::seal_dump(type_byte, &body, 10));
        // The same within a string, where the compact encodings lie; with a right length before it.
        let mut packed = body.clone();
        let total = (packed.len() as u32).to_le_bytes();
        packed.iter_mut().zip(total).for_each(|(to, from)| *to = from);
        let _ = decode_dump(&dump::seal_dump(type_byte, &text(&packed), 10));
        let node = [&[1][..], &text(&[0; 16]), &text(&packed), &body].concat();
        let _ = decode_dump(&dump::seal_dump(STREAM_LISTPACKS_2, &node, 10));
    }
}
