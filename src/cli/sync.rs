use std::process::ExitCode;

use serde_json::json;

use super::Options;
use super::client::AdminClient;
use super::job::{self, Side};
use super::show;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// The side to copy from.
    #[arg(long)]
    source: Side,
    /// The side to copy to.
    #[arg(long)]
    target: Side,
    /// Only keys that match this Redis glob.
    #[arg(long)]
    pattern: Option<String>,
    /// Count what would be copied and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Delete from the target what the source lacks.
    #[arg(long)]
    delete: bool,
    /// To Redis: replace also what Redis has otherwise, which is newer.
    #[arg(long)]
    overwrite: bool,
    /// Keys per second to look at; 0: as fast as it goes.
    #[arg(long)]
    rate: Option<u64>,
    /// Go on where this job was interrupted.
    #[arg(long, value_name = "JOB")]
    resume: Option<u64>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { source, target, .. } = *arguments;
    if source == target {
        eprintln!("error: --source and --target are the same side");
        return Ok(ExitCode::from(2));
    }
    let client = AdminClient::new(&arguments.options)?;
    let (from, to) = (source.as_str(), target.as_str());
    if !arguments.dry_run {
        job::confirm(&format!("Copy from {from} to {to}?"), arguments.force)?;
    }
    let body = json!({
        "pattern": arguments.pattern,
        "dry_run": arguments.dry_run,
        "delete": arguments.delete,
        "overwrite": arguments.overwrite,
        "rate": arguments.rate,
        "resume": arguments.resume,
    });
    let path = format!("/admin/database/sync/{from}-to-{to}?wait=false");
    let ended = job::follow(&client, client.post(&path, &body)?)?;
    show::print(&ended.result, arguments.options.json)?;
    if !ended.done {
        anyhow::bail!("{}; `--resume {}` goes on from there", ended.message, ended.id);
    }
    Ok(if ended.result["errors"] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
