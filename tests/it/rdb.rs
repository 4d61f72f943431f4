//! The RDB codec against a real Redis.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{Redis, Value, seed};
use tandem::rdb::{Decoder, Item, RdbError, decode_dump, encode_dump};

use crate::rdb_values::{Maker, by_commands, sorted};

fn redis() -> Redis {
    Redis::options().with("enable-debug-command", "yes").start()
}

#[test]
fn dumps_decode_and_what_is_encoded_restores_to_the_same_value() {
    let redis = redis();
    let mut client = redis.client();
    let mut maker = Maker::new(seed(11), redis.client());
    for at in 0..400 {
        let key = format!("key:{at}");
        maker.make(&key);
        // The digest counts an expiry time in, DUMP leaves it out.
        client.run(&format!("PERSIST {key}"));
        let dump = client.call(["DUMP", &key]).bytes().to_vec();
        let object = decode_dump(&dump).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(sorted(object.clone()), by_commands(&mut client, key.as_bytes()), "{key}");
        let payload = encode_dump(&object);
        assert_eq!(decode_dump(&payload).as_ref(), Ok(&object), "{key}");
        let restore = [&b"RESTORE"[..], b"copy", b"0", &payload, b"REPLACE"];
        assert_eq!(client.call(restore), Value::ok(), "{key}: {object:?}");
        let digests = client.call(["DEBUG", "DIGEST-VALUE", &key, "copy"]).items();
        assert_eq!(digests[0], digests[1], "{key}");
        assert_eq!(by_commands(&mut client, b"copy"), sorted(object), "{key}");
    }
}

#[test]
fn a_saved_file_decodes_in_any_pieces() {
    let seed = seed(12);
    let redis = redis();
    let mut client = redis.client();
    let mut maker = Maker::new(seed, redis.client());
    (0..150).for_each(|at| maker.make(&format!("key:{at}")));
    let library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    assert_eq!(client.call(["FUNCTION", "LOAD", library]), Value::bulk("lib"));
    client.run("SELECT 3");
    client.run("SET other 1");
    redis.save();
    let file = std::fs::read(redis.dir().join("dump.rdb")).expect("dump.rdb");

    let items = decode(&file, &[file.len()]).expect("whole");
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..5 {
        let longest = rng.random_range(1..5000);
        let sizes: Vec<usize> = (0..64).map(|_| rng.random_range(1..=longest)).collect();
        assert!(decode(&file, &sizes).as_ref() == Ok(&items), "pieces {sizes:?}");
    }

    let mut db = 0;
    let mut keys = 0;
    for item in &items {
        match item {
            Item::SelectDb(number) => {
                db = *number;
                client.run(&format!("SELECT {db}"));
            }
            Item::Key { key, expire_at_ms, value } => {
                keys += 1;
                let name = String::from_utf8_lossy(key);
                assert_eq!(sorted(value.clone()), by_commands(&mut client, key), "{db} {name}");
                let expire = client.call([&b"PEXPIRETIME"[..], key]).int();
                assert_eq!(expire_at_ms.unwrap_or(-1), expire, "{name}");
            }
            _ => {}
        }
    }
    assert_eq!(keys, 151);
    assert_eq!(db, 3);
    assert!(items.contains(&Item::ResizeDb { keys: 1, expires: 0 }));
    assert!(items.contains(&Item::Function(library.into())));
    assert_eq!(items.last(), Some(&Item::End { checksummed: true }));
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let seed = seed(13);
    let redis = redis();
    let mut maker = Maker::new(seed, redis.client());
    (0..12).for_each(|at| maker.make(&format!("key:{at}")));
    redis.save();
    let file = std::fs::read(redis.dir().join("dump.rdb")).expect("dump.rdb");
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..40 {
        let cut = rng.random_range(0..file.len());
        let error = decode(&file[..cut], &[4096]).expect_err("truncated");
        assert!(error.to_string().contains("ends too early"), "cut at {cut}: {error}");
        let mut flipped = file.clone();
        let (at, bit) = (rng.random_range(0..file.len()), rng.random_range(0..8));
        flipped[at] ^= 1 << bit;
        decode(&flipped, &[4096]).expect_err("the checksum covers every byte");
    }
}

/// Decodes `file` in pieces of these sizes, over and over.
fn decode(file: &[u8], sizes: &[usize]) -> Result<Vec<Item>, RdbError> {
    let mut decoder = Decoder::new();
    let mut items = Vec::new();
    let mut rest = file;
    for size in sizes.iter().cycle() {
        let (piece, tail) = rest.split_at((*size).min(rest.len()));
        decoder.push(piece);
        while let Some(item) = decoder.next()? {
            items.push(item);
        }
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    decoder.finish()?;
    Ok(items)
}
