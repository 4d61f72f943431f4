//! What may change while the proxy runs, and what a changed file says that needs a restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use toml::{Table, Value};

use super::{Config, ConfigError, ListenUser, OnUnavailable};
use crate::acl::Everybody;

/// The keys that SIGHUP changes; all others need a restart.
const CHANGEABLE: &[&str] = &[
    "listen.max_clients",
    "listen.drain_timeout_ms",
    "listen.users",
    "strategy.ack_timeout_ms",
    "strategy.on_unavailable",
    "log.level",
];

/// The values of what may change, at one moment.
#[derive(Clone, Debug)]
pub struct Changeable {
    pub max_clients: usize,
    pub drain_timeout: Duration,
    pub ack_timeout: Duration,
    pub on_unavailable: OnUnavailable,
    /// `[[listen.users]]`.
    pub users: Arc<Everybody>,
}

/// Shared by all copies of a [`Config`].
#[derive(Clone, Debug, Default)]
pub(super) struct Live(Arc<RwLock<Option<Changeable>>>);

impl Config {
    /// What may change at run time, as it is now.
    pub fn now(&self) -> Changeable {
        let changed = self.live.0.read().clone();
        changed.unwrap_or_else(|| self.changeable())
    }

    /// Has this configuration and all copies of it take over what may change.
    pub fn take_over(&self, other: &Config) {
        *self.live.0.write() = Some(other.changeable());
    }

    fn changeable(&self) -> Changeable {
        Changeable {
            max_clients: self.listen.max_clients,
            drain_timeout: Duration::from_millis(self.listen.drain_timeout_ms),
            ack_timeout: Duration::from_millis(self.strategy.ack_timeout_ms),
            on_unavailable: self.strategy.on_unavailable,
            users: Arc::new(self.listen.users.iter().map(ListenUser::named).collect()),
        }
    }
}

/// A configuration file as it was last read.
#[derive(Clone, Debug)]
pub struct Source {
    keys: BTreeMap<String, Value>,
}

/// Keys that differ between two readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub now: Vec<String>,
    pub at_restart: Vec<String>,
}

impl Source {
    /// Reads the file and the environment, as [`Config::load`] does.
    pub fn load(path: &Path) -> Result<(Source, Config), ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
        Source::parse(&text, &shown, std::env::vars())
    }

    pub(super) fn parse(
        text: &str,
        path: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Source, Config), ConfigError> {
        let table = super::table(text, path, environment)?;
        let mut keys = BTreeMap::new();
        flatten("", &table, &mut keys);
        Ok((Source { keys }, super::from_table(table, path)?))
    }

    /// What `newer` says otherwise.
    pub fn changes(&self, newer: &Source) -> Changes {
        let mut changes = Changes::default();
        let names: std::collections::BTreeSet<_> =
            self.keys.keys().chain(newer.keys.keys()).collect();
        for name in names {
            if self.keys.get(name) == newer.keys.get(name) {
                continue;
            }
            let list = match CHANGEABLE.contains(&name.as_str()) {
                true => &mut changes.now,
                false => &mut changes.at_restart,
            };
            list.push(name.clone());
        }
        changes
    }
}

fn flatten(prefix: &str, table: &Table, into: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        match value {
            Value::Table(inner) => flatten(&format!("{prefix}{name}."), inner, into),
            value => {
                into.insert(format!("{prefix}{name}"), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_apart_and_reach_all_copies() {
        let parse = |text: &str| Source::parse(text, "proxy.toml", []).expect("valid");
        let (first, config) = parse("[listen]\nmax_clients = 5\n[redis]\nurl = 'redis://a:1'");
        let (second, changed) = parse("[listen]\nmax_clients = 6\n[[family]]\nmatch = 'a*'");
        let Changes { now, at_restart } = first.changes(&second);
        assert_eq!(now, ["listen.max_clients"]);
        assert_eq!(at_restart, ["family", "redis.url"]);
        assert_eq!(first.changes(&first), Changes::default());
        let copy = config.clone();
        assert_eq!(copy.now().max_clients, 5);
        config.take_over(&changed);
        assert_eq!((copy.now().max_clients, copy.listen.max_clients), (6, 5));
    }

    #[test]
    fn the_changeable_keys_exist_and_are_described_as_such() {
        let text = include_str!("../../proxy.toml");
        let table: Table = text.parse().expect("valid");
        let mut keys = BTreeMap::new();
        flatten("", &table, &mut keys);
        for name in CHANGEABLE {
            if *name == "listen.users" {
                // There are none by default.
                assert!(text.contains("# [[listen.users]]"), "{name}");
                continue;
            }
            assert!(keys.contains_key(*name), "{name}");
            let key = name.split_once('.').expect("a section").1;
            let line = text.lines().find(|line| line.starts_with(&format!("{key} = ")));
            assert!(line.is_some_and(|line| line.contains("# on SIGHUP.")), "{name}");
        }
        assert_eq!(text.matches("on SIGHUP.").count(), CHANGEABLE.len());
    }
}
