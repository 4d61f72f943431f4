use std::sync::atomic::Ordering::Relaxed;

use super::{Counter, Gauge, Histogram, Metric, flag, metric};
use crate::strategy::MirrorState;

/// The mirror, and what comparisons of both sides have come to.
pub(super) const METRICS: &[Metric] = &[
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
];
