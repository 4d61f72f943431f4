//! The strategy that was switched to, for the next start: a file in the spool's directory, so that it is known
//! without Redis and without PostgreSQL. It counts as long as the configured strategy is the one of then.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Mode};

const NAME: &str = "strategy.json";

/// The last switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// What was configured then.
    pub configured: Mode,
    pub strategy: Mode,
    /// RFC 3339.
    pub at: String,
    pub by: String,
}

impl Remembered {
    /// The switch that counts at this start. Says so in the log, and why one does not count.
    pub fn load(config: &Config) -> Option<Remembered> {
        let path = config.mirror.spool_dir.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the last switch of the strategy cannot be read");
                return None;
            }
        };
        let configured = config.strategy.mode;
        match serde_json::from_str::<Remembered>(&text) {
            Ok(last) if last.configured == configured => {
                let Remembered { strategy, at, by, .. } = &last;
                tracing::info!(
                    strategy = strategy.as_str(),
                    configured = configured.as_str(),
                    at,
                    by,
                    "the strategy was switched before, and stays so until strategy.mode is changed"
                );
                Some(last)
            }
            Ok(last) => {
                tracing::info!(
                    before = last.configured.as_str(),
                    configured = configured.as_str(),
                    switched = last.strategy.as_str(),
                    "strategy.mode has changed since the last switch, and counts"
                );
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(%error, path = %path.display(), "the last switch cannot be forgotten");
                }
                None
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the last switch of the strategy cannot be read");
                None
            }
        }
    }

    /// Writes it beside the one that counts.
    pub fn prepare(&self, directory: &Path) -> std::io::Result<Prepared> {
        std::fs::create_dir_all(directory)?;
        let (path, draft) = (directory.join(NAME), directory.join(format!("{NAME}.new")));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.sync_all()?;
        Ok(Prepared { path, draft })
    }
}

/// A switch that does not count yet.
pub struct Prepared {
    path: PathBuf,
    draft: PathBuf,
}

impl Prepared {
    /// From here on a restarted process knows it.
    pub fn commit(self) -> std::io::Result<()> {
        std::fs::rename(&self.draft, &self.path)?;
        match self.path.parent() {
            Some(directory) => std::fs::File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_counts_until_the_configured_strategy_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.mirror.spool_dir = directory.path().join("spool");
        assert_eq!(Remembered::load(&config), None);
        let switch = Remembered {
            configured: Mode::DualWrite,
            strategy: Mode::RedisOnly,
            at: "2026-01-01T00:00:00.000Z".into(),
            by: "somebody".into(),
        };
        let prepared = switch.prepare(&config.mirror.spool_dir).expect("written");
        assert_eq!(Remembered::load(&config), None, "not yet");
        prepared.commit().expect("renamed");
        assert_eq!(Remembered::load(&config), Some(switch.clone()));
        config.strategy.mode = Mode::CacheFirst;
        assert_eq!(Remembered::load(&config), None);
        config.strategy.mode = Mode::DualWrite;
        assert_eq!(Remembered::load(&config), None, "it is forgotten for good");
    }
}
