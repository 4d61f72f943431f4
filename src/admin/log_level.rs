use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Failure, Success};
use super::state::App;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    level: String,
}

pub async fn get(State(app): State<App>) -> Success<Value> {
    Success(json!({ "level": app.log_level().get() }))
}

pub async fn set(
    State(app): State<App>,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Answer<Value> {
    let Json(wanted) =
        body.map_err(|error| Failure::new(error.status(), "bad_request", error.body_text()))?;
    app.log_level()
        .set(&wanted.level)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "bad_request", error.to_string()))?;
    Ok(Success(json!({ "level": wanted.level })))
}
