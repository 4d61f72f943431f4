use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use super::Options;
use super::client::AdminClient;
use super::show;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Print again and again, until interrupted.
    #[arg(long)]
    watch: bool,
    /// Seconds between two prints.
    #[arg(long, default_value_t = 5, requires = "watch", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let client = AdminClient::new(&arguments.options)?;
    let json = arguments.options.json;
    loop {
        let metrics = client.get("/admin/database/metrics")?.data()?;
        if arguments.watch && !json && stdout().is_terminal() {
            // Home, and everything below cleared.
            write!(stdout(), "\x1b[H\x1b[2J")?;
        }
        show::print(&metrics, json)?;
        if !arguments.watch {
            return Ok(());
        }
        if !json {
            writeln!(stdout())?;
        }
        pause(Duration::from_secs(arguments.interval));
    }
}

#[allow(clippy::disallowed_methods, reason = "nothing else runs in this process")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
