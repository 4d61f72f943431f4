//! The command line: one file per subcommand. Exit codes: 0 fine, 1 not, 2 wrong usage.

mod check_config;
mod serve;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "tandem", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Serve(ConfigFile),
    /// Read the configuration and say whether it is valid.
    CheckConfig(ConfigFile),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// Path of proxy.toml.
    #[arg(long, default_value = "proxy.toml")]
    config: PathBuf,
}

impl Cli {
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(file) => serve::run(&file.config),
            Command::CheckConfig(file) => check_config::run(&file.config),
        }
    }
}
