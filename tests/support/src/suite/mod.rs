//! The scoreboard of Redis's own test suite: each file is run straight against Redis and through the proxy,
//! and every test that passes straight has to pass through.

mod outcome;
mod report;
mod run;

pub use outcome::{Outcome, parse};
pub use report::{Known, Row, known_differences, print_rows, write_json};
pub use run::{Mode, Runner};

/// The files that make sense against an external server, without cluster and replication tests.
pub const FILES: &[&str] = &[
    "unit/protocol",
    "unit/keyspace",
    "unit/scan",
    "unit/expire",
    "unit/type/string",
    "unit/type/incr",
    "unit/type/list",
    "unit/type/list-2",
    "unit/type/list-3",
    "unit/type/set",
    "unit/type/zset",
    "unit/type/hash",
    "unit/type/stream",
    "unit/type/stream-cgroups",
    "unit/multi",
    "unit/scripting",
    "unit/functions",
    "unit/sort",
    "unit/bitops",
    "unit/bitfield",
    "unit/geo",
    "unit/hyperloglog",
    "unit/dump",
    "unit/pubsub",
    "unit/pubsubshard",
    "unit/other",
    "unit/quit",
    "unit/introspection",
    "unit/introspection-2",
    "unit/tracking",
    "unit/info",
    "unit/lazyfree",
    "unit/pause",
    "unit/slowlog",
    "unit/latency-monitor",
];
