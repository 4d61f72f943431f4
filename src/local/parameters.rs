//! Parameters of `CONFIG` that clients look at, with what they are here. Those that may be set keep what
//! they are set to; those with an effect say so.

use crate::engine::events::Classes;

/// What a parameter may be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is what it is.
    Fixed,
    Text,
    YesNo,
    /// From, to.
    Number(i64, i64),
    /// In bytes, with a unit.
    Memory,
    /// Likewise, or in percent.
    Share,
    OneOf(&'static [&'static str]),
    /// The letters of `notify-keyspace-events`.
    Events,
    /// Shown only by its full name.
    Hidden,
}

const MANY: i64 = i64::MAX;
const INT: i64 = i32::MAX as i64;
const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

/// Parameters with two names.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("busy-reply-threshold", "lua-time-limit"),
    ("hash-max-listpack-entries", "hash-max-ziplist-entries"),
    ("hash-max-listpack-value", "hash-max-ziplist-value"),
    ("list-max-listpack-size", "list-max-ziplist-size"),
    ("min-replicas-to-write", "min-slaves-to-write"),
    ("zset-max-listpack-entries", "zset-max-ziplist-entries"),
    ("zset-max-listpack-value", "zset-max-ziplist-value"),
];

pub(super) const PARAMETERS: &[(&str, &str, Kind)] = &[
    ("activedefrag", "no", Kind::YesNo),
    ("appendfsync", "always", Kind::OneOf(&["always", "everysec", "no"])),
    // PostgreSQL's WAL has every acknowledged write.
    ("appendonly", "yes", Kind::YesNo),
    ("bind", "", Kind::Fixed),
    // Effective: from here on a script is slow, in ms.
    ("busy-reply-threshold", "5000", Kind::Number(0, INT)),
    ("client-query-buffer-limit", "1073741824", Kind::Memory),
    ("daemonize", "no", Kind::Fixed),
    ("databases", "16", Kind::Fixed),
    ("hash-max-listpack-entries", "512", Kind::Number(0, MANY)),
    ("hash-max-listpack-value", "64", Kind::Number(0, MANY)),
    ("hash-max-ziplist-entries", "512", Kind::Number(0, MANY)),
    ("hash-max-ziplist-value", "64", Kind::Number(0, MANY)),
    ("hll-sparse-max-bytes", "3000", Kind::Number(0, MANY)),
    ("hz", "10", Kind::Number(0, INT)),
    ("key-load-delay", "0", Kind::Hidden),
    ("latency-monitor-threshold", "0", Kind::Number(0, MANY)),
    ("latency-tracking", "yes", Kind::YesNo),
    ("latency-tracking-info-percentiles", "50 99 99.9", Kind::Text),
    ("lazyfree-lazy-eviction", "no", Kind::YesNo),
    ("lazyfree-lazy-expire", "no", Kind::YesNo),
    ("lazyfree-lazy-server-del", "no", Kind::YesNo),
    ("lazyfree-lazy-user-del", "no", Kind::YesNo),
    ("lazyfree-lazy-user-flush", "no", Kind::YesNo),
    ("lfu-decay-time", "1", Kind::Number(0, INT)),
    ("lfu-log-factor", "10", Kind::Number(0, INT)),
    ("list-compress-depth", "0", Kind::Number(0, INT)),
    ("list-max-listpack-size", "-2", Kind::Number(-INT, INT)),
    ("list-max-ziplist-size", "-2", Kind::Number(-INT, INT)),
    ("loglevel", "notice", Kind::OneOf(&["debug", "verbose", "notice", "warning"])),
    ("lua-time-limit", "5000", Kind::Number(0, INT)),
    ("maxclients", "10000", Kind::Fixed),
    // Effective with noeviction, for the memory of the whole proxy. What is kept of the data is bounded by
    // mirror.cache_bytes, and nothing is evicted for good.
    ("maxmemory", "0", Kind::Memory),
    ("maxmemory-clients", "0", Kind::Share),
    ("maxmemory-policy", "noeviction", Kind::OneOf(POLICIES)),
    ("maxmemory-samples", "5", Kind::Number(1, INT)),
    // Effective: there are no replicas, so any number refuses writes.
    ("min-replicas-max-lag", "10", Kind::Number(0, INT)),
    ("min-replicas-to-write", "0", Kind::Number(0, INT)),
    ("min-slaves-to-write", "0", Kind::Number(0, INT)),
    // Effective.
    ("notify-keyspace-events", "", Kind::Events),
    ("port", "0", Kind::Fixed),
    ("proto-max-bulk-len", "536870912", Kind::Fixed),
    ("repl-backlog-size", "1048576", Kind::Memory),
    ("repl-ping-replica-period", "10", Kind::Number(1, INT)),
    ("replica-serve-stale-data", "yes", Kind::YesNo),
    ("replicaof", "", Kind::Fixed),
    ("save", "", Kind::Text),
    ("set-max-intset-entries", "512", Kind::Number(0, MANY)),
    ("slaveof", "", Kind::Fixed),
    // Effective.
    ("slowlog-log-slower-than", "10000", Kind::Number(-1, MANY)),
    ("slowlog-max-len", "128", Kind::Number(0, MANY)),
    ("stream-node-max-bytes", "4096", Kind::Memory),
    // Effective: what `~` trims at once.
    ("stream-node-max-entries", "100", Kind::Number(0, MANY)),
    ("tcp-keepalive", "300", Kind::Number(0, INT)),
    ("timeout", "0", Kind::Fixed),
    // Effective: most keys that are remembered for CLIENT TRACKING.
    ("tracking-table-max-keys", "1000000", Kind::Number(0, MANY)),
    ("zset-max-listpack-entries", "128", Kind::Number(0, MANY)),
    ("zset-max-listpack-value", "64", Kind::Number(0, MANY)),
    ("zset-max-ziplist-entries", "128", Kind::Number(0, MANY)),
    ("zset-max-ziplist-value", "64", Kind::Number(0, MANY)),
];

impl Kind {
    /// A new value as it is shown, or why it is none, in Redis's words.
    pub fn take(self, value: &str, old: &str) -> Result<String, String> {
        match self {
            Kind::Fixed if value == old => Ok(old.to_owned()),
            Kind::Fixed => Err("can't set immutable config".into()),
            Kind::Text | Kind::Hidden => Ok(value.to_owned()),
            Kind::YesNo => {
                one_of(&["yes", "no"], value).ok_or_else(|| "argument must be 'yes' or 'no'".into())
            }
            Kind::Number(least, most) => {
                let number = value.parse::<i64>();
                let number = number.map_err(|_| "argument couldn't be parsed into an integer")?;
                match (least..=most).contains(&number) {
                    true => Ok(number.to_string()),
                    false => Err(format!("argument must be between {least} and {most} inclusive")),
                }
            }
            Kind::Memory => memory(value).map(|bytes| bytes.to_string()),
            Kind::Share => match value.strip_suffix('%').map(str::parse::<u32>) {
                None => memory(value).map(|bytes| bytes.to_string()),
                Some(Ok(percent)) if percent <= 100 => Ok(format!("{percent}%")),
                Some(Ok(_)) => Err("percentage argument must be less or equal to 100".into()),
                Some(Err(_)) => Err("argument must be a memory or percent value".into()),
            },
            Kind::OneOf(known) => one_of(known, value).ok_or_else(|| {
                format!("argument(s) must be one of the following: {}", known.join(", "))
            }),
            Kind::Events => Classes::parse(value)
                .map(|classes| classes.to_string())
                .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
        }
    }
}

fn one_of(known: &[&str], value: &str) -> Option<String> {
    known.iter().find(|known| known.eq_ignore_ascii_case(value)).map(|known| (*known).to_owned())
}

/// Bytes, such as `100mb`.
fn memory(value: &str) -> Result<u64, String> {
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.filter(|_| factor > 0).ok_or_else(|| "argument must be a memory value".into())
}
