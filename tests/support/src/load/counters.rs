use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Client, Value, encode};

/// What is known about one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sum of the increments whose replies came.
    pub acknowledged: i64,
    /// Sum of those sent whose reply never came or was an error: each may have happened, once.
    pub unknown: i64,
}

/// A counter's place: a string key, or a hash key with its field.
pub type Place = (String, Option<String>);

/// Clients that increment counters in pipelines, each its own, and know what each must be at least and at most.
#[derive(Debug)]
pub struct Counters {
    stop: Arc<AtomicBool>,
    tallies: Vec<Arc<Mutex<BTreeMap<Place, Tally>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Counters {
    /// Starts `clients` clients on the proxy at `port`. They reconnect as long as they run.
    pub fn start(port: u16, seed: u64, clients: u64) -> Counters {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut tallies, mut threads) = (Vec::new(), Vec::new());
        for index in 0..clients {
            let tally = Arc::new(Mutex::new(BTreeMap::new()));
            let client = CounterClient {
                address: ([127, 0, 0, 1], port).into(),
                index,
                rng: StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(index)),
                tally: Arc::clone(&tally),
            };
            let stopped = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || client.run(&stopped)));
            tallies.push(tally);
        }
        Counters { stop, tallies, threads }
    }

    /// What every counter was known to be just now.
    pub fn tallies(&self) -> BTreeMap<Place, Tally> {
        let lock = |t: &Arc<Mutex<BTreeMap<Place, Tally>>>| match t.lock() {
            Ok(tally) => tally.clone(),
            Err(_) => panic!("a counting client has panicked"),
        };
        self.tallies.iter().flat_map(lock).collect()
    }

    /// Stops all clients and returns what every counter must be. Panics when a client saw a wrong reply.
    pub fn finish(mut self) -> BTreeMap<Place, Tally> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.tallies()
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// After an error. A client that asks again as fast as it can takes the processor from the very server that it waits for.
const PAUSE: Duration = Duration::from_millis(5);

struct CounterClient {
    address: SocketAddr,
    index: u64,
    rng: StdRng,
    tally: Arc<Mutex<BTreeMap<Place, Tally>>>,
}

impl CounterClient {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let Ok(mut client) = Client::connect(self.address) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            client.set_timeout(Duration::from_secs(20));
            while !stop.load(Ordering::Relaxed) && self.pipeline(&mut client) {}
        }
    }

    /// Sends one pipeline and books its replies. False when the connection is gone.
    fn pipeline(&mut self, client: &mut Client) -> bool {
        let count = self.rng.random_range(1..30);
        let increments: Vec<(Place, i64)> = (0..count).map(|_| self.increment()).collect();
        let bytes: Vec<u8> =
            increments.iter().flat_map(|(place, by)| command(place, *by)).collect();
        let mut alive = client.send(&bytes).is_ok();
        let mut well = alive;
        for (place, by) in increments {
            let reply = if alive { client.receive() } else { Ok(Value::Nil) };
            let Ok(mut tallies) = self.tally.lock() else { return false };
            let tally = tallies.entry(place.clone()).or_default();
            match reply {
                Ok(Value::Int(now)) => {
                    tally.acknowledged += by;
                    let known = tally.acknowledged..=tally.acknowledged + tally.unknown;
                    assert!(known.contains(&now), "{place:?}: replied {now}, known {tally:?}");
                }
                other => {
                    well = false;
                    alive &= matches!(other, Ok(Value::Error(_)));
                    tally.unknown += by;
                }
            }
        }
        if !well {
            std::thread::sleep(PAUSE);
        }
        alive
    }

    /// Increments are positive, so that a counter never falls.
    fn increment(&mut self) -> (Place, i64) {
        let (client, n) = (self.index, self.rng.random_range(0..20));
        let place = match self.rng.random_range(0..3) {
            0 => (format!("count:{client}:{n}"), None),
            _ => (format!("counts:{client}"), Some(format!("field:{n}"))),
        };
        (place, self.rng.random_range(1..10))
    }
}

fn command((key, field): &Place, by: i64) -> Vec<u8> {
    match field {
        Some(field) => encode(["HINCRBY", key, field, &by.to_string()]),
        None => encode(["INCRBY", key, &by.to_string()]),
    }
}
