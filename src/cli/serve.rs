use std::path::Path;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Log, LogFormat};

pub fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    start_log(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("background")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(crate::server::run(config))?;
    Ok(())
}

fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level)
        .with_context(|| format!("log.level: {:?} is not a level or a filter", log.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
