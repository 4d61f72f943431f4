//! Exactly once: counters-only load while the proxy and PostgreSQL are killed with SIGKILL at random moments.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::compare::{Keyspace, Sides, Value};
use support::load::{Counters, Tally};
use support::{Postgres, Redis, Tandem, seed};

type Tallies = BTreeMap<(String, Option<String>), Tally>;

#[test]
fn no_increment_is_lost_or_applied_twice() {
    let rounds = std::env::var("TANDEM_TEST_CRASH_ROUNDS").ok().and_then(|s| s.parse().ok());
    let seed = seed(21);
    let mut rng = StdRng::seed_from_u64(seed);
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .mode("dual_write")
        .set("strategy", "ack", "postgres")
        // Longer than any outage here: no write may be acknowledged before PostgreSQL has it.
        .set("strategy", "ack_timeout_ms", 600_000)
        // PostgreSQL goes away on purpose.
        .allow("ostgre")
        .start();
    let sides = Sides::new(&redis, &postgres);
    sides.assert_equal();
    let load = Counters::start(tandem.port(), seed, 6);
    for round in 0..rounds.unwrap_or(8) {
        std::thread::sleep(Duration::from_millis(rng.random_range(20..400)));
        let (kill_proxy, kill_postgres) = match rng.random_range(0..5) {
            0 | 1 => (true, false),
            2 | 3 => (false, true),
            _ => (true, true),
        };
        println!("round {round}: kill proxy {kill_proxy}, PostgreSQL {kill_postgres}");
        let postgres_first = kill_postgres && (!kill_proxy || rng.random());
        if postgres_first {
            postgres.kill9();
        }
        if kill_proxy {
            tandem.kill9()
        } else {
            tandem.pause()
        }
        // From here on nobody can bring a lost write to PostgreSQL before it has been looked for.
        let acknowledged = load.tallies();
        if kill_postgres {
            postgres.kill9();
            postgres.restart();
        }
        println!(
            "round {round}: keys in PostgreSQL {}",
            postgres.sql("SELECT count(*), max(updated_at) FROM tandem.keys")
        );
        let held = sides.postgres_keyspace().unwrap_or_else(|e| panic!("round {round}: {e}")).0;
        assert_holds(&held, &acknowledged, "acknowledged, and not in PostgreSQL");
        if kill_proxy { tandem.restart() } else { tandem.resume() }
    }
    let tallies = load.finish();
    let sum: i64 = tallies.values().map(|tally| tally.acknowledged).sum();
    println!("{} counters, {sum} acknowledged", tallies.len());
    assert!(sum > 0, "no increment was ever acknowledged");
    sides.assert_equal();
    let redis = sides.redis_keyspace().unwrap();
    assert_holds(&redis, &tallies, "acknowledged, and not in Redis");
    for (place, tally) in &tallies {
        let most = tally.acknowledged + tally.unknown;
        let now = counter(&redis, place);
        assert!(now <= most, "{place:?} is {now}, but only {most} was ever sent: {tally:?}");
    }
}

pub(crate) fn assert_holds(keyspace: &Keyspace, tallies: &Tallies, what: &str) {
    for (place, tally) in tallies {
        let now = counter(keyspace, place);
        assert!(now >= tally.acknowledged, "{what}: {place:?} is {now}, known {tally:?}");
    }
}

pub(crate) fn counter(keyspace: &Keyspace, (key, field): &(String, Option<String>)) -> i64 {
    let found = keyspace.iter().find(|(name, _)| name.db == 0 && name.key == key.as_bytes());
    let bytes = match (found.map(|(_, entry)| &entry.value), field) {
        (Some(Value::String(bytes)), None) => Some(bytes),
        (Some(Value::Hash(fields)), Some(field)) => fields.get(field.as_bytes()),
        _ => None,
    };
    bytes.map_or(0, |bytes| String::from_utf8_lossy(bytes).parse().unwrap())
}
