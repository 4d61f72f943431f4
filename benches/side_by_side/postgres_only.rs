//! `postgres_only`: writes against pgbench on the same server and against each other, reads and scripts against
//! straight Redis. 50 clients each.

use support::{Client, Postgres, Redis, encode};

use crate::clients::{redis_benchmark, redis_benchmark_command};
use crate::pgbench::PgBench;
use crate::report::{Report, median, thousands};
use crate::systems::{System, postgres_only};

const KEYS: usize = 10_000;

/// One row of the report: ours in relation to theirs.
fn compare(report: &mut Report, load: &str, ours: f64, (name, theirs): (&str, f64), least: f64) {
    let ratio = ours / theirs;
    let text = format!("{}/s, {ratio:.2} × {name} ({}/s)", thousands(ours), thousands(theirs));
    let target = format!("≥ {least:.1} × {name}");
    report.add(&format!("postgres_only, {load}, 50 clients"), &text, &target, Some(ratio >= least));
}

pub fn writes(report: &mut Report, rounds: usize) {
    let postgres = Postgres::start();
    let pgbench = PgBench::upserts(&postgres);
    let tandem = postgres_only(&postgres);
    let tests = "-t set,lpush,rpop,sadd,zadd -c 50 -n 50000 -r 10000";
    let hash: Vec<&str> = "HINCRBY counters field:__rand_int__ 1".split(' ').collect();
    let mut upserts = Vec::new();
    let names = ["SET", "LPUSH", "RPOP", "SADD", "ZADD", "HINCRBY"];
    let mut rates: [Vec<f64>; 6] = Default::default();
    for _ in 0..rounds {
        tandem.client().run("FLUSHALL");
        upserts.push(pgbench.round());
        let rows = redis_benchmark(tandem.port(), tests);
        let hincrby = redis_benchmark_command(tandem.port(), "-c 50 -n 50000 -r 10000", &hash).rate;
        for (name, rates) in names.iter().zip(&mut rates) {
            rates.push(rows.get(*name).map_or(hincrby, |measured| measured.rate));
        }
        let now = |rates: &Vec<f64>| rates.last().copied().map_or(String::new(), thousands);
        println!("pgbench {}/s, {names:?} {:?}", now(&upserts), rates.each_ref().map(now));
    }
    let upserts = median(upserts);
    let [set, others @ ..] = rates.map(median);
    compare(report, "SET", set, ("pgbench's one-row upserts", upserts), 1.0);
    report.add("postgres_only, SET, the goal", "", "2 × pgbench", Some(set >= 2.0 * upserts));
    for (name, rate) in names[1..].iter().zip(others) {
        compare(report, &format!("{name} on one key"), rate, ("its own SET", set), 0.8);
    }
}

/// Keys that stay in memory.
pub fn hot_reads(report: &mut Report, rounds: usize) {
    let redis = Redis::start();
    let systems = [System::straight(&redis), System::postgres_only()];
    for system in &systems {
        fill(&mut system.client());
    }
    let [straight, own] = alternate(&systems, rounds, |system| {
        redis_benchmark(system.port, "-t get -c 50 -n 200000 -r 10000")["GET"].rate
    });
    compare(report, "GET of hot keys", own, ("straight", straight), 0.7);
}

fn fill(client: &mut Client) {
    for first in (0..KEYS).step_by(1000) {
        let sets = (first..first + 1000)
            .map(|n| ["SET".to_owned(), format!("key:{n:012}"), "xxx".to_owned()]);
        client.send(&sets.flat_map(encode).collect::<Vec<u8>>()).unwrap_or_else(|e| panic!("{e}"));
        for _ in 0..1000 {
            let reply = client.receive().unwrap_or_else(|e| panic!("fill: {e}"));
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
}

/// The relay's most frequent script that writes: it takes a place among those who work at the same time.
const LEASE: &str = "redis.call('ZREMRANGEBYSCORE',KEYS[1],'-inf',ARGV[3]) \
                     redis.call('ZADD',KEYS[1],ARGV[2],ARGV[1]) \
                     if tonumber(ARGV[4])>0 then redis.call('PEXPIRE',KEYS[1],ARGV[4]) end \
                     return redis.call('ZCARD',KEYS[1])";

pub fn lease(report: &mut Report, rounds: usize) {
    let redis = Redis::start();
    let systems = [System::straight(&redis), System::postgres_only()];
    let (key, member) = ("concurrency:__rand_int__", "lease:__rand_int__");
    let command = ["EVAL", LEASE, "1", key, member, "4000000000000", "1795397711833", "330000"];
    let [straight, own] = alternate(&systems, rounds, |system| {
        system.client().run("FLUSHALL");
        redis_benchmark_command(system.port, "-c 50 -n 50000 -r 1000", &command).rate
    });
    compare(report, "EVAL of the lease script", own, ("straight", straight), 0.3);
}

/// The medians of two systems that take turns, each first in every other round.
fn alternate(systems: &[System; 2], rounds: usize, measure: impl Fn(&System) -> f64) -> [f64; 2] {
    let mut rates: [Vec<f64>; 2] = Default::default();
    for round in 0..rounds {
        for index in [round % 2, (round + 1) % 2] {
            let rate = measure(&systems[index]);
            println!("{:>20} {:>9}/s", systems[index].name, thousands(rate));
            rates[index].push(rate);
        }
    }
    rates.map(median)
}
