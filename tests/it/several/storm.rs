//! Proxies, Redis and PostgreSQL are killed, paused and restarted in any order while clients write at all proxies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::compare::Sides;
use support::{Postgres, Redis, Tandem, seed, wait_for};

use super::{LIMIT, Writer, options};

const PROXIES: usize = 3;
/// No command takes longer than a takeover, and what it is tried for by a proxy that has to find somebody.
const BOUND: Duration = Duration::from_secs(15);

struct Site {
    redis: Redis,
    postgres: Postgres,
    all: Vec<Tandem>,
}

impl Site {
    fn fault(&mut self, rng: &mut StdRng) {
        let pause = Duration::from_millis(rng.random_range(50..1500));
        let number = rng.random_range(0..PROXIES);
        match rng.random_range(0..10) {
            0..=2 => {
                println!("kill proxy {number}");
                self.all[number].kill9();
                std::thread::sleep(pause);
                self.all[number].spawn();
            }
            3 => {
                println!("end proxy {number}");
                self.all[number].stop(LIMIT);
                std::thread::sleep(pause);
                self.all[number].spawn();
            }
            4..=5 => {
                let pause = pause * 4;
                println!("pause proxy {number} for {pause:?}");
                self.all[number].pause();
                std::thread::sleep(pause);
                self.all[number].resume();
            }
            6 => {
                println!("kill PostgreSQL");
                self.postgres.kill9();
                std::thread::sleep(pause);
                self.postgres.restart();
            }
            7 => {
                println!("pause PostgreSQL for {pause:?}");
                self.postgres.pause();
                std::thread::sleep(pause);
                self.postgres.resume();
            }
            8 => {
                println!("kill Redis, which loses what it has");
                self.redis.kill9();
                std::thread::sleep(pause);
                self.redis.wipe_disk();
                self.redis.restart();
            }
            _ => {
                println!("pause Redis for {pause:?}");
                self.redis.pause();
                std::thread::sleep(pause);
                self.redis.resume();
            }
        }
    }

    fn wait_for_all(&self, well: impl Fn(&BTreeMap<String, String>) -> bool) {
        wait_for("everything to be well", LIMIT * 2, || {
            let well = |tandem: &Tandem| tandem.answers() && well(&tandem.status());
            self.roles() == ["leader", "standby", "standby"] && self.all.iter().all(well)
        });
    }

    fn roles(&self) -> Vec<String> {
        let role = |tandem: &Tandem| match tandem.answers() {
            true => tandem.status()["role"].clone(),
            false => "none".into(),
        };
        let mut roles: Vec<String> = self.all.iter().map(role).collect();
        roles.sort();
        roles
    }
}

#[test]
fn nothing_acknowledged_is_lost_whoever_fails() {
    storm("dual_write", |status| status["lead"] == "redis" && status["ack_holding"] == "1");
}

#[test]
fn nothing_acknowledged_is_lost_where_postgres_leads() {
    storm("database_first", |status| match &status["role"][..] {
        "leader" => status["mode"] == "database_first" && status["follower_state"] == "whole",
        _ => status["mode"] == "forwarding",
    });
}

/// `TANDEM_TEST_STORM_SECONDS` makes it longer. `well` says of a proxy's status that all is as configured.
fn storm(mode: &str, well: impl Fn(&BTreeMap<String, String>) -> bool) {
    let seconds =
        std::env::var("TANDEM_TEST_STORM_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(6));
    let seed = seed(77);
    let mut rng = StdRng::seed_from_u64(seed);
    let (redis, postgres) = (Redis::start(), Postgres::start());
    // Nothing is acknowledged that PostgreSQL does not have, so that Redis may lose everything.
    let start = || {
        let options = options(&redis, &postgres).set("strategy", "on_unavailable", "refuse");
        options.set("strategy", "ack_timeout_ms", 3000).mode(mode).allow("").start()
    };
    let all: Vec<Tandem> = (0..PROXIES).map(|_| start()).collect();
    let over = AtomicBool::new(false);
    let writers: Vec<Writer> = (0..PROXIES * 2)
        .map(|number| Writer::new(number, &all.iter().collect::<Vec<_>>()))
        .collect();
    let mut site = Site { redis, postgres, all };
    site.wait_for_all(&well);
    let writers = std::thread::scope(|scope| {
        let over = &over;
        let running: Vec<_> =
            writers.into_iter().map(|writer| scope.spawn(move || writer.run(over))).collect();
        let began = Instant::now();
        while began.elapsed() < time {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..2000)));
            site.fault(&mut rng);
        }
        site.wait_for_all(&well);
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        running.into_iter().map(|writer| writer.join().expect("ended")).collect::<Vec<_>>()
    });
    for writer in &writers {
        println!(
            "client {}: {} counted, {} unsure, {} pushed; the slowest took {:?}",
            writer.number,
            writer.done,
            writer.unsure,
            writer.pushed.len(),
            writer.slowest_call,
        );
        assert!(writer.done > 5, "client {} did {} writes", writer.number, writer.done);
        assert!(writer.slowest_call < BOUND, "{:?}", writer.slowest_call);
        writer.check(&mut site.all[0].client());
    }
    let sides = Sides::new(&site.redis, &site.postgres);
    // The last of what was written is on its way to whoever follows.
    let equal = || sides.differences().is_ok_and(|differences| differences.is_empty());
    let began = Instant::now();
    while !equal() && began.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(50));
    }
    let differences = sides.differences().expect("readable");
    assert!(differences.is_empty(), "Redis and PostgreSQL differ:\n{differences}");
}
