//! `CONFIG GET` and `SET`.

use bytes::Bytes;

use super::parameters::{ALIASES, Kind, PARAMETERS};
use crate::engine::events::Classes;
use crate::engine::{Answer, Stop, glob};
use crate::resp::Reply;

/// How many databases there are.
pub(super) const DATABASES: u32 = 16;

/// What `CONFIG SET` and `DEBUG` have changed; forgotten when PostgreSQL comes back.
#[derive(Debug)]
pub(super) struct Settings {
    values: Vec<String>,
    /// Keys past their time are looked for (`DEBUG SET-ACTIVE-EXPIRE`).
    pub active_expire: bool,
    pub events: Classes,
    /// From here on a command is slow, in µs; negative: none is.
    pub slow_us: i64,
    /// Bytes beyond which commands that need memory are refused; 0: no limit.
    pub max_memory: u64,
    /// There are no replicas, and some are asked for.
    pub too_few_replicas: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        let values = PARAMETERS.iter().map(|(_, value, _)| (*value).to_owned()).collect();
        let mut settings = Settings {
            values,
            active_expire: true,
            events: Classes::default(),
            slow_us: 0,
            max_memory: 0,
            too_few_replicas: false,
        };
        settings.derive();
        settings
    }
}

impl Settings {
    /// `CONFIG GET pattern …`.
    pub fn get(&self, patterns: &[Bytes]) -> Reply {
        let wanted = |name: &str, kind: Kind| {
            patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).any(|pattern| match kind {
                Kind::Hidden => pattern == name.as_bytes(),
                _ => glob::matches(&pattern, name.as_bytes()),
            })
        };
        let all = PARAMETERS.iter().zip(&self.values);
        let found = all.filter(|((name, _, kind), _)| wanted(name, *kind));
        Reply::Map(
            found.map(|((name, ..), v)| (Reply::bulk(*name), Reply::bulk(v.clone()))).collect(),
        )
    }

    /// A parameter as it is shown.
    pub fn text(&self, name: &str) -> &str {
        let at = PARAMETERS.iter().position(|(known, ..)| *known == name);
        at.map_or("", |at| &self.values[at])
    }

    /// A parameter that is a number; 0 when it is none.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// `CONFIG SET name value …`: all or nothing.
    pub fn set(&mut self, pairs: &[Bytes]) -> Answer<Reply> {
        let mut changes: Vec<(usize, String)> = Vec::new();
        let mut events = self.events;
        for pair in pairs.chunks(2) {
            let name = String::from_utf8_lossy(&pair[0]).to_ascii_lowercase();
            let at = PARAMETERS.iter().position(|(known, ..)| *known == name);
            let (Some(at), Some(value)) = (at, pair.get(1)) else {
                return Err(Stop::failed(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                )));
            };
            let refused = |why: &str| {
                Stop::failed(format!(
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
                ))
            };
            if changes.iter().any(|(known, _)| *known == at) {
                return Err(refused("duplicate parameter"));
            }
            let value = String::from_utf8_lossy(value);
            if PARAMETERS[at].2 == Kind::Events {
                // Not from what is shown: `A` hides a letter that counts.
                events = Classes::parse(&value).unwrap_or_default();
            }
            let value = PARAMETERS[at].2.take(&value, &self.values[at]);
            changes.push((at, value.map_err(|why| refused(&why))?));
        }
        self.events = events;
        for (at, value) in changes {
            let name = PARAMETERS[at].0;
            let other = ALIASES.iter().find_map(|(one, two)| match name {
                name if name == *one => Some(*two),
                name if name == *two => Some(*one),
                _ => None,
            });
            let other = PARAMETERS.iter().position(|(known, ..)| Some(*known) == other);
            for at in other.into_iter().chain([at]) {
                self.values[at].clone_from(&value);
            }
        }
        self.derive();
        Ok(Reply::OK)
    }

    /// What is looked at too often to be read from text.
    fn derive(&mut self) {
        self.slow_us = self.number("slowlog-log-slower-than");
        self.too_few_replicas = self.number("min-replicas-to-write") > 0;
        // With another policy Redis makes room; here what is not used leaves memory by itself.
        let refuses = self.text("maxmemory-policy") == "noeviction";
        let most = u64::try_from(self.number("maxmemory")).unwrap_or_default();
        self.max_memory = if refuses { most } else { 0 };
    }
}
