use std::process::ExitCode;

use serde_json::{Value, json};

use super::Options;
use super::client::{AdminClient, query};
use super::job::{self, Side};
use super::show;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Only keys that match this Redis glob.
    #[arg(long)]
    pattern: Option<String>,
    /// Differences to show in full.
    #[arg(long)]
    limit: Option<u32>,
    /// Keys per second to look at; 0: as fast as it goes.
    #[arg(long)]
    rate: Option<u64>,
    /// Repair this side from the other one first.
    #[arg(long, value_name = "SIDE")]
    repair: Option<Side>,
    /// With --repair: delete what the side alone has.
    #[arg(long, requires = "repair")]
    delete: bool,
    /// With --repair: do not ask.
    #[arg(long, requires = "repair")]
    force: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&arguments.options)?;
    let repaired = match arguments.repair {
        Some(side) => repair(&client, side, arguments)?,
        None => Value::Null,
    };
    let path = query(
        "/admin/database/consistency-check",
        &[
            ("wait", Some("false".into())),
            ("pattern", arguments.pattern.clone()),
            ("limit", arguments.limit.map(|limit| limit.to_string())),
            ("rate", arguments.rate.map(|rate| rate.to_string())),
        ],
    );
    let ended = job::follow(&client, client.get(&path)?)?;
    if !ended.done {
        anyhow::bail!("{}", ended.message);
    }
    let mut report = ended.result;
    let consistent = report["consistent"] == true;
    if arguments.options.json {
        if !repaired.is_null() {
            report["repair"] = repaired;
        }
        show::print(&report, true)?;
    } else {
        if !repaired.is_null() {
            show::line(&show::text(&repaired["message"]))?;
        }
        print(report)?;
    }
    Ok(if consistent { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repair(client: &AdminClient, side: Side, arguments: &Arguments) -> anyhow::Result<Value> {
    let question = match side {
        Side::Postgres => "Replace what PostgreSQL has otherwise than Redis?",
        Side::Redis => "Replace what Redis has otherwise than PostgreSQL, although it is newer?",
    };
    job::confirm(question, arguments.force)?;
    let body = json!({
        "repair": side.as_str(),
        "pattern": arguments.pattern,
        "delete": arguments.delete,
        "rate": arguments.rate,
    });
    let started = client.post("/admin/database/consistency-fix?wait=false", &body)?;
    let ended = job::follow(client, started)?;
    if !ended.done {
        anyhow::bail!("{}", ended.message);
    }
    Ok(ended.result)
}

const COLUMNS: [&str; 7] = [
    "family",
    "redis",
    "postgres",
    "missing_in_redis",
    "missing_in_postgres",
    "different",
    "not_in_redis",
];

fn print(mut report: Value) -> anyhow::Result<()> {
    let rows = |list: Value, columns: &[&str]| -> Vec<Vec<String>> {
        let row = |item: &Value| columns.iter().map(|column| show::text(&item[*column])).collect();
        list.as_array().map(|list| list.iter().map(row).collect()).unwrap_or_default()
    };
    let families = rows(report["families"].take(), &COLUMNS);
    let columns = ["db", "key", "kind", "aspect", "detail"];
    let differences = rows(report["differences"].take(), &columns);
    let recommendations = report["recommendations"].take();
    show::print(&report, false)?;
    show::table(&COLUMNS, &families)?;
    show::table(&columns, &differences)?;
    for line in recommendations.as_array().into_iter().flatten() {
        show::line(&show::text(line))?;
    }
    Ok(())
}
