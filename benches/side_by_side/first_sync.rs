//! The first sync of a million keys of all types into an empty PostgreSQL.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::compare::Sides;
use support::{Client, Postgres, Redis, encode};

use crate::report::{Report, median};
use crate::systems::binary;

const KEYS: u64 = 1_000_000;

pub fn million_keys(report: &mut Report, rounds: usize) {
    let redis = Redis::start();
    fill(&mut redis.client());
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    // A round takes half a minute, and differs little from the next.
    for _ in 0..rounds.min(3) {
        let postgres = Postgres::start();
        let start = Instant::now();
        let tandem = binary().redis(&redis).postgres(&postgres).mode("cache_first").start();
        let done = AtomicBool::new(false);
        let peak = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut peak = 0;
                while !done.load(Ordering::Relaxed) {
                    peak = peak.max(tandem.process().resident_bytes());
                    std::thread::sleep(Duration::from_millis(20));
                }
                peak
            });
            tandem.wait_streaming();
            done.store(true, Ordering::Relaxed);
            watch.join().unwrap_or(0)
        });
        times.push(start.elapsed().as_secs_f64());
        peaks.push(peak as f64 / f64::from(1 << 20));
        println!("{:.1} s, at most {:.0} MiB", times[times.len() - 1], peaks[peaks.len() - 1]);
        let rows = postgres.sql("SELECT count(*) FROM tandem.keys");
        assert_eq!(rows, KEYS.to_string(), "keys in PostgreSQL");
        if times.len() == 1 {
            Sides::new(&redis, &postgres).assert_equal();
        }
    }
    let (time, peak) = (median(times), median(peaks));
    report.add(
        "first sync of 1,000,000 keys",
        &format!("{time:.1} s"),
        "≤ 30 s",
        Some(time <= 30.0),
    );
    let text = format!("at most {peak:.0} MiB resident");
    report.add("first sync, memory of the proxy", &text, "< 300 MiB", Some(peak < 300.0));
}

/// 70 % strings, 15 % hashes of 10 fields, the rest sets, sorted sets, lists and a few streams; a third with a TTL.
fn fill(client: &mut Client) {
    client.set_timeout(Duration::from_secs(60));
    for first in (0..KEYS).step_by(1000) {
        let (mut bytes, mut replies) = (Vec::new(), 0);
        for n in first..first + 1000 {
            for command in commands(n) {
                bytes.extend(encode(command.split(' ')));
                replies += 1;
            }
        }
        client.send(&bytes).unwrap_or_else(|e| panic!("fill: {e}"));
        for _ in 0..replies {
            let reply = client.receive().unwrap_or_else(|e| panic!("fill: {e}"));
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
}

fn commands(n: u64) -> Vec<String> {
    let mut commands = match n % 20 {
        0..=13 => vec![format!("SET string:{n} {:060}", n)],
        14..=16 => {
            let fields: Vec<String> = (0..10).map(|f| format!("field:{f} value:{n}")).collect();
            vec![format!("HSET hash:{n} {}", fields.join(" "))]
        }
        17 if n % 100 == 17 => {
            let add = |i| format!("XADD stream:{n} {i}-1 field:a value:{n} field:b {i}");
            (1..=5).map(add).collect()
        }
        17 => vec![format!("SADD set:{n} a:{n} b:{n} c:{n} d e f")],
        18 => vec![format!("ZADD zset:{n} 1 a:{n} 2.5 b:{n} {n} c 4 d")],
        _ => vec![format!("RPUSH list:{n} a:{n} b:{n} c:{n} d e")],
    };
    if n.is_multiple_of(3)
        && let Some(key) = commands[0].split(' ').nth(1)
    {
        commands.push(format!("EXPIRE {key} 864000"));
    }
    commands
}
