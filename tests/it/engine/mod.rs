//! The command engine against real Redis, and partly loaded against itself wholly in memory.

mod against_redis;
mod model_store;
mod partly_loaded;
pub(crate) mod replies;
mod scripts;

use std::time::Duration;

use bytes::Bytes;

/// How long a randomised test runs: `TANDEM_TEST_SECONDS`, or a few seconds.
fn time() -> Duration {
    let seconds = std::env::var("TANDEM_TEST_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// A seed that is new in every run, printed so that the run can be repeated.
fn seed() -> u64 {
    support::seed(rand::random())
}

fn shown(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| format!("\"{}\"", arg.escape_ascii())).collect::<Vec<_>>().join(" ")
}

fn to_bytes(args: &[Vec<u8>]) -> Vec<Bytes> {
    args.iter().cloned().map(Bytes::from).collect()
}
