//! Compares the whole keyspace of a Redis with its mirror in PostgreSQL, key by key. Exit status 1: they differ.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use support::compare::Sides;

#[derive(Parser)]
#[command(about)]
struct Options {
    /// host:port of Redis itself, not of the proxy.
    #[arg(long, default_value = "127.0.0.1:6379")]
    redis: String,
    #[arg(long)]
    redis_password: Option<String>,
    #[arg(long, default_value = "postgres://postgres@127.0.0.1:5432/postgres")]
    postgres: String,
    #[arg(long, default_value = "tandem")]
    schema: String,
    /// Glob of keys that live in Redis alone; repeat for several.
    #[arg(long = "unmirrored")]
    unmirrored: Vec<String>,
    /// Seconds to wait for the mirror. It is asked with a marker key, written to Redis and removed again.
    #[arg(long, default_value_t = 30)]
    wait: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let sides = Sides {
        redis_address: options.redis,
        redis_password: options.redis_password,
        postgres_url: options.postgres,
        schema: options.schema,
        unmirrored: options.unmirrored,
    };
    match sides.equal(Duration::from_secs(options.wait)) {
        Ok(keys) => {
            println!("equal: {keys} keys");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
