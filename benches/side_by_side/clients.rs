//! redis-benchmark against every system in turn.

use std::collections::BTreeMap;
use std::process::Command;

use support::Redis;

use crate::report::{Report, median, thousands};
use crate::systems::System;

/// Requests per second and median latency in ms of one test.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub rate: f64,
    pub p50_ms: f64,
}

/// Runs redis-benchmark once and returns its tests by name.
pub fn redis_benchmark(port: u16, args: &str) -> BTreeMap<String, Measured> {
    run(port, args, &[])
}

/// Runs redis-benchmark once with one command, in whose words `__rand_int__` stands for a number.
pub fn redis_benchmark_command(port: u16, args: &str, words: &[&str]) -> Measured {
    let rows = run(port, args, words);
    rows.into_values().next().unwrap_or_else(|| panic!("nothing measured of {words:?}"))
}

fn run(port: u16, args: &str, words: &[&str]) -> BTreeMap<String, Measured> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port.to_string(), "--csv"]).args(args.split(' ')).args(words);
    let output = command.output().unwrap_or_else(|e| panic!("redis-benchmark: {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",…
    let rows = text.lines().filter_map(|line| {
        // A test that is a command of ours has commas of its own.
        let cells: Vec<&str> = line.trim_matches('"').split("\",\"").collect();
        let measured =
            Measured { rate: cells.get(1)?.parse().ok()?, p50_ms: cells.get(4)?.parse().ok()? };
        Some((cells[0].to_owned(), measured))
    });
    let rows: BTreeMap<String, Measured> = rows.collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !rows.is_empty(), "{command:?}: {text}{errors}");
    rows
}

/// System → test → one value per round.
type Rounds = BTreeMap<&'static str, BTreeMap<String, Vec<Measured>>>;

fn measure(redis: &Redis, systems: &[System], rounds: usize, args: &str) -> Rounds {
    let mut all = Rounds::new();
    for round in 0..rounds {
        // Each round begins with another system, so that none always has the same neighbour.
        for index in 0..systems.len() {
            let system = &systems[(index + round) % systems.len()];
            redis.client().run("FLUSHALL");
            systems.iter().for_each(System::rest);
            for (test, measured) in redis_benchmark(system.port, args) {
                println!("{:>20} {test:>6} {:>9}/s", system.name, thousands(measured.rate));
                all.entry(system.name).or_default().entry(test).or_default().push(measured);
            }
        }
    }
    all
}

fn rate(rounds: &Rounds, system: &str, test: &str) -> Option<f64> {
    let measured = rounds.get(system)?.get(test)?;
    Some(median(measured.iter().map(|m| m.rate).collect()))
}

fn everyone(redis: &Redis) -> Vec<System> {
    let others = [System::haproxy(redis), System::nutcracker(redis)];
    let mut systems = vec![System::straight(redis)];
    systems.extend(others.into_iter().flatten());
    systems.push(System::redis_only(redis));
    systems
}

/// Runs all systems without a mirror first, then `cache_first` beside straight Redis: its mirror works in the
/// background, and would disturb the others.
fn table(report: &mut Report, rounds: usize, tests: &[&str], args: &str, judge: &Judge) {
    let redis = Redis::start();
    {
        let systems = everyone(&redis);
        let measured = measure(&redis, &systems, rounds, args);
        add_rows(report, &measured, tests, "tandem redis_only", judge);
    }
    let systems = [System::straight(&redis), System::cache_first(&redis)];
    let measured = measure(&redis, &systems, rounds, args);
    add_rows(report, &measured, tests, "tandem cache_first", judge);
}

struct Judge {
    title: &'static str,
    target: &'static str,
    /// Least ratio to each other system.
    least: &'static [(&'static str, f64)],
}

fn add_rows(report: &mut Report, measured: &Rounds, tests: &[&str], ours: &str, judge: &Judge) {
    for test in tests {
        let own = rate(measured, ours, test).unwrap_or(f64::NAN);
        let mut text = format!("{ours} {}/s", thousands(own));
        let mut met = true;
        for system in ["straight", "haproxy", "nutcracker"] {
            let Some(other) = rate(measured, system, test) else { continue };
            text.push_str(&format!(", {:.2} × {system} ({})", own / other, thousands(other)));
            let least = judge.least.iter().find(|(name, _)| *name == system);
            met &= least.is_none_or(|(_, least)| own / other >= *least);
        }
        report.add(&format!("{} {test}", judge.title), &text, judge.target, Some(met));
    }
}

pub fn unpipelined(report: &mut Report, rounds: usize) {
    let judge = Judge {
        title: "50 clients,",
        target: "≥ 1.1 × straight, ahead of haproxy and nutcracker",
        least: &[("straight", 1.1), ("haproxy", 1.0), ("nutcracker", 1.0)],
    };
    let args = "-t set,get,incr,hset -c 50 -n 200000 -r 10000";
    table(report, rounds, &["SET", "GET", "INCR", "HSET"], args, &judge);
}

pub fn pipelined(report: &mut Report, rounds: usize) {
    let judge = Judge {
        title: "50 clients, -P 16,",
        target: "ahead of haproxy, ≥ 1.25 × nutcracker",
        least: &[("haproxy", 1.0), ("nutcracker", 1.25)],
    };
    table(report, rounds, &["SET", "GET"], "-t set,get -c 50 -n 1000000 -P 16 -r 10000", &judge);
}

pub fn latency(report: &mut Report, rounds: usize) {
    let redis = Redis::start();
    for ours in [System::redis_only(&redis), System::cache_first(&redis)] {
        let systems = [System::straight(&redis), ours];
        let measured = measure(&redis, &systems, rounds, "-t get -c 1 -n 50000");
        let p50 = |name: &str| {
            let rounds = measured.get(name).and_then(|tests| tests.get("GET"));
            median(rounds.into_iter().flatten().map(|m| m.p50_ms * 1000.0).collect())
        };
        let (straight, own) = (p50("straight"), p50(systems[1].name));
        let text = format!("{} p50 {own:.0} µs, straight {straight:.0} µs", systems[1].name);
        report.add("GET, 1 client", &text, "at most 25 µs more", Some(own - straight <= 25.0));
    }
}

pub fn thousand(report: &mut Report, rounds: usize) {
    let redis = Redis::start();
    for ours in [System::redis_only(&redis), System::cache_first(&redis)] {
        let (name, systems) = (ours.name, [ours]);
        let few = measure(&redis, &systems, rounds, "-t set,get -c 50 -n 200000 -r 10000");
        let many = measure(&redis, &systems, rounds, "-t set,get -c 1000 -n 200000 -r 10000");
        let resident = systems[0].resident_bytes().unwrap_or(0) as f64 / f64::from(1 << 20);
        for test in ["SET", "GET"] {
            let (few, many) = (rate(&few, name, test), rate(&many, name, test));
            let (few, many) = (few.unwrap_or(f64::NAN), many.unwrap_or(f64::NAN));
            let text = format!("{name} {}/s, {:.2} × 50 clients", thousands(many), many / few);
            // Two percent is what two equal runs differ by here.
            report.add(
                &format!("1,000 clients, {test}"),
                &text,
                "no loss against 50",
                Some(many >= few * 0.98),
            );
        }
        let text = format!("{name} {resident:.0} MiB resident");
        report.add("1,000 clients, memory", &text, "≤ 64 MiB", Some(resident <= 64.0));
    }
}
