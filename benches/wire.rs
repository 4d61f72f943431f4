//! How fast the replication client takes in a stream and a snapshot, from a real Redis, without
//! anything behind it: `cargo bench --bench wire`.
#![allow(clippy::disallowed_methods, reason = "a measurement blocks its own thread only")]

use std::time::{Duration, Instant};

use support::{Client, Redis};
use tandem::config;
use tandem::mirror::replica::{Event, Replica, Resume};
use tandem::rdb::{Decoder, Item};

const ROUNDS: usize = 5;
const COMMANDS: i64 = 2_000_000;
const KEYS: usize = 1_000_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(stream());
    snapshot();
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn info(client: &mut Client, name: &str) -> String {
    let text = client.run("INFO replication").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect(name).to_owned()
}

/// Lets Redis send its whole backlog at once: `HINCRBY` of about 60 bytes each.
async fn stream() {
    let redis = Redis::options().with("repl-backlog-size", "512mb").start();
    let config = config::Redis { url: redis.url(), ..config::Redis::default() };
    let mut replica = Replica::connect(&config, None).await.expect("attached");
    let mut start = None;
    loop {
        match replica.next().await.expect("a snapshot") {
            Event::FullResync { replid, offset } => start = Some(Resume { replid, offset }),
            Event::Rdb(Item::End { .. }) => break,
            _ => {}
        }
    }
    drop(replica);
    let mut client = redis.client();
    client.set_timeout(Duration::from_secs(60));
    let script = "for n = 1, 20000 do redis.call('HINCRBY', KEYS[1], 'field' .. n % 100, n) end";
    (0..COMMANDS / 20_000).for_each(|_| drop(client.call(["EVAL", script, "1", "usage:key"])));
    let end: i64 = info(&mut client, "master_repl_offset").parse().expect("an offset");
    let bytes = end - start.as_ref().map_or(0, |start| start.offset);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut replica = Replica::connect(&config, start.clone()).await.expect("attached");
        let (mut at, mut commands) = (0, 0);
        while at < end {
            let mut event = Some(replica.next().await.expect("the stream"));
            while let Some(one) = event {
                match one {
                    Event::Command(command) => (at, commands) = (command.end_offset, commands + 1),
                    Event::KeepAlive { end_offset } => at = end_offset,
                    _ => {}
                }
                event = replica.try_next().expect("the stream");
            }
        }
        times.push(begin.elapsed());
        assert!(commands >= COMMANDS);
    }
    let seconds = median(times);
    println!(
        "stream: {:.2} million commands/s, {:.0} MB/s (Redis sending on another core)",
        COMMANDS as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6
    );
}

/// Decodes a saved file from memory in pieces of 64 KiB: half small strings, half hashes of ten fields.
fn snapshot() {
    let redis = Redis::options().with("enable-debug-command", "yes").start();
    let mut client = redis.client();
    client.set_timeout(Duration::from_secs(60));
    client.run(&format!("DEBUG POPULATE {} string 64", KEYS / 2));
    let script = "for n = 1, 10000 do local key = 'hash:' .. KEYS[1] .. ':' .. n \
        for f = 1, 10 do redis.call('HSET', key, 'field' .. f, n * f) end end";
    (0..KEYS / 20_000).for_each(|n| drop(client.call(["EVAL", script, "1", &n.to_string()])));
    redis.save();
    let file = std::fs::read(redis.dir().join("dump.rdb")).expect("dump.rdb");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let (mut decoder, mut keys) = (Decoder::new(), 0);
        for piece in file.chunks(64 * 1024) {
            decoder.push(piece);
            while let Some(item) = decoder.next().expect("valid") {
                keys += usize::from(matches!(item, Item::Key { .. }));
            }
        }
        decoder.finish().expect("whole");
        assert_eq!(keys, KEYS);
        times.push(begin.elapsed());
    }
    let seconds = median(times);
    println!(
        "snapshot: {:.2} million keys/s, {:.0} MB/s",
        KEYS as f64 / seconds / 1e6,
        file.len() as f64 / seconds / 1e6
    );
}
