//! The relay's recorded traffic, in order, at most six batches unanswered.

use std::collections::BTreeMap;
use std::path::Path;

use support::Redis;
use support::load::Trace;

use crate::report::{Report, median};
use crate::systems::System;

const WINDOW: usize = 6;

pub fn relay(report: &mut Report, rounds: usize) {
    let Some(trace) = Trace::relay(Path::new(env!("CARGO_MANIFEST_DIR"))) else { return };
    let redis = Redis::start();
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    // Each mirror needs its own Redis, or both would work at every write.
    let others = [Redis::start(), Redis::start(), Redis::start()];
    let systems = [
        (&redis, Some(System::straight(&redis))),
        (&redis, System::haproxy(&redis)),
        (&others[0], Some(System::redis_only(&others[0]))),
        (&others[1], Some(System::cache_first(&others[1]))),
        (&others[2], Some(System::dual_write(&others[2]))),
        (&redis, Some(System::postgres_only())),
    ];
    for round in 0..rounds {
        for index in 0..systems.len() {
            let (redis, system) = &systems[(index + round) % systems.len()];
            let Some(system) = system else { continue };
            redis.client().run("FLUSHALL");
            // What it holds is not in Redis.
            system.client().run("FLUSHALL");
            system.rest();
            let replay = trace.replay(([127, 0, 0, 1], system.port).into(), WINDOW);
            let replay = replay.unwrap_or_else(|e| panic!("{}: {e}", system.name));
            println!("{:>20} {:?}, {} errors", system.name, replay.time, replay.errors);
            times.entry(system.name).or_default().push(replay.time.as_secs_f64());
            system.rest();
        }
    }
    let times: BTreeMap<&str, f64> = times.into_iter().map(|(name, t)| (name, median(t))).collect();
    let straight = times.get("straight").copied().unwrap_or(f64::NAN);
    for (system, most) in [
        ("haproxy", None),
        ("tandem redis_only", Some(1.1)),
        ("tandem cache_first", Some(1.1)),
        ("tandem dual_write", Some(2.0)),
        ("tandem postgres_only", Some(2.0)),
    ] {
        let Some(time) = times.get(system) else { continue };
        let text =
            format!("{system} {time:.2} s, {:.2} × straight ({straight:.2} s)", time / straight);
        let target = most.map_or(String::new(), |most| format!("≤ {most:.2} × straight"));
        report.add("relay trace", &text, &target, most.map(|most| time / straight <= most));
    }
}
