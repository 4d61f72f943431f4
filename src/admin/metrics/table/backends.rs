use std::sync::atomic::Ordering::Relaxed;

use super::{Counter, Gauge, Histogram, MICROSECONDS, Metric, flag, metric};
use crate::config::Mode;
use crate::strategy::Following;

/// Redis and PostgreSQL, and the Redis that follows.
pub(super) const METRICS: &[Metric] = &[
    metric("tandem_backend_up", Gauge, &["backend"], "1 when the backend answers.", |s, out| {
        match s.status().strategy() {
            Mode::PostgresOnly => {}
            Mode::DatabaseFirst => {
                out.labelled(&["redis"], flag(s.status().redis_up.load(Relaxed)));
            }
            _ => out.labelled(&["redis"], flag(s.look.redis_up())),
        }
        if s.look.postgres.is_some() {
            out.labelled(&["postgres"], flag(s.look.postgres_up()));
        }
    }),
    metric(
        "tandem_backend_round_trip_seconds",
        Histogram,
        &["backend"],
        "Round trip of a small question that the admin interface asks a backend.",
        |s, out| {
            let backends = s.app.backends();
            out.histogram(&["redis"], &backends.redis_round_trips.read(), MICROSECONDS);
            out.histogram(&["postgres"], &backends.postgres_round_trips.read(), MICROSECONDS);
        },
    ),
    metric(
        "tandem_redis_connections",
        Gauge,
        &["worker", "use"],
        "Connections to Redis for clients, of each worker: lanes are shared, pinned ones belong to one client.",
        |s, out| {
            for (number, meter) in s.status().meters.each().iter().enumerate() {
                let worker = number.to_string();
                out.labelled(&[&worker, "lane"], meter.lanes.load(Relaxed) as f64);
                out.labelled(&[&worker, "pinned"], meter.pins.load(Relaxed) as f64);
            }
        },
    ),
    metric(
        "tandem_postgres_connections",
        Gauge,
        &["state"],
        "Sessions of Tandem in PostgreSQL.",
        |s, out| {
            if let Some(Ok(state)) = &s.look.postgres {
                out.labelled(&["all"], state.sessions as f64);
                out.labelled(&["idle"], state.idle as f64);
                out.labelled(&["waiting"], state.waiting as f64);
            }
        },
    ),
    metric(
        "tandem_postgres_commit_seconds",
        Histogram,
        &[],
        "Duration of the transactions by which changes reach PostgreSQL: the mirror's, and those of the server that answers while PostgreSQL leads.",
        |s, out| {
            out.histogram(&[], &s.mirror().commit_time.read(), MICROSECONDS);
        },
    ),
    metric(
        "tandem_redis_hits_total",
        Counter,
        &[],
        "Lookups of keys that Redis had; since Redis has started.",
        |s, out| {
            s.redis("keyspace_hits", out);
        },
    ),
    metric(
        "tandem_redis_misses_total",
        Counter,
        &[],
        "Lookups of keys that Redis lacked; since Redis has started.",
        |s, out| {
            s.redis("keyspace_misses", out);
        },
    ),
    metric(
        "tandem_redis_evicted_keys_total",
        Counter,
        &[],
        "Keys that Redis has evicted; since Redis has started.",
        |s, out| {
            s.redis("evicted_keys", out);
        },
    ),
    metric("tandem_redis_memory_bytes", Gauge, &[], "Memory that Redis uses.", |s, out| {
        s.redis("used_memory", out);
    }),
    metric(
        "tandem_redis_errors_total",
        Counter,
        &["kind"],
        "Error replies of Redis by their first word; since Redis has started.",
        |s, out| {
            for (kind, count) in s.look.redis.iter().flat_map(|redis| redis.errors()) {
                out.labelled(&[kind], count as f64);
            }
        },
    ),
    metric(
        "tandem_follower_state",
        Gauge,
        &["state"],
        "1 for the state of the Redis that follows, while PostgreSQL leads.",
        |s, out| {
            let now = s.status().follower.state();
            for state in Following::ALL {
                out.labelled(&[state.as_str()], flag(state == now));
            }
        },
    ),
    metric(
        "tandem_follower_queued_bytes",
        Gauge,
        &[],
        "Changes that wait to be sent to the Redis that follows.",
        |s, out| {
            out.value(s.status().follower.queued_bytes.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_follower_owed_keys",
        Gauge,
        &[],
        "Keys that have to be sent whole to the Redis that follows.",
        |s, out| {
            out.value(s.status().follower.owed_keys.load(Relaxed) as f64);
        },
    ),
];
