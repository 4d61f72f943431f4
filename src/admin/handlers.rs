use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::{Answer, Failure, Success};
use super::backends::Look;
use super::health::{Databases, Verdict, judge};
use super::metrics;
use super::state::App;
use crate::commands::Group;
use crate::strategy::{Buckets, Fault};

/// How long `reconnect` waits for a backend that is away.
const RECONNECT: Duration = Duration::from_secs(5);
const RECONNECT_STEP: Duration = Duration::from_millis(250);

pub async fn live() -> Success<Value> {
    Success(json!({ "status": "live" }))
}

pub async fn ready(State(app): State<App>) -> Answer<Value> {
    if app.is_stopping() {
        return Err(Failure::unavailable("stopping", "the proxy is stopping"));
    }
    if app.is_ready() {
        return Ok(Success(json!({ "status": "ready" })));
    }
    let mirror = &app.status().mirror;
    let message = match app.status().serves() {
        false if app.status().strategy().is_led_by_postgres() => {
            "PostgreSQL has not been reached yet".to_owned()
        }
        false => format!("Redis has not been reached yet {}", mirror.reason()),
        true => format!("the first sync is under way: the mirror is {}", mirror.state().as_str()),
    };
    Err(Failure::unavailable("not_ready", message.trim()))
}

pub async fn prometheus(State(app): State<App>) -> Response {
    let look = app.backends().look().await;
    match metrics::text(&app, &look) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            Failure::new(status, "metrics", error.to_string()).into_response()
        }
    }
}

pub async fn health(State(app): State<App>) -> Answer<Value> {
    let health = judge(&app, &*app.backends().look().await);
    let unhealthy = health.status == Verdict::Unhealthy;
    let message = health.reasons.join("; ");
    let health = json!(health);
    match unhealthy {
        true => Err(Failure::unavailable("unhealthy", message).with(health)),
        false => Ok(Success(health)),
    }
}

/// 200 whatever is found out: the question is answered.
pub async fn status(State(app): State<App>) -> Success<Value> {
    let look = app.backends().look().await;
    let health = judge(&app, &look);
    let status = app.status();
    let mirror = &status.mirror;
    let switched = status.switched();
    Success(json!({
        "health": health,
        "connectionPools": { "redis": redis_connections(&app, &look), "postgres": postgres_connections(&look) },
        "mirror": {
            "state": mirror.state().as_str(),
            "reason": mirror.reason(),
            "replid": *mirror.replid.read(),
            "receivedOffset": mirror.received.load(Relaxed),
            "offset": mirror.applied.load(Relaxed),
            "lagBytes": mirror.lag_bytes(),
            "lagMs": mirror.lag_ms.load(Relaxed),
            "spoolBytes": mirror.spool_bytes.load(Relaxed),
            "fullSyncs": mirror.full_syncs.load(Relaxed),
            "partialSyncs": mirror.partial_syncs.load(Relaxed),
            "rereads": mirror.rereads.load(Relaxed),
            "conflicts": mirror.conflicts.load(Relaxed),
            "restored": mirror.restored.load(Relaxed),
        },
        "strategy": {
            "current": status.strategy().as_str(),
            "configured": status.configured.as_str(),
            "switchedAt": switched.last.as_ref().map(|(at, _)| at),
            "switchedBy": switched.last.as_ref().map(|(_, by)| by),
            "switchingTo": switched.to.map(|to| to.as_str()),
        },
        "consistency": app.syncer().checks.describe(),
        "acknowledge": match status.ack {
            crate::config::Ack::Postgres => "postgres",
            crate::config::Ack::Redis => "redis",
        },
        "holding": app.holding(),
        "role": status.role().0.as_str(),
        "leader": status.role().1,
        "uptimeSeconds": status.started.elapsed().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

fn redis_connections(app: &App, look: &Look) -> Value {
    let meters = &app.status().meters;
    let mut facts = json!({
        "connected": look.redis_up(),
        "lanes": meters.sum(|meter| meter.lanes.load(Relaxed)),
        "pinned": meters.sum(|meter| meter.pins.load(Relaxed)),
    });
    match &look.redis {
        Ok(redis) => {
            facts["version"] = json!(redis.text("redis_version"));
            facts["usedMemoryBytes"] = json!(redis.number("used_memory"));
            facts["roundTripMs"] = json!(redis.round_trip.as_secs_f64() * 1e3);
        }
        Err(error) => facts["error"] = json!(error),
    }
    facts
}

fn postgres_connections(look: &Look) -> Value {
    match &look.postgres {
        None => json!({ "connected": false, "totalCount": 0, "idleCount": 0, "waitingCount": 0 }),
        Some(Ok(state)) => json!({
            "connected": true,
            "totalCount": state.sessions,
            "idleCount": state.idle,
            "waitingCount": state.waiting,
            "version": state.version,
            "roundTripMs": state.round_trip.as_secs_f64() * 1e3,
        }),
        Some(Err(error)) => json!({
            "connected": false, "totalCount": 0, "idleCount": 0, "waitingCount": 0, "error": error,
        }),
    }
}

pub async fn metrics(State(app): State<App>) -> Success<Value> {
    let look = app.backends().look().await;
    let status = app.status();
    let (meters, mirror) = (&status.meters, &status.mirror);
    let (operations, errors) = app.rates().per_second(status);
    let redis = look.redis.as_ref().ok();
    let number = |name| redis.and_then(|redis| redis.number(name));
    let (hits, misses) = (number("keyspace_hits"), number("keyspace_misses"));
    let hit_rate = hits.zip(misses).filter(|(hits, misses)| hits + misses > 0);
    let by_class: serde_json::Map<String, Value> = Group::ALL
        .into_iter()
        .map(|group| (group.as_str().to_owned(), json!(meters.commands(group))))
        .collect();
    let faults: serde_json::Map<String, Value> = Fault::ALL
        .into_iter()
        .map(|fault| (fault.as_str().to_owned(), json!(meters.faults(fault))))
        .collect();
    let (all, failed) = (meters.all_commands(), meters.all_faults());
    Success(json!({
        "operations": { "total": all, "perSecond": operations, "byClass": by_class },
        "cache": {
            "hits": hits,
            "misses": misses,
            "hitRate": hit_rate.map(|(hits, misses)| hits as f64 / (hits + misses) as f64),
        },
        "errors": {
            "total": failed,
            "perSecond": errors,
            "rate": if all > 0 { failed as f64 / all as f64 } else { 0.0 },
            "byKind": faults,
        },
        "latencyMs": {
            "read": percentiles(&meters.merged(|meter| &meter.reads)),
            "write": percentiles(&meters.merged(|meter| &meter.writes)),
            "proxy": percentiles(&meters.merged(|meter| &meter.own)),
            "redis": percentiles(&meters.merged(|meter| &meter.redis)),
            "postgresCommit": percentiles(&mirror.commit_time.read()),
        },
        "connections": {
            "clients": status.clients.load(Relaxed),
            "clientsTotal": status.clients_total.load(Relaxed),
            "lanes": meters.sum(|meter| meter.lanes.load(Relaxed)),
            "pinned": meters.sum(|meter| meter.pins.load(Relaxed)),
        },
        "mirror": {
            "lagBytes": mirror.lag_bytes(),
            "lagMs": mirror.lag_ms.load(Relaxed),
            "spoolBytes": mirror.spool_bytes.load(Relaxed),
            "effects": mirror.effects.load(Relaxed),
            "commits": mirror.commits.load(Relaxed),
        },
    }))
}

fn percentiles(buckets: &Buckets) -> Value {
    let quantile = |q| buckets.quantile(q).map(|micros| micros / 1e3);
    json!({ "p50": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99), "count": buckets.count() })
}

pub async fn reconnect(State(app): State<App>) -> Answer<Value> {
    let start = std::time::Instant::now();
    loop {
        app.status().reconnect.notify_waiters();
        app.backends().reset().await;
        let look = app.backends().look().await;
        let follows = judge(&app, &look).status == Verdict::Healthy;
        let late = start.elapsed() >= RECONNECT;
        if !(follows || late) {
            tokio::time::sleep(RECONNECT_STEP).await;
            continue;
        }
        let databases = Databases::of(&app, &look);
        return match look.complete() {
            true => {
                let message = match follows {
                    true => "connected",
                    false => "connected; the mirror is catching up",
                };
                Ok(Success(json!({ "databases": databases, "message": message })))
            }
            false => {
                let message = judge(&app, &look).reasons.join("; ");
                Err(Failure::unavailable("unavailable", message)
                    .with(json!({ "databases": databases })))
            }
        };
    }
}
