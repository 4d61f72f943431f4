use std::process::ExitCode;

use serde_json::json;

use super::Options;
use super::client::AdminClient;
use super::show;

pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let answer = AdminClient::new(options)?.post("/admin/database/reconnect", &json!({}))?;
    let done = answer.status.is_success();
    let data = match done {
        true => answer.body["data"].clone(),
        false => {
            json!({ "databases": answer.body["data"]["databases"], "message": answer.message() })
        }
    };
    show::print(&data, options.json)?;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
