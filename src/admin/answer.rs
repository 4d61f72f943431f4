use std::time::SystemTime;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

/// 200 with `{success: true, data, timestamp}`.
pub struct Success<T>(pub T);

/// `{success: false, error, message}`, and `data` where there is something to say in spite of it.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    /// For programs.
    pub error: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
    pub data: Option<Value>,
}

pub type Answer<T> = Result<Success<T>, Failure>;

impl Failure {
    pub fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Failure {
        Failure { status, error, message: message.into(), data: None }
    }

    /// Something that is needed is not there.
    pub fn unavailable(error: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, message)
    }

    pub fn with(mut self, data: impl Serialize) -> Failure {
        self.data = serde_json::to_value(data).ok();
        self
    }
}

/// RFC 3339, UTC, milliseconds.
pub fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        Json(json!({ "success": true, "data": self.0, "timestamp": timestamp() })).into_response()
    }
}

impl Failure {
    /// What is answered.
    pub fn body(self) -> (StatusCode, Value) {
        let mut body = json!({
            "success": false,
            "error": self.error,
            "message": self.message,
            "timestamp": timestamp(),
        });
        if let (Some(data), Value::Object(body)) = (self.data, &mut body) {
            body.insert("data".into(), data);
        }
        (self.status, body)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, body) = self.body();
        (status, Json(body)).into_response()
    }
}
