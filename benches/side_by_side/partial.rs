//! Redis smaller than the data: what it costs to bring an evicted key back, and what the care for partial writes
//! costs where every key is there.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{Postgres, Redis, Tandem, encode, wait_for};

use crate::clients::redis_benchmark_command;
use crate::pgbench::PgBench;
use crate::report::{Report, median, thousands};
use crate::systems::binary;

const KEYS: usize = 100_000;
const BYTES: usize = 500;
const CLIENTS: u64 = 50;
const TIME: Duration = Duration::from_secs(5);

fn started(redis: &Redis, postgres: &Postgres, mode: &str) -> Tandem {
    let tandem = binary().redis(redis).postgres(postgres).mode(mode).start();
    tandem.wait_streaming();
    tandem
}

fn wait_partial(tandem: &Tandem) {
    wait_for("the look at Redis's memory", Duration::from_secs(30), || {
        tandem.status().get("redis_keys").is_some_and(|keys| keys != "whole")
    });
}

fn recalled(tandem: &Tandem) -> f64 {
    let status = tandem.status();
    let recalled = status.get("cache_recalled").and_then(|n| n.parse().ok());
    recalled.unwrap_or_else(|| panic!("no cache_recalled in {status:?}"))
}

/// Random reads of data that is many times larger than Redis: keys brought back per second.
pub fn read_through(report: &mut Report, rounds: usize) {
    let small = |mode: &str| {
        let redis = Redis::options().with("maxmemory", "6mb");
        let redis = redis.with("maxmemory-policy", "allkeys-lru").start();
        let postgres = Postgres::start();
        let tandem = started(&redis, &postgres, mode);
        wait_partial(&tandem);
        fill(&tandem);
        (tandem, redis, postgres)
    };
    let (dual, cache) = (small("dual_write"), small("cache_first"));
    let pgbench = PgBench::selects(&dual.2, KEYS, BYTES);
    let (mut selects, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        selects.push(pgbench.round());
        for (tandem, rates) in [&dual.0, &cache.0].into_iter().zip(&mut rates) {
            let (before, start) = (recalled(tandem), Instant::now());
            let reads = read(tandem);
            let seconds = start.elapsed().as_secs_f64();
            rates.push((recalled(tandem) - before) / seconds);
            let back = rates[rates.len() - 1];
            println!("{:.0} reads/s, {back:.0}/s brought back", reads as f64 / seconds);
        }
        println!("pgbench {:.0}/s", selects[selects.len() - 1]);
    }
    let selects = median(selects);
    for (mode, rates) in ["dual_write", "cache_first"].into_iter().zip(rates) {
        let rate = median(rates);
        let ratio = rate / selects;
        let selects = thousands(selects);
        let text = format!("{} keys/s, {ratio:.2} × pgbench ({selects}/s)", thousands(rate));
        report.add(
            &format!("{mode}, GET of evicted keys, 50 clients"),
            &text,
            "≥ 0.5 × pgbench's one-row selects",
            Some(ratio >= 0.5),
        );
    }
}

fn fill(tandem: &Tandem) {
    let (mut client, value) = (tandem.client(), "x".repeat(BYTES));
    client.set_timeout(Duration::from_secs(60));
    for first in (0..KEYS).step_by(1000) {
        let sets = (first..first + 1000).flat_map(|n| encode(["SET", &format!("key:{n}"), &value]));
        client.send(&sets.collect::<Vec<u8>>()).unwrap_or_else(|e| panic!("fill: {e}"));
        for _ in 0..1000 {
            let reply = client.receive().unwrap_or_else(|e| panic!("fill: {e}"));
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
}

/// Reads at random from 50 clients; how often.
fn read(tandem: &Tandem) -> u64 {
    std::thread::scope(|scope| {
        let client = |id| {
            scope.spawn(move || {
                let (mut client, mut rng) = (tandem.client(), SmallRng::seed_from_u64(id));
                let (start, mut reads) = (Instant::now(), 0);
                while start.elapsed() < TIME {
                    let reply = client.call(["GET", &format!("key:{}", rng.random_range(0..KEYS))]);
                    assert_eq!(reply.bytes().len(), BYTES, "{reply:?}");
                    reads += 1;
                }
                reads
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().map(|c| c.join().unwrap_or_else(|_| panic!("a client"))).sum()
    })
}

/// Partial writes to keys that are all there, with a Redis that could evict and with one that cannot.
pub fn guard(report: &mut Report, rounds: usize) {
    let whole = Redis::start();
    let evicting = Redis::options().with("maxmemory", "500mb");
    let evicting = evicting.with("maxmemory-policy", "allkeys-lru").start();
    let servers = [Postgres::start(), Postgres::start()];
    let unguarded = started(&whole, &servers[0], "cache_first");
    let guarded = started(&evicting, &servers[1], "cache_first");
    wait_partial(&guarded);
    let commands = ["INCR counter:__rand_int__", "HINCRBY counters:__rand_int__ field 1"];
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..=rounds {
            for (tandem, rates) in [&unguarded, &guarded].into_iter().zip(&mut rates) {
                let args = "-c 50 -n 50000 -r 1000";
                rates.push(redis_benchmark_command(tandem.port(), args, &words).rate);
                println!("{:>20} {:>9}/s", words[0], thousands(rates[rates.len() - 1]));
                wait_for("the mirror to catch up", Duration::from_secs(300), || {
                    tandem.status().get("mirror_lag_bytes").is_none_or(|lag| lag == "0")
                });
            }
        }
        // The first round has made the keys.
        let [unguarded, guarded] = rates.map(|rates| median(rates[1..].to_vec()));
        let times = unguarded / guarded;
        let (unguarded, guarded) = (thousands(unguarded), thousands(guarded));
        let text = format!("{guarded}/s, {times:.2} × the time of unguarded ({unguarded}/s)");
        report.add(
            &format!("guarded {}, cache_first, 50 clients", words[0]),
            &text,
            "≤ 1.5 × the unguarded time",
            Some(times <= 1.5),
        );
    }
}
