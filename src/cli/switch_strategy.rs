use std::process::ExitCode;

use serde_json::json;

use super::Options;
use super::client::AdminClient;
use super::{job, show};
use crate::config::Mode;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// dual_write, cache_first, database_first, redis_only or postgres_only (or with dashes).
    #[arg(value_parser = strategy)]
    strategy: Mode,
    /// Do not ask, and switch also where something may be lost, or a backend is away.
    #[arg(long)]
    force: bool,
    /// Do not ask, but switch only where it is safe.
    #[arg(long, short, conflicts_with = "force")]
    yes: bool,
}

fn strategy(name: &str) -> Result<Mode, String> {
    Mode::parse(name).ok_or_else(|| {
        let known = Mode::ALL.map(Mode::as_str).join(", ");
        format!("there is no such strategy; there are {known}")
    })
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&arguments.options)?;
    let name = arguments.strategy.as_str();
    job::confirm(
        &format!("Switch to {name}? Clients stay connected, and restarts keep it."),
        arguments.force || arguments.yes,
    )?;
    let path = format!("/admin/database/strategy/{name}?wait=false");
    let ended = job::follow(&client, client.post(&path, &json!({ "force": arguments.force }))?)?;
    if !ended.done {
        anyhow::bail!("{}", ended.message);
    }
    show::print(&ended.result, arguments.options.json)?;
    Ok(ExitCode::SUCCESS)
}
