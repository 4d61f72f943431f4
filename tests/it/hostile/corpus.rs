//! Every frame of the corpus, in every split, through the proxy and straight to Redis.

use std::sync::Mutex;

use support::{Redis, Tandem};

use super::exchange;
use super::malformed::{LOCKED, OPEN};

const PROBE: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The replies without what names one connection: the id in the reply to HELLO.
fn comparable(answer: &[u8]) -> Vec<u8> {
    let mark: &[u8] = b"$2\r\nid\r\n:";
    let mut out = answer.to_vec();
    if let Some(at) = answer.windows(mark.len()).position(|window| window == mark) {
        let from = at + mark.len();
        let digits = answer[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        out.drain(from..from + digits);
    }
    out
}

fn compare(redis: &Redis, tandem: &Tandem, corpus: &[&[u8]]) {
    let jobs: Vec<(Vec<u8>, Vec<u8>)> = corpus
        .iter()
        .map(|frame| {
            let bytes = [frame, PROBE].concat();
            let expected = comparable(&exchange(redis.port(), &[&bytes]));
            (bytes, expected)
        })
        .collect();
    let splits = jobs.iter().flat_map(|job| (0..job.0.len()).map(move |at| (job, at)));
    let splits = Mutex::new(splits.collect::<Vec<_>>());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(((bytes, expected), at)) = splits.lock().expect("lock").pop() else {
                        return;
                    };
                    let (first, second) = bytes.split_at(at);
                    let answer = comparable(&exchange(tandem.port(), &[first, second]));
                    if answer != *expected {
                        let line = format!(
                            "{} | {}: expected {}, got {}",
                            first.escape_ascii(),
                            second.escape_ascii(),
                            expected.escape_ascii(),
                            answer.escape_ascii()
                        );
                        wrong.lock().expect("lock").push(line);
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("lock");
    wrong.sort();
    let count = wrong.len();
    wrong.truncate(60);
    assert!(wrong.is_empty(), "{count} differences\n{}", wrong.join("\n"));
}

#[test]
fn malformed_frames_are_answered_as_redis_answers_them() {
    let redis = Redis::start();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .mode("redis_only")
        // Redis's own bound; Tandem's default is lower.
        .set("limits", "max_array", i64::from(i32::MAX))
        .allow("security attack")
        .start();
    compare(&redis, &tandem, OPEN);
}

#[test]
fn before_authentication_nothing_reaches_redis() {
    let redis = Redis::options().with("requirepass", "secret").start();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .mode("redis_only")
        .allow("security attack")
        .start();
    compare(&redis, &tandem, LOCKED);
    let clients = redis.client().run("CLIENT LIST").text();
    assert!(clients.lines().filter(|line| line.contains("name=tandem")).count() < 20, "{clients}");
}

/// Frames whose size is the point: too large to try every split.
#[test]
fn large_malformed_frames_are_answered_as_redis_answers_them() {
    let redis = Redis::start();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only").start();
    let long = |start: &[u8], byte: u8, length: usize| [start, &vec![byte; length]].concat();
    let words = |count: usize| {
        let mut frame = format!("*{count}\r\n$4\r\nECHO\r\n").into_bytes();
        frame.extend(b"$1\r\nx\r\n".repeat(count - 1));
        frame
    };
    let frames = [
        b"*1\r\n".repeat(100_000),
        b"*2\r\n$4\r\nECHO\r\n".iter().copied().chain(b"*1\r\n".repeat(100_000)).collect(),
        long(b"", b'a', 70_000),
        long(b"*", b'1', 70_000),
        long(b"*1\r\n$", b'1', 70_000),
        long(b"*1\r\n", b'$', 70_000),
        long(b"\"", b'a', 70_000),
        words(100_000),
        [&b"\r\n".repeat(50_000)[..], PROBE].concat(),
        [&b"*0\r\n".repeat(50_000)[..], PROBE].concat(),
        b"PING\r\n".repeat(20_000),
    ];
    for bytes in frames {
        let expected = exchange(redis.port(), &[&bytes]);
        for split in [0, 1, 16 * 1024, 65_000, 65_536, bytes.len() - 3] {
            let (first, second) = bytes.split_at(split.min(bytes.len()));
            let answer = exchange(tandem.port(), &[first, second]);
            let start = &bytes[..bytes.len().min(20)];
            // A reset may overtake the error when more comes than is read.
            let lost = answer.is_empty() && expected.starts_with(b"-ERR Protocol error");
            assert!(
                answer == expected || lost,
                "{}… split at {split}: expected {}, got {}",
                start.escape_ascii(),
                expected[..expected.len().min(200)].escape_ascii(),
                answer[..answer.len().min(200)].escape_ascii()
            );
        }
    }
}
