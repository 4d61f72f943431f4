//! Reads of values much larger than what may be in memory: only what they answer is loaded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Client, Postgres, Redis, Tandem, Value, seed};

use crate::served::{options, wait_ready};

type Words = Vec<Vec<u8>>;

/// Elements that a value begins with: more than are loaded as a whole.
const ELEMENTS: usize = 3000;

fn words(line: &str) -> Words {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn member(rng: &mut StdRng) -> Vec<u8> {
    let number: u16 = rng.random_range(0..5000);
    match rng.random_range(0..10) {
        0 => number.to_be_bytes().to_vec(),
        1 => [&b"\xff\0"[..], &number.to_le_bytes()].concat(),
        // Up to what the index holds as it is.
        2 => vec![b'x'; usize::from(number % 999)],
        _ => format!("member{number}").into_bytes(),
    }
}

/// Longer than what the index orders, with a common beginning.
fn long_member(rng: &mut StdRng) -> Vec<u8> {
    let mut long = vec![b'l'; rng.random_range(995..1030)];
    long.extend(rng.random_range(0..300u16).to_be_bytes());
    long
}

fn score(rng: &mut StdRng) -> String {
    match rng.random_range(0..12) {
        0 => "-inf".into(),
        1 => "inf".into(),
        2 => "-0".into(),
        3 => "5e-324".into(),
        _ => (f64::from(rng.random_range(-40..40)) / 4.0).to_string(),
    }
}

fn bound(rng: &mut StdRng) -> String {
    let open = if rng.random_bool(0.4) { "(" } else { "" };
    format!("{open}{}", score(rng))
}

fn index(rng: &mut StdRng) -> i64 {
    let most = ELEMENTS as i64 + 200;
    rng.random_range(-most..most)
}

fn stream_id(rng: &mut StdRng) -> String {
    match rng.random_range(0..8) {
        0 => "-".into(),
        1 => "+".into(),
        2 => format!("({}", rng.random_range(1..ELEMENTS)),
        _ => format!("{}-{}", rng.random_range(1..ELEMENTS + 100), rng.random_range(0..3)),
    }
}

fn change(rng: &mut StdRng, next_id: &mut usize) -> Words {
    let key = if rng.random_ratio(1, 4) { "long" } else { "zset" };
    match rng.random_range(0..13) {
        9 => words(&format!("ZPOPMIN {key} {}", rng.random_range(0..4))),
        10 => words(&format!("ZPOPMAX {key}")),
        11 => {
            let start = index(rng);
            words(&format!("ZREMRANGEBYRANK {key} {start} {}", start + rng.random_range(0..5)))
        }
        12 => words(&format!("ZRANGESTORE few {key} {} inf BYSCORE LIMIT 3 5", bound(rng))),
        0..2 => {
            let (key, member) = match rng.random_range(0..3) {
                0 => ("long", long_member(rng)),
                _ => ("zset", member(rng)),
            };
            vec![b"ZADD".to_vec(), key.into(), score(rng).into(), member]
        }
        2 => vec![b"ZREM".to_vec(), b"zset".to_vec(), member(rng)],
        3 => vec![b"RPUSH".to_vec(), b"list".to_vec(), member(rng)],
        4 => words("LPOP list"),
        5 => words(&format!("LSET list {} changed", rng.random_range(0..ELEMENTS / 2))),
        6 => words("RENAME list list2"),
        7 => words("RENAME list2 list"),
        _ => {
            *next_id += 1;
            words(&format!("XADD stream {next_id}-1 field value{next_id}"))
        }
    }
}

fn read(rng: &mut StdRng) -> Words {
    let key = if rng.random_ratio(1, 4) { "long" } else { "zset" };
    let list = if rng.random_bool(0.5) { "list" } else { "list2" };
    let (start, behind) = (index(rng), rng.random_range(0..60));
    let stop = if rng.random_bool(0.8) { start + behind } else { index(rng) };
    let (min, max) = (bound(rng), bound(rng));
    let limit = match rng.random_range(0..3) {
        0 => String::new(),
        1 => format!(" LIMIT {} {}", rng.random_range(-1..500), rng.random_range(-1..40)),
        _ => format!(" LIMIT 0 {}", rng.random_range(0..20)),
    };
    let with = if rng.random_bool(0.5) { " WITHSCORES" } else { "" };
    let count = match rng.random_ratio(1, 5) {
        true => String::new(),
        false => format!(" COUNT {}", rng.random_range(0..30)),
    };
    let line = match rng.random_range(0..14) {
        0 => format!("ZRANGE {key} {start} {stop}{with}"),
        1 => format!("ZRANGE {key} {start} {stop} REV{with}"),
        2 => format!("ZREVRANGE {key} {start} {stop}{with}"),
        3 => format!("ZRANGEBYSCORE {key} {min} {max}{with}{limit}"),
        4 => format!("ZREVRANGEBYSCORE {key} {max} {min}{with}{limit}"),
        5 => format!("ZRANGE {key} {max} {min} BYSCORE REV{limit}{with}"),
        6 => format!("ZCOUNT {key} {min} {max}"),
        7 | 8 => {
            let name = if rng.random_bool(0.5) { "ZRANK" } else { "ZREVRANK" };
            let member = if key == "long" { long_member(rng) } else { member(rng) };
            return vec![name.into(), key.into(), member];
        }
        9 => format!("LINDEX {list} {start}"),
        10 => format!("LRANGE {list} {start} {stop}"),
        11 => format!("ZCARD {key}"),
        12 => format!("XRANGE stream {} {}{count}", stream_id(rng), stream_id(rng)),
        _ => format!("XREVRANGE stream {} {}{count}", stream_id(rng), stream_id(rng)),
    };
    words(&line)
}

/// Several commands as a transaction or, for the proxy and Redis alike, a script.
fn together(rng: &mut StdRng, commands: &[Words]) -> Vec<Words> {
    if rng.random_bool(0.5) {
        return [&[words("MULTI")], commands, &[words("EXEC")]].concat();
    }
    let script = "local replies, i = {}, 1 \
        while ARGV[i] do \
        local command = {} \
        for j = 1, ARGV[i] do command[j] = ARGV[i + j] end \
        i = i + 1 + #command \
        local reply = redis.pcall(unpack(command)) \
        replies[#replies + 1] = type(reply) == 'table' and reply.err or reply \
        end \
        return replies";
    let mut call = vec![b"EVAL".to_vec(), script.into(), b"0".to_vec()];
    for command in commands {
        call.push(command.len().to_string().into_bytes());
        call.extend_from_slice(command);
    }
    vec![call]
}

fn shown(command: &Words) -> String {
    command.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// Random reads by rank, score, index and id between random changes, alone and several together.
#[test]
fn windows_show_what_redis_shows() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let options = options(&postgres).allow("PostgreSQL is not reachable");
    let tandem = options.set("mirror", "cache_bytes", 20_000).start();
    wait_ready(&tandem);
    let mut rng = StdRng::seed_from_u64(seed(rand::random()));
    let (mut theirs, mut ours) = (redis.client(), tandem.client());
    let mut next_id = 0;
    let mut start: Vec<Words> = Vec::new();
    for _ in 0..ELEMENTS / 100 {
        let (mut zset, mut long) = (words("ZADD zset"), words("ZADD long"));
        let mut list = words("RPUSH list");
        for n in 0..100 {
            zset.extend([score(&mut rng).into_bytes(), member(&mut rng)]);
            let one = if n < 20 { long_member(&mut rng) } else { member(&mut rng) };
            long.extend([score(&mut rng).into_bytes(), one]);
            list.push(member(&mut rng));
            next_id += 1;
            start.push(words(&format!("XADD stream {next_id}-1 field value{next_id}")));
        }
        start.extend([zset, long, list]);
    }
    let ask = |client: &mut Client, batch: &[Words]| client.pipeline(batch.to_vec());
    for batch in start.chunks(200) {
        assert_eq!(ask(&mut ours, batch), ask(&mut theirs, batch));
    }
    for step in 0..600 {
        let batch = match rng.random_range(0..6) {
            0 => vec![change(&mut rng, &mut next_id)],
            1 => {
                let several: Vec<Words> = (0..rng.random_range(2..7))
                    .map(|_| match rng.random_ratio(1, 4) {
                        true => change(&mut rng, &mut next_id),
                        false => read(&mut rng),
                    })
                    .collect();
                together(&mut rng, &several)
            }
            _ => vec![read(&mut rng)],
        };
        let (expected, answered) = (ask(&mut theirs, &batch), ask(&mut ours, &batch));
        let batch: Vec<String> = batch.iter().map(shown).collect();
        assert_eq!(answered, expected, "step {step}: {}", batch.join("\n"));
    }
}

/// Elements of each value in [`cold`]. As a whole each takes more than the memory that may be used.
const MANY: usize = 200_000;

/// A proxy that has just started on a PostgreSQL with large values: `hash`, `zset`, `list` and `stream`.
fn cold(postgres: &Postgres) -> Tandem {
    let options = options(postgres).allow("PostgreSQL is not reachable");
    let mut tandem = options.set("mirror", "cache_bytes", 1 << 20).start();
    wait_ready(&tandem);
    tandem.stop(Duration::from_secs(30));
    let many = |into: &str, values: &str| {
        format!("INSERT INTO {into} SELECT {values} FROM generate_series(0, {MANY} - 1) n;")
    };
    let key = |id: usize, kind: usize, name: &str| {
        format!(
            "INSERT INTO keys (id, db, key, kind, len, version) VALUES ({id}, 0, '{name}', {kind}, {MANY}, 1);"
        )
    };
    postgres.sql(&format!(
        "SET search_path = tandem; {} {} {} {} {} {} {} {}
         INSERT INTO streams VALUES (1000004, {MANY}, 1, 0, 0, {MANY}); ANALYZE;",
        key(1_000_001, 5, "hash"),
        many("hashes", "1000001, ('field' || n)::bytea, ('value' || n)::bytea"),
        key(1_000_002, 4, "zset"),
        many("zsets", "1000002, ('member' || n)::bytea, n"),
        key(1_000_003, 2, "list"),
        many("lists", "1000003, 3 * n, ('element' || n)::bytea"),
        key(1_000_004, 6, "stream"),
        many("stream_entries", "1000004, n + 1, 1, ARRAY['field', 'value' || n]::bytea[]"),
    ));
    tandem.spawn();
    wait_ready(&tandem);
    tandem
}

#[test]
fn reads_of_large_values_load_what_they_answer() {
    let postgres = Postgres::start();
    let tandem = cold(&postgres);
    let mut client = tandem.client();
    client.run("GET warm");
    let before = tandem.process().resident_bytes();
    let members = |range: &mut dyn Iterator<Item = usize>| {
        Value::bulks(range.map(|n| format!("member{n}")).collect::<Vec<_>>())
    };
    let entry = |n: usize| {
        let fields = Value::bulks(["field".to_owned(), format!("value{n}")]);
        Value::Array(vec![Value::bulk(format!("{}-1", n + 1)), fields])
    };
    let middle = MANY / 2;
    let cases = [
        ("HGET hash field77777".to_owned(), Value::bulk("value77777")),
        ("ZRANGE zset 0 9".into(), members(&mut (0..10))),
        ("ZREVRANGE zset 0 9".into(), members(&mut (MANY - 10..MANY).rev())),
        (format!("ZRANGE zset {middle} {}", middle + 9), members(&mut (middle..middle + 10))),
        (
            format!("ZRANGEBYSCORE zset ({middle} +inf LIMIT 0 10"),
            members(&mut (middle + 1..middle + 11)),
        ),
        (format!("ZCOUNT zset 10 ({middle}"), Value::Int(middle as i64 - 10)),
        (format!("ZRANK zset member{middle}"), Value::Int(middle as i64)),
        (format!("LINDEX list {middle}"), Value::bulk(format!("element{middle}"))),
        (
            format!("LRANGE list -{middle} -{}", middle - 1),
            Value::bulks([format!("element{middle}"), format!("element{}", middle + 1)]),
        ),
        (
            format!("XRANGE stream {middle} + COUNT 10"),
            Value::Array((middle - 1..middle + 9).map(entry).collect()),
        ),
        (
            "XREVRANGE stream + - COUNT 10".into(),
            Value::Array((MANY - 10..MANY).rev().map(entry).collect()),
        ),
    ];
    for (command, expected) in cases {
        assert_eq!(client.run(&command), expected, "{command}");
    }
    let grown = tandem.process().resident_bytes().saturating_sub(before);
    println!("{} KiB more in memory", grown >> 10);
    // One of the values as a whole takes three times as much.
    assert!(grown < 6 << 20, "{} KiB more in memory", grown >> 10);
}

/// Whoever reads a large value that others change all the time gets an answer, and a right one.
#[test]
fn a_busy_writer_does_not_starve_the_reader() {
    let postgres = Postgres::start();
    let tandem = cold(&postgres);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut writer = tandem.client();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    writer.run("ZINCRBY zset 1 last");
                }
            });
        }
        let mut reader = tandem.client();
        reader.set_timeout(Duration::from_secs(60));
        for _ in 0..6 {
            assert_eq!(
                reader.run("ZRANGE zset 0 -1000000"),
                Value::Array(Vec::new()),
                "an empty range"
            );
            let seen = reader.run("ZRANGEBYSCORE zset 150000 150001");
            assert_eq!(seen, Value::bulks(["member150000", "member150001"]));
        }
        done.store(true, Ordering::Relaxed);
    });
}
