//! The process among others: signals, reading the configuration again, and what systemd is told.

use std::path::Path;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Changes, Config, Source};
use crate::log::LogLevel;

/// What a signal asks for.
pub enum Asked {
    Reload,
    End,
}

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}

/// Reads the configuration again.
pub struct Reload<'a> {
    pub path: &'a Path,
    /// As it was last taken over.
    pub source: Source,
    pub config: Config,
    pub log_level: LogLevel,
}

impl Reload<'_> {
    /// Takes over what may change; a file with an error changes nothing.
    pub fn run(&mut self) {
        let (source, config) = match Source::load(self.path) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, "the configuration was not read again: nothing has changed");
                return;
            }
        };
        let Changes { now, at_restart } = self.source.changes(&source);
        // The level may have been changed over the admin interface; only a change in the file counts.
        if now.iter().any(|name| name == "log.level")
            && let Err(error) = self.log_level.set(&config.log.level)
        {
            tracing::error!(%error, "the configuration was not read again: nothing has changed");
            return;
        }
        self.config.take_over(&config);
        self.source = source;
        crate::open_files::raise_for(config.listen.max_clients);
        tracing::info!(changed = now.join(", "), "the configuration was read again");
        if !at_restart.is_empty() {
            tracing::warn!(
                keys = at_restart.join(", "),
                "these keys have changed too and need a restart"
            );
        }
    }
}

/// Says how far the process is, where systemd listens.
pub fn tell_systemd(states: &[Option<NotifyState<'_>>]) {
    let states: Vec<NotifyState<'_>> = states.iter().flatten().cloned().collect();
    if let Err(error) = sd_notify::notify(&states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
