//! What Tandem's tests stand on: real `redis-server` and `postgres` processes on free ports in
//! temporary directories, the proxy in front of them, and a small blocking RESP client.
//!
//! ```ignore
//! let redis = Redis::start();
//! let postgres = Postgres::start();
//! let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).postgres(&postgres).start();
//! let mut client = tandem.client();
//! assert_eq!(client.call(["SET", "k", "v"]), Value::ok());
//! ```
//!
//! Everything here is for tests: what cannot go on panics with the reason and the log's end.
//! Every process ends when its guard is dropped, and also when the test process is killed.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "tests block their own thread only")]

mod certificates;
pub mod commands;
pub mod compare;
mod fault_proxy;
pub mod grammar;
pub mod load;
mod ports;
mod postgres;
mod process;
mod redis;
mod resp;
mod scratch;
mod small_disk;
pub mod suite;
mod tandem;

pub use certificates::Certificates;
pub use fault_proxy::{FaultProxy, Line};
pub use ports::Port;
pub use postgres::Postgres;
pub use process::{Process, find_program};
pub use redis::{Redis, RedisOptions};
pub use resp::{Client, RespError, Value, encode};
pub use scratch::Scratch;
pub use small_disk::SmallDisk;
pub use tandem::{Tandem, TandemOptions};

use std::time::{Duration, Instant};

/// Calls `ready` every few milliseconds until it is true. Panics after `limit`, naming `what`.
pub fn wait_for(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The seed of a randomised test: `TANDEM_TEST_SEED` when set, otherwise `default`. It is printed,
/// so that a failure can be repeated.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("TANDEM_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or(default);
    println!("seed: {seed} (repeat with TANDEM_TEST_SEED={seed})");
    seed
}
