//! The mirror converges: stop the load, and both sides hold the same keys, types, values, order and expiry.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::compare::Sides;
use support::load::{RandomLoad, Trace};
use support::{Postgres, Redis, Tandem, seed};

/// The proxy comes first: it ends first, and does not see its backends go.
struct Setup {
    tandem: Tandem,
    redis: Redis,
    postgres: Postgres,
}

impl Setup {
    fn start(mode: &str, ack: &str) -> Setup {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .redis(&redis)
            .postgres(&postgres)
            .mode(mode)
            .set("strategy", "ack", ack)
            // An unoptimised engine on a busy machine falls behind what was not held during the first sync.
            .allow("acknowledged by Redis")
            .start();
        Setup { tandem, redis, postgres }
    }

    fn sides(&self) -> Sides {
        Sides::new(&self.redis, &self.postgres)
    }

    fn random_load(&self, default_seed: u64, seconds: u64) {
        let time = std::env::var("TANDEM_TEST_CONVERGE_SECONDS").ok().and_then(|s| s.parse().ok());
        let time = Duration::from_secs(time.unwrap_or(seconds));
        let load = RandomLoad::new(self.tandem.port(), seed(default_seed), time);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.keep_lag_bounded(&load.paused, &ended));
            let _end = End(&ended);
            load.run();
        });
        self.sides().assert_equal();
    }

    /// Eight clients on a busy machine write more than PostgreSQL takes; without a pause now and then a
    /// long run would only show what happens when the spool is full.
    fn keep_lag_bounded(&self, paused: &AtomicBool, ended: &AtomicBool) {
        const MOST: u64 = 4 << 20;
        while !ended.load(Ordering::Relaxed) {
            let lag = self.tandem.status().get("mirror_lag_bytes").and_then(|n| n.parse().ok());
            paused.store(lag.unwrap_or(0) > MOST, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Set when it is dropped, also by a panic.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn random_commands_through_cache_first() {
    Setup::start("cache_first", "redis").random_load(11, 10);
}

#[test]
fn random_commands_through_dual_write() {
    Setup::start("dual_write", "postgres").random_load(12, 10);
}

/// Starts with data that was in Redis before the proxy, and goes on past a restart of the proxy.
#[test]
fn random_commands_across_a_first_sync_and_a_restart() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let seed = seed(13);
    RandomLoad::new(redis.port(), seed, Duration::from_secs(2)).run();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .mode("cache_first")
        .start();
    let mut setup = Setup { tandem, redis, postgres };
    setup.sides().assert_equal();
    setup.tandem.stop(Duration::from_secs(20));
    // What happens while the proxy is away is in Redis's backlog.
    RandomLoad::new(setup.redis.port(), seed + 1, Duration::from_secs(1)).run();
    setup.tandem.restart();
    RandomLoad::new(setup.tandem.port(), seed + 2, Duration::from_secs(2)).run();
    setup.sides().assert_equal();
}

#[test]
fn the_relays_traffic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(trace) = Trace::relay(root) else { return };
    let setup = Setup::start("dual_write", "postgres");
    let address = ([127, 0, 0, 1], setup.tandem.port()).into();
    let replay = trace.replay(address, 6).unwrap_or_else(|e| panic!("replay: {e}"));
    println!("{} commands in {:?}, {} errors", replay.commands, replay.time, replay.errors);
    setup.sides().assert_equal();
}
