use std::process::ExitCode;

use serde_json::json;

use super::Options;
use super::client::AdminClient;
use super::{job, show};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Only keys that match this Redis glob.
    #[arg(long)]
    pattern: Option<String>,
    /// Keys per second to look at; 0: as fast as it goes.
    #[arg(long)]
    rate: Option<u64>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&arguments.options)?;
    let body = json!({ "pattern": arguments.pattern, "rate": arguments.rate });
    let started = client.post("/admin/database/cache/warm?wait=false", &body)?;
    let ended = job::follow(&client, started)?;
    show::print(&ended.result, arguments.options.json)?;
    if !ended.done {
        anyhow::bail!("{}", ended.message);
    }
    Ok(if ended.result["errors"] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
