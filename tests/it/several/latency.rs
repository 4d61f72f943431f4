//! What it costs to be acknowledged through another proxy.

use std::time::{Duration, Instant};

use support::{Postgres, Redis, Tandem};

use super::start;

const CLIENTS: usize = 4;
const WRITES: usize = 150;
/// What a busy machine may add to the odd write.
const NOISE: Duration = Duration::from_millis(10);

fn writes(tandem: &Tandem) -> Vec<Duration> {
    let write = || {
        let mut client = tandem.client();
        let mut one = |n: usize| {
            let asked = Instant::now();
            client.call(["SET", &format!("k:{n}"), "v"]);
            asked.elapsed()
        };
        (0..WRITES).map(&mut one).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(write)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("ended")).collect()
    })
}

fn of_ten(times: &mut [Duration], share: usize) -> Duration {
    times.sort();
    times[times.len() * share / 10]
}

#[test]
fn an_acknowledgement_through_the_leader_costs_little() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let all = start(2, &redis, &postgres);
    let (mut leader, mut standby) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        leader.extend(writes(&all[0]));
        standby.extend(writes(&all[1]));
    }
    for (name, times) in [("leader", &mut leader), ("standby", &mut standby)] {
        println!("{name}: p50 {:?}, p90 {:?}", of_ten(times, 5), of_ten(times, 9));
    }
    let (least, most) = (of_ten(&mut leader, 9), of_ten(&mut standby, 9));
    assert!(most < least * 3 + NOISE, "{most:?} against {least:?}");
}
