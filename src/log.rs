//! The process's log: structured lines on standard error, as text or JSON, with a level that can be
//! changed at run time.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "{0:?} is no level or filter; write error, warn, info, debug, trace, or info,tandem::mirror=debug"
    )]
    Filter(String),
    #[error("the log cannot be started or changed: {0}")]
    Subscriber(String),
}

/// What the log shows at present.
#[derive(Clone, Default)]
pub struct LogLevel {
    /// None: this process has no log of its own.
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    now: Arc<Mutex<String>>,
}

impl LogLevel {
    pub fn get(&self) -> String {
        self.now.lock().clone()
    }

    /// Shows from now on what `filter` says; not remembered across restarts.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let wanted = parse(filter)?;
        let mut now = self.now.lock();
        if let Some(handle) = &self.handle {
            handle.reload(wanted).map_err(|error| LogError::Subscriber(error.to_string()))?;
        }
        tracing::info!(from = now.as_str(), to = filter, "log level changed");
        *now = filter.to_owned();
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Filter(filter.to_owned());
    // A word alone would pass for the name of a module, and nothing for `error`.
    let is_level = |word: &str| {
        let word = word.trim();
        !word.is_empty() && word.parse::<tracing::level_filters::LevelFilter>().is_ok()
    };
    if !filter.split(',').all(|part| part.contains('=') || is_level(part)) {
        return Err(wrong());
    }
    EnvFilter::try_new(filter).map_err(|_| wrong())
}

/// Starts the log of the process.
pub fn start(log: &Log) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&log.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
    started.map_err(|error| LogError::Subscriber(error.to_string()))?;
    Ok(LogLevel { handle: Some(handle), now: Arc::new(Mutex::new(log.level.clone())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_and_filters_are_taken() {
        for good in ["info", "off", "info,tandem::mirror=debug", "tandem=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "info,loud", "tandem=loud", "info,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
