use std::sync::atomic::Ordering::Relaxed;

use super::{Counter, Gauge, Histogram, MICROSECONDS, Metric, flag, metric};
use crate::commands::Group;
use crate::strategy::Fault;

/// The proxy itself: strategy, commands, clients.
pub(super) const METRICS: &[Metric] = &[
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
        "tandem_acknowledge_wait_seconds",
        Histogram,
        &[],
        "How long the answer to a write has waited for PostgreSQL to commit it. One command at a time is timed on each lane.",
        |s, out| {
            let waits = s.status().meters.merged(|meter| &meter.commit_waits);
            out.histogram(&[], &waits, MICROSECONDS);
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
    metric(
        "tandem_failovers_total",
        Counter,
        &[],
        "How often PostgreSQL has taken over from Redis.",
        |s, out| {
            out.value(s.status().failovers.load(Relaxed) as f64);
        },
    ),
    metric(
        "tandem_unanswered_seconds_total",
        Counter,
        &[],
        "For how long nobody has answered because who does was being decided: failovers, switches, the start.",
        |s, out| {
            out.value(s.app.unanswered().as_secs_f64());
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
];
