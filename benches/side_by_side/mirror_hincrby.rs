//! How fast the mirror follows: HINCRBY in pipelines of 100 through `cache_first`.

use std::time::{Duration, Instant};

use support::compare::Sides;
use support::{Postgres, Redis, Tandem, encode};

use crate::report::{Report, median, thousands};
use crate::systems::binary;

const CLIENTS: u64 = 4;
const PIPELINE: u64 = 100;

pub fn effects(report: &mut Report, rounds: usize) {
    let (mut rates, mut lags) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let tandem = binary().redis(&redis).postgres(&postgres).mode("cache_first").start();
        tandem.wait_streaming();
        let sides = Sides::new(&redis, &postgres);
        // As fast as clients can: how much goes through until the last effect is committed.
        let start = Instant::now();
        let sent = std::thread::scope(|scope| {
            let client = |index| {
                scope.spawn({
                    let tandem = &tandem;
                    move || run(tandem, index, Duration::from_secs(5), None)
                })
            };
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            clients.into_iter().map(|c| c.join().unwrap_or(0)).sum::<u64>()
        });
        sides.settle(Duration::from_secs(120)).unwrap_or_else(|e| panic!("{e}"));
        let rate = sent as f64 / start.elapsed().as_secs_f64();
        // At 100,000 a second: how far the mirror is behind.
        let lag = paced_lag_ms(&tandem);
        println!("{}/s until committed, at most {lag} ms behind at 100,000/s", thousands(rate));
        sides.assert_equal();
        rates.push(rate);
        lags.push(lag as f64);
    }
    let (rate, lag) = (median(rates), median(lags));
    let target = "≥ 100,000 effects/s";
    let text = format!("{} effects/s", thousands(rate));
    report.add("mirror, HINCRBY in pipelines of 100", &text, target, Some(rate >= 100_000.0));
    let text = format!("at most {lag:.0} ms behind");
    report.add("mirror at 100,000 effects/s", &text, "< 1 s", Some(lag < 1000.0));
}

fn paced_lag_ms(tandem: &Tandem) -> u64 {
    let time = Duration::from_secs(5);
    std::thread::scope(|scope| {
        for index in 0..CLIENTS {
            scope.spawn(move || run(tandem, index, time, Some(100_000 / CLIENTS)));
        }
        let (start, mut worst) = (Instant::now(), 0);
        while start.elapsed() < time {
            let lag = tandem.status().get("mirror_lag_ms").and_then(|lag| lag.parse().ok());
            worst = worst.max(lag.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(20));
        }
        worst
    })
}

/// Sends pipelines for `time`, at most `per_second` commands where given, and returns the number of commands.
fn run(tandem: &Tandem, index: u64, time: Duration, per_second: Option<u64>) -> u64 {
    let mut client = tandem.client();
    client.set_timeout(Duration::from_secs(60));
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        // As the relay does it: many fields of some hundred hashes.
        let pipeline: Vec<u8> = (0..PIPELINE)
            .flat_map(|n| {
                let (key, field) = (
                    format!("usage:{}:{}", index, (sent / 10 + n / 10) % 500),
                    format!("field:{}", n % 20),
                );
                encode(["HINCRBY", &key, &field, "1"])
            })
            .collect();
        client.send(&pipeline).unwrap_or_else(|e| panic!("send: {e}"));
        for _ in 0..PIPELINE {
            client.receive().unwrap_or_else(|e| panic!("receive: {e}"));
        }
        sent += PIPELINE;
        if let Some(rate) = per_second {
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    sent
}
