//! Tandem beside what it is compared with, in one run on one machine: straight Redis, haproxy in TCP mode,
//! nutcracker and pgbench. Every number is the median of alternating rounds. Writes `benches/RESULTS.md`.
//!
//! `./dev bench` runs all of it; `./dev bench pipelined held_set` runs what is named.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a benchmark blocks its own thread only")]

mod clients;
mod failover;
mod first_sync;
mod held_set;
mod mirror_hincrby;
mod partial;
mod pgbench;
mod postgres_only;
mod report;
mod systems;
mod trace;

use std::path::Path;

use report::Report;

/// How often each number is taken.
const ROUNDS: usize = 5;

type Bench = fn(&mut Report, usize);

const BENCHES: &[(&str, Bench)] = &[
    ("unpipelined", clients::unpipelined),
    ("pipelined", clients::pipelined),
    ("latency", clients::latency),
    ("thousand", clients::thousand),
    ("trace", trace::relay),
    ("held_set", held_set::against_pgbench),
    ("mirror_hincrby", mirror_hincrby::effects),
    ("postgres_only_writes", postgres_only::writes),
    ("postgres_only_reads", postgres_only::hot_reads),
    ("postgres_only_lease", postgres_only::lease),
    ("read_through", partial::read_through),
    ("guard", partial::guard),
    ("first_sync", first_sync::million_keys),
    ("failover", failover::outages),
    ("degraded", failover::degraded),
    ("catch_up", failover::catch_up),
    ("lead_again", failover::lead_again),
];

fn main() {
    // Cargo adds --bench.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        eprintln!("unknown benchmark {unknown}; there are: {}", known.join(" "));
        std::process::exit(2);
    }
    let rounds = std::env::var("TANDEM_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS).max(1);
    let mut report = Report::new(rounds);
    for (name, bench) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            println!("\n== {name}");
            bench(&mut report, rounds);
        }
    }
    let text = report.text();
    println!("\n{text}");
    // A part of the table must not replace the whole one.
    let file = if wanted.is_empty() { "benches/RESULTS.md" } else { "target/bench-results.md" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    println!("written to {}", path.display());
}
