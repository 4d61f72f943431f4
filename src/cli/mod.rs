//! The command line: one file per subcommand. Exit codes: 0 fine, 1 not, 2 wrong usage.

mod check_config;
mod check_consistency;
mod clear_cache;
mod client;
mod completions;
mod dev;
mod health;
mod job;
mod jobs;
mod log_level;
mod man;
mod metrics;
mod migrate;
mod reconnect;
mod serve;
mod show;
mod status;
mod switch_strategy;
mod sync;
mod warm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "tandem",
    version,
    about,
    after_help = "Exit codes: 0 fine, 1 not, 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Serve(ConfigFile),
    /// Run the proxy before a private Redis and a private PostgreSQL, until Ctrl-C.
    Dev(dev::Arguments),
    /// Read the configuration and say whether it is valid.
    CheckConfig(ConfigFile),
    /// Create the schema in PostgreSQL or bring it up to date; no proxy has to run.
    Migrate(Options),
    /// Say whether the running proxy and both backends are well; exit code 1 unless all are.
    Health(health::Arguments),
    /// How the running proxy, its backends and the mirror are.
    Status(Options),
    /// Rates, latencies, hit rate and lag of the running proxy.
    Metrics(metrics::Arguments),
    /// Compare Redis and PostgreSQL key by key; exit code 1 when they differ.
    CheckConsistency(check_consistency::Arguments),
    /// Copy what one side has to the other one; exit code 1 when a key could not be copied.
    Sync(sync::Arguments),
    /// Switch the strategy of the running proxy; clients stay connected.
    SwitchStrategy(switch_strategy::Arguments),
    /// Drop copies from Redis that PostgreSQL holds; never a key that only Redis has.
    ClearCache(clear_cache::Arguments),
    /// Bring back to Redis what it lacks and PostgreSQL has.
    Warm(warm::Arguments),
    /// Show the jobs of the running proxy, or cancel one.
    Jobs(jobs::Arguments),
    /// Have the running proxy try backends that are away at once.
    Reconnect(Options),
    /// Show or change the log level of the running proxy, until its next start.
    LogLevel(log_level::Arguments),
    /// Print a completion script for a shell.
    Completions(completions::Arguments),
    /// Print a man page, in roff.
    Man(man::Arguments),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// Path of proxy.toml.
    #[arg(long, default_value = "proxy.toml")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Cli {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let fine = |()| ExitCode::SUCCESS;
        match self.command {
            Command::Serve(file) => serve::run(&file.config).map(fine),
            Command::Dev(arguments) => dev::run(&arguments),
            Command::CheckConfig(file) => check_config::run(&file.config).map(fine),
            Command::Migrate(options) => migrate::run(&options).map(fine),
            Command::Health(arguments) => health::run(&arguments),
            Command::Status(options) => status::run(&options).map(fine),
            Command::Metrics(arguments) => metrics::run(&arguments).map(fine),
            Command::CheckConsistency(arguments) => check_consistency::run(&arguments),
            Command::Sync(arguments) => sync::run(&arguments),
            Command::SwitchStrategy(arguments) => switch_strategy::run(&arguments),
            Command::ClearCache(arguments) => clear_cache::run(&arguments),
            Command::Warm(arguments) => warm::run(&arguments),
            Command::Jobs(arguments) => jobs::run(&arguments).map(fine),
            Command::Reconnect(options) => reconnect::run(&options),
            Command::LogLevel(arguments) => log_level::run(&arguments).map(fine),
            Command::Man(arguments) => man::run(&arguments).map(fine),
            Command::Completions(arguments) => completions::run(&arguments).map(fine),
        }
    }
}
