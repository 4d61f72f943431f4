use std::sync::atomic::Ordering::Relaxed;

use super::{Out, Scrape};
use crate::commands::Group;
use crate::config::Mode;
use crate::strategy::{Condition, Fault, MirrorState, MirrorStatus, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub(super) read: fn(&Scrape<'_>, &mut Out<'_>),
}

const MICROSECONDS: f64 = 1e-6;

const fn metric(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scrape<'_>, &mut Out<'_>),
) -> Metric {
    Metric { name, kind, labels, help, read }
}

use MetricKind::{Counter, Gauge, Histogram};

/// All metrics.
pub const METRICS: &[Metric] = &[
    metric("tandem_build_info", Gauge, &["version"], "1, with the version of Tandem.", |_, out| {
        out.labelled(&[env!("CARGO_PKG_VERSION")], 1.0);
    }),
    metric("tandem_uptime_seconds", Gauge, &[], "Time since the proxy has started.", |s, out| {
        out.value(s.status().started.elapsed().as_secs_f64());
    }),
    metric(
        "tandem_strategy_info",
        Gauge,
        &["strategy", "mode", "role"],
        "1, with the strategy in force, the mode that it has come to, and the role among several proxies.",
        |s, out| {
            out.labelled(
                &[s.status().strategy().as_str(), s.status().mode(), s.status().role().0.as_str()],
                1.0,
            );
        },
    ),
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
        "tandem_backend_condition",
        Gauge,
        &["backend", "condition"],
        "1 for the condition that the backend was found in.",
        |s, out| {
            let backends = [("redis", &s.status().redis), ("postgres", &s.status().postgres)];
            for (name, backend) in backends {
                let now = backend.condition().0;
                for condition in Condition::ALL {
                    out.labelled(&[name, condition.as_str()], flag(condition == now));
                }
            }
        },
    ),
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
    metric("tandem_operations_total", Counter, &["class"], "Commands of clients.", |s, out| {
        for group in Group::ALL {
            out.labelled(&[group.as_str()], s.status().meters.commands(group) as f64);
        }
    }),
    metric(
        "tandem_operation_seconds",
        Histogram,
        &["class"],
        "From a command's arrival to Redis's answer on its way to the client, the wait for PostgreSQL not included. One command at a time is timed on each lane.",
        |s, out| {
            let meters = &s.status().meters;
            out.histogram(&["read"], &meters.merged(|meter| &meter.reads), MICROSECONDS);
            out.histogram(&["write"], &meters.merged(|meter| &meter.writes), MICROSECONDS);
        },
    ),
    metric(
        "tandem_proxy_seconds",
        Histogram,
        &[],
        "The proxy's own part of tandem_operation_seconds.",
        |s, out| {
            out.histogram(&[], &s.status().meters.merged(|meter| &meter.own), MICROSECONDS);
        },
    ),
    metric(
        "tandem_redis_seconds",
        Histogram,
        &[],
        "The part of tandem_operation_seconds from the write to Redis until its answer has come.",
        |s, out| {
            out.histogram(&[], &s.status().meters.merged(|meter| &meter.redis), MICROSECONDS);
        },
    ),
    metric(
        "tandem_errors_total",
        Counter,
        &["kind"],
        "Commands that the proxy itself refused, and clients that it refused or closed.",
        |s, out| {
            for fault in Fault::ALL {
                out.labelled(&[fault.as_str()], s.status().meters.faults(fault) as f64);
            }
        },
    ),
    metric(
        "tandem_panics_total",
        Counter,
        &[],
        "Clients that were closed because of a defect of the proxy.",
        |s, out| {
            out.value(s.status().panics.load(Relaxed) as f64);
        },
    ),
    metric("tandem_clients", Gauge, &[], "Clients that are connected.", |s, out| {
        out.value(s.status().clients.load(Relaxed) as f64);
    }),
    metric("tandem_clients_max", Gauge, &[], "listen.max_clients.", |s, out| {
        out.value(s.app.config().now().max_clients as f64);
    }),
    metric("tandem_client_connections_total", Counter, &[], "Clients accepted.", |s, out| {
        out.value(s.status().clients_total.load(Relaxed) as f64);
    }),
    metric(
        "tandem_redis_connections",
        Gauge,
        &["use"],
        "Connections to Redis for clients: lanes are shared, pinned ones belong to one client.",
        |s, out| {
            let meters = &s.status().meters;
            out.labelled(&["lane"], meters.sum(|meter| meter.lanes.load(Relaxed)) as f64);
            out.labelled(&["pinned"], meters.sum(|meter| meter.pins.load(Relaxed)) as f64);
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
        "tandem_mirror_state",
        Gauge,
        &["state"],
        "1 for the state that the mirror is in.",
        |s, out| {
            let now = s.mirror().state();
            for state in MirrorState::ALL {
                out.labelled(&[state.as_str()], flag(state == now));
            }
        },
    ),
    metric(
        "tandem_mirror_lag_bytes",
        Gauge,
        &[],
        "Bytes of the replication stream received and not yet committed in PostgreSQL.",
        |s, out| {
            out.value(s.mirror().lag_bytes() as f64);
        },
    ),
    metric(
        "tandem_mirror_lag_seconds",
        Gauge,
        &[],
        "Age of the oldest effect that is received and not yet committed.",
        |s, out| {
            out.value(s.mirror().lag_ms.load(Relaxed) as f64 / 1e3);
        },
    ),
    metric(
        "tandem_mirror_received_offset_bytes",
        Gauge,
        &[],
        "Replication offset that has been received.",
        |s, out| {
            out.value(s.mirror().received.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_applied_offset_bytes",
        Gauge,
        &[],
        "Replication offset that PostgreSQL has.",
        |s, out| {
            out.value(s.mirror().applied.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_spool_bytes",
        Gauge,
        &[],
        "Size of the spool: what PostgreSQL could not take yet.",
        |s, out| {
            out.value(s.mirror().spool_bytes.load(Relaxed) as f64);
        },
    ),
    metric("tandem_mirror_spool_max_bytes", Gauge, &[], "mirror.spool_max_bytes.", |s, out| {
        out.value(s.app.config().mirror.spool_max_bytes as f64);
    }),
    metric(
        "tandem_mirror_commands_total",
        Counter,
        &[],
        "Commands of the replication stream that are committed.",
        |s, out| {
            out.value(s.mirror().effects.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_batch_commands",
        Histogram,
        &[],
        "Commands of the replication stream in one transaction.",
        |s, out| {
            out.histogram(&[], &s.mirror().batches.read(), 1.0);
        },
    ),
    metric(
        "tandem_postgres_commit_seconds",
        Histogram,
        &[],
        "Duration of the mirror's transactions in PostgreSQL.",
        |s, out| {
            out.histogram(&[], &s.mirror().commit_time.read(), MICROSECONDS);
        },
    ),
    metric(
        "tandem_mirror_resyncs_total",
        Counter,
        &["kind"],
        "Attachments to Redis: full with a snapshot, partial from where the log ended.",
        |s, out| {
            out.labelled(&["full"], s.mirror().full_syncs.load(Relaxed) as f64);
            out.labelled(&["partial"], s.mirror().partial_syncs.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_rereads_total",
        Counter,
        &[],
        "Keys read again from Redis because the stream alone did not tell their value.",
        |s, out| {
            out.value(s.mirror().rereads.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_unknown_commands_total",
        Counter,
        &[],
        "Commands of the stream that the engine did not understand.",
        |s, out| {
            out.value(s.mirror().unknown_commands.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_conflicts_total",
        Counter,
        &[],
        "Keys that differed on both sides when PostgreSQL led.",
        |s, out| {
            out.value(s.mirror().conflicts.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_foreign_flushes_total",
        Counter,
        &[],
        "FLUSHALL and FLUSHDB commands that were sent to Redis past the proxies.",
        |s, out| {
            out.value(s.mirror().foreign_flushes.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_mirror_restored_keys_total",
        Counter,
        &[],
        "Keys brought back to Redis from PostgreSQL.",
        |s, out| {
            out.value(s.mirror().restored.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_consistency_checks_total",
        Counter,
        &["result"],
        "Consistency checks of all keys, by what they have come to.",
        |s, out| {
            let checks = &s.app.syncer().checks;
            out.labelled(&["consistent"], checks.consistent.load(Relaxed) as f64);
            out.labelled(&["inconsistent"], checks.inconsistent.load(Relaxed) as f64);
            out.labelled(&["failed"], checks.failed.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_consistency_last_check_timestamp_seconds",
        Gauge,
        &[],
        "When the last consistency check of all keys has ended, as Unix time; 0: there was none.",
        |s, out| {
            let at = s.app.syncer().checks.last().map(|last| last.at);
            let since = at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            out.value(since.map_or(0.0, |since| since.as_secs_f64()));
        },
    ),
    metric(
        "tandem_consistency_differences",
        Gauge,
        &["kind"],
        "Keys that were wrong in the last consistency check that did not fail; those of kind unsettled never held still.",
        |s, out| {
            let totals = s.app.syncer().checks.last().and_then(|last| last.totals);
            let count = |of: fn(&crate::sync::Totals) -> u64| totals.as_ref().map_or(0, of) as f64;
            out.labelled(&["missing_in_redis"], count(|t| t.missing_in_redis));
            out.labelled(&["missing_in_postgres"], count(|t| t.missing_in_postgres));
            out.labelled(&["different"], count(|t| t.different));
            out.labelled(&["unsettled"], count(|t| t.unsettled));
        },
    ),
    metric(
        "tandem_acknowledge_holding",
        Gauge,
        &[],
        "1 while replies to writes wait for PostgreSQL.",
        |s, out| {
            out.value(flag(s.app.holding()));
        },
    ),
];

impl Scrape<'_> {
    fn status(&self) -> &Status {
        self.app.status()
    }

    fn mirror(&self) -> &MirrorStatus {
        &self.app.status().mirror
    }

    /// A number of Redis's `INFO`.
    fn redis(&self, name: &str, out: &mut Out<'_>) {
        if let Some(number) = self.look.redis.as_ref().ok().and_then(|redis| redis.number(name)) {
            out.value(number as f64);
        }
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}
