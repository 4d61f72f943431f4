//! Clients with checkable writes, while Redis, PostgreSQL, the proxy and the lines between them fail.
//!
//! `TANDEM_TEST_CHAOS_SECONDS` says how long each strategy is tried, `TANDEM_TEST_CHAOS_FAULT` leaves only the faults
//! whose name contains it.

mod faults;
mod model;
mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::seed;

use faults::{FAULTS, Fault};
use model::{BOUND, Model, Writer};
use stage::Stage;

const CLIENTS: u64 = 4;

fn run(mode: &'static str, default_seed: u64, default_seconds: u64) {
    let seconds = std::env::var("TANDEM_TEST_CHAOS_SECONDS").ok().and_then(|s| s.parse().ok());
    let wanted = std::env::var("TANDEM_TEST_CHAOS_FAULT").unwrap_or_default();
    let seed = seed(default_seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let seconds = seconds.unwrap_or(default_seconds);
    let mut stage = Stage::new(mode, seconds);
    let applies = |fault: &&Fault| stage.suffers(fault) && fault.name.contains(&wanted);
    let all: Vec<&Fault> = FAULTS.iter().filter(applies).collect();
    assert!(!all.is_empty(), "no fault is called {wanted}");
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let over = Arc::clone(&over);
            let mut writer = Writer::new(client, stage.tandem.port(), seed);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    writer.step();
                }
                writer.model
            })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut struck, mut left) = (0, Vec::new());
    while Instant::now() < end && writers.iter().all(|writer| !writer.is_finished()) {
        std::thread::sleep(Duration::from_millis(rng.random_range(50..500)));
        // Each comes once before any comes again.
        if left.is_empty() {
            left.clone_from(&all);
            stage.vacuum();
        }
        let fault = left.swap_remove(rng.random_range(0..left.len()));
        let time = Duration::from_millis(rng.random_range(10..1500));
        println!("{} for {time:?}", fault.name);
        (fault.strike)(&mut stage, &mut rng, time);
        stage.wait_well();
        struck += 1;
    }
    std::thread::sleep(Duration::from_millis(200));
    over.store(true, Ordering::Relaxed);
    let models: Vec<Model> =
        writers.into_iter().map(|writer| writer.join().expect("no wrong answer")).collect();
    stage.wait_well();
    stage.assert_equal();
    for model in &models {
        println!(
            "client {}: {} acknowledged, {} unknown, {} refused, slowest {:?}",
            model.client, model.acknowledged, model.unknown, model.refused, model.slowest
        );
        model.check(&mut stage.tandem.client(), "proxy");
        if stage.to_redis.is_some() {
            model.check(&mut stage.redis.client(), "Redis");
        }
        assert!(model.acknowledged > 0, "client {} was never answered", model.client);
        assert!(model.slowest < BOUND, "a command took {:?}", model.slowest);
    }
    println!("{mode}: {struck} faults");
}

#[test]
fn nothing_acknowledged_is_lost_in_dual_write() {
    run("dual_write", 7, 20);
}

#[test]
fn nothing_acknowledged_is_lost_in_database_first() {
    run("database_first", 8, 13);
}

#[test]
fn nothing_acknowledged_is_lost_in_postgres_only() {
    run("postgres_only", 9, 12);
}
