use std::sync::atomic::Ordering::Relaxed;

use super::{Counter, Gauge, Metric, flag, metric};
use crate::strategy::Gap;

/// Redis as a cache: keys that it lacks.
pub(super) const METRICS: &[Metric] = &[
    metric(
        "tandem_redis_partial",
        Gauge,
        &["reason"],
        "1 for each reason for which Redis may lack keys that PostgreSQL has.",
        |s, out| {
            for (gap, name) in Gap::ALL {
                out.labelled(&[name], flag(s.presence().has(gap)));
            }
        },
    ),
    metric(
        "tandem_redis_keys_to_warm",
        Gauge,
        &[],
        "Keys that a Redis without its data still lacks.",
        |s, out| {
            out.value(s.presence().counters.to_warm.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_cache_misses_total",
        Counter,
        &[],
        "Keys that clients have missed in Redis while it may lack some, and that were looked for in PostgreSQL.",
        |s, out| {
            out.value(s.presence().counters.misses.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_cache_recalled_keys_total",
        Counter,
        &[],
        "Keys that were brought back to Redis because somebody missed them.",
        |s, out| {
            out.value(s.presence().counters.recalled.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_cache_evictions_total",
        Counter,
        &[],
        "Deletes in the replication stream that were evictions.",
        |s, out| {
            out.value(s.presence().counters.evictions.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_cache_doubtful_deletes_total",
        Counter,
        &[],
        "Deletes in the replication stream that may have been evictions.",
        |s, out| {
            out.value(s.presence().counters.doubtful.load(Relaxed) as f64);
        },
    ),
];
