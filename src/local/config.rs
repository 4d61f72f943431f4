use bytes::Bytes;

use crate::engine::events::Classes;
use crate::engine::{Answer, Stop, glob};
use crate::resp::Reply;

/// How many databases there are.
pub(super) const DATABASES: u32 = 16;

/// Parameters with two names.
const ALIASES: &[(&str, &str)] = &[
    ("busy-reply-threshold", "lua-time-limit"),
    ("hash-max-listpack-entries", "hash-max-ziplist-entries"),
    ("hash-max-listpack-value", "hash-max-ziplist-value"),
    ("list-max-listpack-size", "list-max-ziplist-size"),
    ("zset-max-listpack-entries", "zset-max-ziplist-entries"),
    ("zset-max-listpack-value", "zset-max-ziplist-value"),
];

/// Parameters of `CONFIG` that clients look at, with what they are here. Those that may be set keep what
/// they are set to; only some have an effect, as a comment says.
const PARAMETERS: &[(&str, &str, Change)] = &[
    ("appendfsync", "always", Change::Never),
    // PostgreSQL's WAL has every acknowledged write.
    ("appendonly", "yes", Change::Ignored),
    ("busy-reply-threshold", "5000", Change::Ignored),
    ("databases", "16", Change::Never),
    ("hash-max-listpack-entries", "512", Change::Ignored),
    ("hash-max-listpack-value", "64", Change::Ignored),
    ("hash-max-ziplist-entries", "512", Change::Ignored),
    ("hash-max-ziplist-value", "64", Change::Ignored),
    ("hll-sparse-max-bytes", "3000", Change::Ignored),
    ("hz", "10", Change::Ignored),
    ("lazyfree-lazy-expire", "no", Change::Ignored),
    ("lazyfree-lazy-user-del", "no", Change::Ignored),
    ("lazyfree-lazy-user-flush", "no", Change::Ignored),
    ("lfu-decay-time", "1", Change::Ignored),
    ("lfu-log-factor", "10", Change::Ignored),
    ("list-compress-depth", "0", Change::Ignored),
    ("list-max-listpack-size", "-2", Change::Ignored),
    ("list-max-ziplist-size", "-2", Change::Ignored),
    ("lua-time-limit", "5000", Change::Ignored),
    // Memory is bounded by mirror.cache_bytes, and nothing is evicted for good.
    ("maxmemory", "0", Change::Ignored),
    ("maxmemory-policy", "noeviction", Change::Ignored),
    ("notify-keyspace-events", "", Change::Events),
    ("proto-max-bulk-len", "536870912", Change::Never),
    ("save", "", Change::Ignored),
    ("set-max-intset-entries", "512", Change::Ignored),
    ("slowlog-log-slower-than", "10000", Change::Ignored),
    ("slowlog-max-len", "128", Change::Ignored),
    ("stream-node-max-bytes", "4096", Change::Ignored),
    ("stream-node-max-entries", "100", Change::Ignored),
    // Most keys that are remembered for CLIENT TRACKING.
    ("tracking-table-max-keys", "1000000", Change::Ignored),
    ("timeout", "0", Change::Never),
    ("zset-max-listpack-entries", "128", Change::Ignored),
    ("zset-max-listpack-value", "64", Change::Ignored),
    ("zset-max-ziplist-entries", "128", Change::Ignored),
    ("zset-max-ziplist-value", "64", Change::Ignored),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is what it is.
    Never,
    /// Memory is laid out otherwise here: the value is kept and shown.
    Ignored,
    /// Which keyspace events are published.
    Events,
}

/// What `CONFIG SET` and `DEBUG` have changed; forgotten when PostgreSQL comes back.
#[derive(Debug)]
pub(super) struct Settings {
    values: Vec<String>,
    /// Keys past their time are looked for (`DEBUG SET-ACTIVE-EXPIRE`).
    pub active_expire: bool,
    pub events: Classes,
}

impl Default for Settings {
    fn default() -> Settings {
        let values = PARAMETERS.iter().map(|(_, value, _)| (*value).to_owned()).collect();
        Settings { values, active_expire: true, events: Classes::default() }
    }
}

impl Settings {
    /// `CONFIG GET pattern …`.
    pub fn get(&self, patterns: &[Bytes]) -> Reply {
        let wanted = |name: &str| {
            let lower = |pattern: &Bytes| pattern.to_ascii_lowercase();
            patterns.iter().any(|pattern| glob::matches(&lower(pattern), name.as_bytes()))
        };
        let all = PARAMETERS.iter().zip(&self.values);
        let found = all.filter(|((name, ..), _)| wanted(name));
        Reply::Map(
            found.map(|((name, ..), v)| (Reply::bulk(*name), Reply::bulk(v.clone()))).collect(),
        )
    }

    /// A parameter that is a number; 0 when it is none.
    pub fn number(&self, name: &str) -> i64 {
        let at = PARAMETERS.iter().position(|(known, ..)| *known == name);
        at.and_then(|at| self.values[at].parse().ok()).unwrap_or_default()
    }

    /// `CONFIG SET name value …`: all or nothing.
    pub fn set(&mut self, pairs: &[Bytes]) -> Answer<Reply> {
        let (mut changes, mut events) = (Vec::new(), self.events);
        for pair in pairs.chunks(2) {
            let name = String::from_utf8_lossy(&pair[0]).to_ascii_lowercase();
            let at = PARAMETERS.iter().position(|(known, ..)| *known == name);
            let (Some(at), Some(value)) = (at, pair.get(1)) else {
                return Err(Stop::failed(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                )));
            };
            let mut value = String::from_utf8_lossy(value).into_owned();
            let refused = |why: &str| {
                Stop::failed(format!(
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
                ))
            };
            match PARAMETERS[at].2 {
                Change::Never if value != self.values[at] => {
                    return Err(refused("can't set immutable config"));
                }
                Change::Never | Change::Ignored => {}
                Change::Events => {
                    let classes = Classes::parse(&value).ok_or_else(|| {
                        refused("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
                    })?;
                    value = classes.to_string();
                    events = classes;
                }
            }
            changes.push((at, value));
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
        Ok(Reply::OK)
    }
}
