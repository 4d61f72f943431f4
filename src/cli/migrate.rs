use anyhow::Context;
use serde_json::json;

use super::{Options, show};
use crate::config::Config;
use crate::store::{Store, StoreError};

pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = Config::load(&options.file.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (version, problems) = runtime.block_on(async {
        let store = Store::connect(&config.postgres).await?;
        store.migrate().await?;
        let problems = store.make_views(&config.family).await?;
        Ok::<_, StoreError>((store.version().await?, problems))
    })?;
    if !problems.is_empty() {
        anyhow::bail!("{}", problems.join("\n"));
    }
    let schema = &config.postgres.schema;
    show::print(
        &json!({ "schema": schema, "migration": version, "message": "up to date" }),
        options.json,
    )
}
