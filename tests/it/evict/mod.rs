//! A Redis of a tenth of the data under the relay's kind of load, against a model: no wrong answer, no counter off by
//! one, and nothing is lost from PostgreSQL. `./dev evict` runs it for minutes.

mod actions;
pub mod model;
mod player;

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::compare::{KeyName, Keyspace, Sides, Value as Stored};
use support::{Tandem, seed, wait_for};

use crate::cache::{Small, number};
use actions::SHARED;
use model::{Model, now_ms};
use player::Player;

const CLIENTS: u64 = 8;

struct Size {
    maxmemory: &'static str,
    /// Large texts of each client, 8.7 kB each.
    items: u64,
    time: Duration,
}

#[test]
fn a_cache_of_a_tenth_answers_as_a_model() {
    let seconds = std::env::var("TANDEM_TEST_EVICT_SECONDS").ok().and_then(|s| s.parse().ok());
    let size = match seconds {
        Some(seconds) => {
            Size { maxmemory: "50mb", items: 7_200, time: Duration::from_secs(seconds) }
        }
        None => Size { maxmemory: "6mb", items: 300, time: Duration::from_secs(4) },
    };
    let seed = seed(if seconds.is_some() { rand::random() } else { 5 });
    let small = Small::new(size.maxmemory, "allkeys-lru");
    let tandem = small.tandem();
    let players = play(&tandem, seed, &size);
    let (commands, keys) = players.iter().fold((0, 0), |(c, k), p| (c + p.commands, k + p.keys));
    let misses = number(&tandem, "cache_misses").unwrap_or(0) as f64;
    println!(
        "{commands} commands on {keys} keys in {:?}: {:.1} % hits; {} evictions, {} keys brought back",
        size.time,
        100.0 - 100.0 * misses / keys as f64,
        small.info("stats", "evicted_keys"),
        number(&tandem, "cache_recalled").unwrap_or(0),
    );
    assert!(small.info("stats", "evicted_keys") > 100, "nothing was evicted");
    assert_eq!(number(&tandem, "doubtful_deletes"), Some(0));
    costs(&small, &tandem, &players, seed);
    let shared = players.iter().map(|player| player.shared).sum();
    compare(&small, players.iter().map(|player| &player.model), shared);
}

fn play(tandem: &Tandem, seed: u64, size: &Size) -> Vec<Player> {
    std::thread::scope(|scope| {
        let play = |id| {
            let mut client = tandem.client();
            client.set_timeout(Duration::from_secs(60));
            let mut player = Player::new(id, seed, size.items, client);
            scope.spawn(move || {
                player.fill();
                let start = Instant::now();
                while start.elapsed() < size.time {
                    player.act();
                }
                player
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(play).collect();
        threads.into_iter().map(|t| t.join().expect("every answer as in the model")).collect()
    })
}

/// How long a read takes where Redis has the key, and where it has to be brought back.
fn costs(small: &Small, tandem: &Tandem, players: &[Player], seed: u64) {
    let (mut straight, mut client) = (small.redis.client(), tandem.client());
    let (mut hits, mut misses) = (Vec::new(), Vec::new());
    let mut rng = SmallRng::seed_from_u64(seed);
    let keys: Vec<&String> = players.iter().flat_map(|player| player.model.keys.keys()).collect();
    for _ in 0..2_000 {
        let key = keys[rng.random_range(0..keys.len())];
        if !key.starts_with("request_detail") {
            continue;
        }
        let there = straight.call(["EXISTS", key]).int() == 1;
        let start = Instant::now();
        client.call(["GET", key]);
        if there { &mut hits } else { &mut misses }.push(start.elapsed().as_micros());
    }
    for (name, mut times) in [("hit", hits), ("miss", misses)] {
        times.sort_unstable();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).unwrap_or(&0);
        println!("a {name}, {} times: p50 {} µs, p99 {} µs", times.len(), at(0.5), at(0.99));
    }
}

/// Everything that clients were told is in PostgreSQL, and nothing else.
fn compare<'a>(small: &Small, models: impl Iterator<Item = &'a Model>, shared: i64) {
    let mut expected = Model::default();
    models.for_each(|model| expected.keys.extend(model.keys.clone()));
    let sides = Sides::new(&small.redis, &small.postgres);
    let mut wrong = Vec::new();
    wait_for("PostgreSQL to hold what clients were told", Duration::from_secs(60), || {
        let (held, faults) = sides.postgres_keyspace().expect("readable");
        assert!(faults.is_empty(), "{faults:?}");
        println!("{} keys in PostgreSQL", held.len());
        wrong = differences(&expected, &held, shared);
        wrong.is_empty() || {
            println!("{} differences: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
            std::thread::sleep(Duration::from_secs(1));
            false
        }
    });
}

fn differences(expected: &Model, held: &Keyspace, shared: i64) -> Vec<String> {
    let now = now_ms();
    // What is over may be there until somebody looks.
    let over = |at: Option<i64>| at.is_some_and(|at| at <= now);
    let mut wrong = Vec::new();
    for (key, told) in &expected.keys {
        let name = KeyName { db: 0, key: key.clone().into_bytes() };
        match held.get(&name) {
            Some(entry) if !told.is(entry) => wrong.push(format!("{key}: {told:?}, not {entry:?}")),
            None if !over(told.expires_at) => wrong.push(format!("{key} is lost")),
            _ => {}
        }
    }
    for (name, entry) in held {
        let key = String::from_utf8_lossy(&name.key).into_owned();
        if key == SHARED {
            let fields = [(b"requests".to_vec(), shared.to_string().into_bytes())];
            if entry.value != Stored::Hash(fields.into()) {
                wrong.push(format!("{SHARED} is {entry:?}, not {shared}"));
            }
        } else if !expected.keys.contains_key(&key) && !over(entry.expires_at_ms) {
            wrong.push(format!("{key} has come back"));
        }
    }
    wrong
}
