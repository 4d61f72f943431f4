//! Work on data: comparing and copying. See [`crate::sync`].

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::answer::Failure;
use super::endpoints::{MOST, MOST_SHOWN};
use super::jobs;
use super::state::App;
use crate::sync::{CheckOptions, Class, CopyOptions, Place, Scope, Target};

/// Differences that are told in full unless asked otherwise.
const SHOWN: u64 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckQuery {
    pattern: Option<String>,
    limit: Option<u64>,
    tolerance_ms: Option<u64>,
    rate: Option<u64>,
    #[serde(default = "yes")]
    wait: bool,
}

fn yes() -> bool {
    true
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn at_most(name: &str, value: Option<u64>, most: u64) -> Result<Option<u64>, Failure> {
    match value {
        Some(value) if value > most => Err(bad(format!("{name} is at most {most}"))),
        value => Ok(value),
    }
}

fn scope(app: &App, pattern: Option<String>, rate: Option<u64>) -> Result<Scope, Failure> {
    if pattern.as_ref().is_some_and(String::is_empty) {
        return Err(bad("pattern is a Redis glob such as session:*; leave it out for all keys"));
    }
    let rate = at_most("rate", rate, MOST)?.unwrap_or(app.config().sync.keys_per_second);
    Ok(Scope { pattern, rate })
}

pub async fn check(
    State(app): State<App>,
    query: Result<Query<CheckQuery>, QueryRejection>,
) -> Response {
    let options = query.map_err(|error| bad(error.body_text())).and_then(|Query(query)| {
        let limit = at_most("limit", query.limit, MOST_SHOWN)?.unwrap_or(SHOWN);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let tolerance_ms = at_most("tolerance_ms", query.tolerance_ms, MOST)?;
        let scope = scope(&app, query.pattern, query.rate)?;
        let tolerance_ms = tolerance_ms.unwrap_or(app.config().sync.ttl_tolerance_ms);
        Ok((CheckOptions { scope, tolerance_ms, limit, considerate: false }, query.wait))
    });
    let (options, wait) = match options {
        Ok(options) => options,
        Err(failure) => return failure.into_response(),
    };
    let arguments = json!({
        "pattern": options.scope.pattern,
        "rate": options.scope.rate,
        "tolerance_ms": options.tolerance_ms,
    });
    let syncer = Arc::clone(app.syncer());
    let started =
        app.syncer().jobs.start("consistency-check", Class::Check, arguments, |job| async move {
            syncer.check(options, &job).await
        });
    jobs::answer(started, wait).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    #[serde(default = "yes")]
    wait: bool,
}

/// A whole number, which JSON may write as `5.0` too.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else { return Ok(None) };
    let float = || {
        let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
        // Beyond 2^53 a float is no exact number.
        (0.0..=9_007_199_254_740_992.0).contains(&float).then_some(float as u64)
    };
    let whole = number.as_u64().or_else(float);
    whole
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{number} is no whole number from 0 on")))
}

/// What a copy is asked for.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct CopyBody {
    pattern: Option<String>,
    overwrite: bool,
    delete: bool,
    dry_run: bool,
    #[serde(deserialize_with = "whole")]
    rate: Option<u64>,
    /// The job whose interrupted work is taken up; what was asked of it counts.
    #[serde(skip_serializing, deserialize_with = "whole")]
    resume: Option<u64>,
}

/// What a repair is asked for.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FixBody {
    repair: Side,
    pattern: Option<String>,
    #[serde(default)]
    delete: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default, deserialize_with = "whole")]
    rate: Option<u64>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Redis,
    Postgres,
}

/// A JSON object, whatever its content type; without a body all is as by default.
pub fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Failure> {
    let body =
        body.map_err(|error| Failure::new(error.status(), "bad_request", error.body_text()))?;
    let text = if body.trim_ascii().is_empty() { b"{}" } else { &body[..] };
    // An array would be taken for the members in their order.
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
    serde_json::from_value(object.into()).map_err(|error| bad(error.to_string()))
}

pub fn wait(query: Result<Query<WaitQuery>, QueryRejection>) -> Result<bool, Failure> {
    query.map(|Query(query)| query.wait).map_err(|error| bad(error.body_text()))
}

pub async fn redis_to_postgres(
    State(app): State<App>,
    query: Result<Query<WaitQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    copy(&app, "redis-to-postgres", Target::Postgres, query, body).await
}

pub async fn postgres_to_redis(
    State(app): State<App>,
    query: Result<Query<WaitQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    copy(&app, "postgres-to-redis", Target::Redis, query, body).await
}

async fn copy(
    app: &App,
    kind: &'static str,
    target: Target,
    query: Result<Query<WaitQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let prepared = wait(query).and_then(|wait| {
        let mut body: CopyBody = parse(body)?;
        let from = match body.resume {
            None => None,
            Some(id) => {
                let (asked, place) = interrupted(app, kind, id)?;
                body = asked;
                Some(place)
            }
        };
        if body.overwrite && target == Target::Postgres {
            return Err(bad(
                "overwrite is for postgres-to-redis: PostgreSQL always gets what Redis has",
            ));
        }
        let scope = scope(app, body.pattern.clone(), body.rate)?;
        let CopyBody { overwrite, delete, dry_run, .. } = body;
        let options =
            CopyOptions { target, scope, overwrite, delete, repair: false, dry_run, from };
        Ok((options, json!(body), wait))
    });
    match prepared {
        Ok((options, arguments, wait)) => start(app, kind, options, arguments, wait).await,
        Err(failure) => failure.into_response(),
    }
}

/// What was asked of a job that was interrupted, and how far it has come.
fn interrupted(app: &App, kind: &str, id: u64) -> Result<(CopyBody, Place), Failure> {
    let job = app.syncer().jobs.get(id).filter(|job| job.kind == kind);
    let job = job.ok_or_else(|| {
        let message = format!(
            "there is no job {id} of this kind to resume; GET /admin/jobs lists those that are remembered"
        );
        Failure::new(StatusCode::NOT_FOUND, "not_found", message)
    })?;
    let place = job.place().ok_or_else(|| {
        let message = format!(
            "job {id} was not interrupted, or before it had done anything: start a new one"
        );
        Failure::new(StatusCode::CONFLICT, "not_interrupted", message)
    })?;
    let asked = serde_json::from_value(job.arguments.clone());
    Ok((asked.map_err(|error| bad(error.to_string()))?, place))
}

pub async fn fix(
    State(app): State<App>,
    query: Result<Query<WaitQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let prepared = wait(query).and_then(|wait| {
        let body: FixBody = parse(body)?;
        let scope = scope(&app, body.pattern.clone(), body.rate)?;
        let target = match body.repair {
            Side::Redis => Target::Redis,
            Side::Postgres => Target::Postgres,
        };
        let FixBody { delete, dry_run, .. } = body;
        let overwrite = target == Target::Redis;
        let options =
            CopyOptions { target, scope, overwrite, delete, repair: true, dry_run, from: None };
        Ok((options, json!(body), wait))
    });
    match prepared {
        Ok((options, arguments, wait)) => {
            start(&app, "consistency-fix", options, arguments, wait).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn start(
    app: &App,
    kind: &'static str,
    options: CopyOptions,
    arguments: serde_json::Value,
    wait: bool,
) -> Response {
    let class = if options.dry_run { Class::Check } else { Class::Change };
    let syncer = Arc::clone(app.syncer());
    let work = |job: Arc<crate::sync::Job>| async move { syncer.copy(options, &job).await };
    jobs::answer(app.syncer().jobs.start(kind, class, arguments, work), wait).await
}

/// Which copies are dropped or brought back.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct CacheBody {
    pattern: Option<String>,
    #[serde(deserialize_with = "whole")]
    rate: Option<u64>,
}

pub async fn clear(
    State(app): State<App>,
    query: Result<Query<WaitQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let prepared = wait(query).and_then(|wait| {
        let body: CacheBody = parse(body)?;
        Ok((scope(&app, body.pattern.clone(), body.rate)?, json!(body), wait))
    });
    let (scope, arguments, wait) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return failure.into_response(),
    };
    let syncer = Arc::clone(app.syncer());
    let work = |job: Arc<crate::sync::Job>| async move { syncer.clear(scope, &job).await };
    let started = app.syncer().jobs.start("cache-clear", Class::Change, arguments, work);
    jobs::answer(started, wait).await
}

pub async fn warm(
    State(app): State<App>,
    query: Result<Query<WaitQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let prepared = wait(query).and_then(|wait| {
        let body: CacheBody = parse(body)?;
        let scope = scope(&app, body.pattern.clone(), body.rate)?;
        let options = CopyOptions {
            target: Target::Redis,
            scope,
            overwrite: false,
            delete: false,
            repair: false,
            dry_run: false,
            from: None,
        };
        Ok((options, json!(body), wait))
    });
    match prepared {
        Ok((options, arguments, wait)) => start(&app, "cache-warm", options, arguments, wait).await,
        Err(failure) => failure.into_response(),
    }
}
