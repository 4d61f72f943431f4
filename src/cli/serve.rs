use std::path::Path;

use anyhow::Context;

use crate::config::Source;
use crate::{log, traces};

pub fn run(path: &Path) -> anyhow::Result<()> {
    let (source, config) = Source::load(path)?;
    let log_level = log::start(&config.log).context("log.level")?;
    let traces = traces::start(&config.traces)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("background")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(crate::server::run(path, source, config, log_level));
    if let Some(traces) = traces {
        traces.stop();
    }
    Ok(ended?)
}
