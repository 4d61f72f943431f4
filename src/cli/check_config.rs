use std::path::Path;

use crate::config::Config;

pub fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    println!(
        "{}: valid; {} on {}",
        path.display(),
        config.strategy.mode.as_str(),
        config.listen.address
    );
    Ok(())
}
