use serde_json::json;

use super::Options;
use super::client::AdminClient;
use super::show;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// The level or filter to change to, such as debug or info,tandem::mirror=debug.
    level: Option<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let client = AdminClient::new(&arguments.options)?;
    let answer = match &arguments.level {
        None => client.get("/admin/log-level")?,
        Some(level) => client.post("/admin/log-level", &json!({ "level": level }))?,
    };
    show::print(&answer.data()?, arguments.options.json)
}
