//! Jobs over HTTP: started with an answer that waits or does not, looked at, cancelled.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::{Answer, Failure, Success, timestamp};
use super::state::App;
use crate::sync::{Busy, Job, Outcome, SyncError};

/// Answers the job's result when it has ended; with `wait` false its number at once, as 202.
pub async fn answer(started: Result<Arc<Job>, Busy>, wait: bool) -> Response {
    let job = match started {
        Ok(job) => job,
        Err(busy) => return refused(&busy).into_response(),
    };
    if wait {
        return match job.end().await {
            Outcome::Done(result) => Success(result).into_response(),
            Outcome::Failed(error) => {
                let failure = Failure::from(error);
                // What it had done until then.
                failure.with(job.describe()).into_response()
            }
        };
    }
    let body = json!({ "success": true, "data": job.describe(), "timestamp": timestamp() });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

pub fn refused(busy: &Busy) -> Failure {
    let Busy { id, kind } = busy;
    let message = format!(
        "job {id} ({kind}) is running: wait for it (GET /admin/jobs/{id}) or cancel it (DELETE /admin/jobs/{id})"
    );
    Failure::new(StatusCode::CONFLICT, "busy", message).with(json!({ "job": id, "kind": kind }))
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Failure {
        let status = match &error {
            SyncError::BadInput(_) => StatusCode::BAD_REQUEST,
            SyncError::NotApplicable(_)
            | SyncError::StandingBy(_)
            | SyncError::Refused(_)
            | SyncError::Cancelled => StatusCode::CONFLICT,
            SyncError::Redis(_) | SyncError::Postgres(_) | SyncError::Mirror(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Failure::new(status, error.word(), error.to_string())
    }
}

/// Differences of a check in the list of jobs.
const LISTED: usize = 10;

/// A job with its result, without what may be long in it.
fn short(job: &Arc<Job>) -> Value {
    let mut shown = job.describe();
    if let Some(result) = shown.get_mut("result").and_then(Value::as_object_mut) {
        result.remove("families");
        if let Some(Value::Array(differences)) = result.get_mut("differences") {
            differences.truncate(LISTED);
        }
    }
    shown
}

pub async fn list(State(app): State<App>) -> Success<Value> {
    let jobs: Vec<Value> = app.syncer().jobs.list().iter().map(short).collect();
    Success(json!({ "jobs": jobs }))
}

fn find(app: &App, id: &str) -> Result<Arc<Job>, Failure> {
    let job = id.parse().ok().and_then(|id| app.syncer().jobs.get(id));
    job.ok_or_else(|| {
        let message =
            format!("there is no job {id}; GET /admin/jobs lists those that are remembered");
        Failure::new(StatusCode::NOT_FOUND, "not_found", message)
    })
}

pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Answer<Value> {
    Ok(Success(find(&app, &id)?.describe()))
}

pub async fn cancel(State(app): State<App>, Path(id): Path<String>) -> Answer<Value> {
    let job = find(&app, &id)?;
    if job.outcome().is_none() {
        job.cancel();
        // It is dropped where it waits.
        job.end().await;
    }
    Ok(Success(job.describe()))
}
