use std::process::ExitCode;

use serde_json::json;

use super::Options;
use super::client::AdminClient;
use super::show;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Print everything that is known, not the verdict alone.
    #[arg(long)]
    verbose: bool,
    /// Ask only whether clients can be served: what a container's health check wants to know.
    #[arg(long, conflicts_with = "verbose")]
    ready: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { options, verbose, ready } = arguments;
    let client = AdminClient::new(options)?;
    if *ready {
        show::print(&client.get("/ready")?.data()?, options.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = client.get("/admin/database/health")?;
    if answer.body["data"].is_null() {
        anyhow::bail!("{}", answer.message());
    }
    let health = &answer.body["data"];
    let shown = match *verbose || options.json {
        true => health.clone(),
        false => json!({
            "status": health["status"],
            "redis": health["databases"]["redis"],
            "postgres": health["databases"]["postgres"],
            "mode": health["mode"],
            "reasons": health["reasons"],
        }),
    };
    show::print(&shown, options.json)?;
    Ok(match health["status"] == "healthy" {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
