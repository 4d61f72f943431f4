//! Redis or PostgreSQL fails under clients: how long one in a loop goes without an answer, how fast it goes meanwhile,
//! and how soon all is well again. `dual_write` with `ack = "postgres"`, unless said otherwise.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::load::Trace;
use support::{Client, Postgres, Redis, Tandem, encode, wait_for};

use crate::clients::redis_benchmark;
use crate::report::{Report, median, thousands};
use crate::systems::binary;

/// How often Redis fails in each way.
const TIMES: usize = 30;
const LIMIT: Duration = Duration::from_secs(120);
/// Keys that a Redis without its data gets back before it leads again.
const KEYS: usize = 100_000;
/// How often the trace is replayed while PostgreSQL is away.
const REPLAYS: usize = 4;

fn start(redis: &Redis, postgres: &Postgres, mode: &str) -> Tandem {
    let tandem = binary().redis(redis).postgres(postgres).mode(mode).start();
    tandem.wait_streaming();
    wait_well(&tandem, mode == "dual_write");
    tandem
}

fn is(tandem: &Tandem, field: &str, value: &str) -> bool {
    tandem.answers() && tandem.status().get(field).is_some_and(|now| now == value)
}

fn wait_well(tandem: &Tandem, holds: bool) {
    wait_for("all to be well", LIMIT, || {
        is(tandem, "lead", "redis")
            && is(tandem, "mirror_state", "streaming")
            && (!holds || is(tandem, "ack_holding", "1"))
    });
}

/// From the fault until the first command that was sent after it is answered, for a client that asks again and
/// again on one connection. Which has to last.
fn outage(client: &mut Client, strike: impl FnOnce() + Send) -> Duration {
    std::thread::scope(|scope| {
        let (say, hear) = mpsc::channel();
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let before = Instant::now();
            strike();
            // The client waits for it.
            let _ = say.send((before, Instant::now()));
        });
        let mut struck = None;
        loop {
            let asked = Instant::now();
            let reply = client.try_call(["INCR", "n"]);
            let reply = reply.unwrap_or_else(|e| panic!("the connection has ended: {e}"));
            struck = struck.or_else(|| hear.try_recv().ok());
            match struck {
                Some((before, after)) if asked >= after && !reply.is_error() => {
                    return before.elapsed();
                }
                _ if reply.is_error() => std::thread::sleep(Duration::from_millis(1)),
                _ => {}
            }
        }
    })
}

fn add_outages(report: &mut Report, load: &str, mut times: Vec<f64>, limit: f64) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() as f64 * part).ceil() as usize).max(1) - 1];
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    let text = format!("p50 {p50:.0} ms, p99 {p99:.0} ms, at most {max:.0} ms of {}", times.len());
    report.add(load, &text, &format!("p99 < {limit:.0} ms"), Some(p99 < limit));
}

/// Time to serve again.
pub fn outages(report: &mut Report, _: usize) {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres, "dual_write");
    let mut client = tandem.client();
    client.set_timeout(LIMIT);
    let (mut killed, mut hung) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        killed.push(outage(&mut client, || redis.kill9()).as_secs_f64() * 1000.0);
        redis.restart();
        wait_well(&tandem, true);
        hung.push(outage(&mut client, || redis.pause()).as_secs_f64() * 1000.0);
        redis.resume();
        wait_well(&tandem, true);
        println!("killed {:.0} ms, hung {:.0} ms", killed[killed.len() - 1], hung[hung.len() - 1]);
    }
    add_outages(report, "Redis killed: until a client in a loop is served", killed, 250.0);
    add_outages(report, "Redis paused: until a client in a loop is served", hung, 1500.0);
}

/// What is left of the throughput while one side is away.
pub fn degraded(report: &mut Report, rounds: usize) {
    let (mut normal, mut no_postgres, mut no_redis) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.min(3) {
        let (mut redis, mut postgres) = (Redis::start(), Postgres::start());
        let tandem = start(&redis, &postgres, "dual_write");
        let sets = || redis_benchmark(tandem.port(), "-t set -c 50 -n 100000 -r 10000")["SET"].rate;
        normal.push(sets());
        wait_well(&tandem, true);
        postgres.stop();
        wait_for("Redis's acknowledgement to do", LIMIT, || {
            tandem.client().run("SET probe 1");
            is(&tandem, "ack_holding", "0")
        });
        no_postgres.push(sets());
        postgres.restart();
        wait_well(&tandem, true);
        redis.stop();
        wait_for("PostgreSQL to lead", LIMIT, || {
            is(&tandem, "lead", "postgres") && !tandem.client().run("SET probe 1").is_error()
        });
        no_redis.push(sets());
        println!(
            "SET {}/s, without PostgreSQL {}/s, without Redis {}/s",
            thousands(normal[normal.len() - 1]),
            thousands(no_postgres[no_postgres.len() - 1]),
            thousands(no_redis[no_redis.len() - 1])
        );
    }
    let normal = median(normal);
    for (without, rates) in [("PostgreSQL", no_postgres), ("Redis", no_redis)] {
        let rate = median(rates);
        let text = format!(
            "{}/s, {:.2} × with both ({}/s)",
            thousands(rate),
            rate / normal,
            thousands(normal)
        );
        report.add(&format!("without {without}, SET, 50 clients"), &text, "", None);
    }
}

/// How fast PostgreSQL gets what it missed, in effects of the relay's trace, beside the relay's normal load: the rate of
/// effects at which that was recorded.
pub fn catch_up(report: &mut Report, rounds: usize) {
    let Some(trace) = Trace::relay(Path::new(env!("CARGO_MANIFEST_DIR"))) else { return };
    let recorded = trace.recorded().as_secs_f64() * REPLAYS as f64;
    let (mut rates, mut usual) = (Vec::new(), Vec::new());
    for _ in 0..rounds.min(3) {
        let (redis, mut postgres) = (Redis::start(), Postgres::start());
        let tandem = start(&redis, &postgres, "cache_first");
        postgres.stop();
        wait_for("the outage", LIMIT, || is(&tandem, "mirror_state", "spooling"));
        let effects = || tandem.status()["mirror_effects"].parse().unwrap_or(0.0);
        let before = effects();
        for _ in 0..REPLAYS {
            let replay = trace.replay(([127, 0, 0, 1], tandem.port()).into(), 6);
            replay.unwrap_or_else(|e| panic!("replay: {e}"));
        }
        postgres.restart();
        let began = Instant::now();
        wait_for("PostgreSQL to have caught up", LIMIT, || {
            is(&tandem, "mirror_state", "streaming") && is(&tandem, "mirror_lag_bytes", "0")
        });
        let (missed, seconds) = (effects() - before, began.elapsed().as_secs_f64());
        println!("{} effects in {seconds:.1} s", thousands(missed));
        rates.push(missed / seconds);
        usual.push(missed / recorded);
    }
    let (rate, usual) = (median(rates), median(usual));
    let times = rate / usual;
    let text = format!(
        "{} effects/s, {times:.1} × the trace as it was recorded ({}/s)",
        thousands(rate),
        thousands(usual)
    );
    report.add("PostgreSQL is back: catching up", &text, "≥ 5 × normal load", Some(times >= 5.0));
}

/// How soon a Redis that came back empty leads again.
pub fn lead_again(report: &mut Report, rounds: usize) {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = start(&redis, &postgres, "dual_write");
    let mut client = tandem.client();
    client.set_timeout(LIMIT);
    let value = "x".repeat(100);
    for first in (0..KEYS).step_by(1000) {
        let sets = (first..first + 1000).flat_map(|n| encode(["SET", &format!("key:{n}"), &value]));
        client.send(&sets.collect::<Vec<u8>>()).unwrap_or_else(|e| panic!("fill: {e}"));
        for _ in 0..1000 {
            client.receive().unwrap_or_else(|e| panic!("fill: {e}"));
        }
    }
    let mut times = Vec::new();
    for _ in 0..rounds.min(3) {
        redis.kill9();
        wait_for("PostgreSQL to lead", LIMIT, || is(&tandem, "lead", "postgres"));
        redis.restart();
        let began = Instant::now();
        wait_for("Redis to lead", LIMIT, || is(&tandem, "lead", "redis"));
        times.push(began.elapsed().as_secs_f64());
        println!("{:.1} s", times[times.len() - 1]);
        wait_well(&tandem, true);
    }
    let text = format!("{:.1} s", median(times));
    let load =
        format!("Redis is back empty: until it has {} keys and leads", thousands(KEYS as f64));
    report.add(&load, &text, "", None);
}
