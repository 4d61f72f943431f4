use anyhow::Context;
use serde_json::json;

use super::{Options, show};
use crate::config::Config;
use crate::store::Store;

pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = Config::load(&options.file.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let version = runtime.block_on(async {
        let store = Store::connect(&config.postgres).await?;
        store.migrate().await?;
        store.version().await
    })?;
    let schema = &config.postgres.schema;
    show::print(
        &json!({ "schema": schema, "migration": version, "message": "up to date" }),
        options.json,
    )
}
