//! Switches of the strategy.

use std::net::SocketAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Failure, timestamp};
use super::data::{WaitQuery, parse, wait};
use super::jobs::{self, refused};
use super::state::App;
use crate::config::Mode;
use crate::sync::{Class, Outcome};

/// The header in which the command line says whose it is.
pub const USER: &str = "x-tandem-user";
/// Longest name that is taken from it, in characters.
const NAME: usize = 64;

#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct SwitchBody {
    force: bool,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<SocketAddr>);

pub async fn switch(
    State(app): State<App>,
    Extension(Peer(address)): Extension<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    query: Result<Query<WaitQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let prepared = wait(query).and_then(|wait| {
        let body: SwitchBody = parse(body)?;
        let to = Mode::parse(&name).ok_or_else(|| {
            let known: Vec<String> =
                Mode::ALL.iter().map(|mode| mode.as_str().replace('_', "-")).collect();
            let message = format!("there is no strategy {name}; there are {}", known.join(", "));
            Failure::new(StatusCode::NOT_FOUND, "not_found", message)
        })?;
        Ok((to, body, wait))
    });
    let (to, body, wait) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return with_strategy(&app, failure),
    };
    let by = who(&app, address, &headers);
    let arguments = json!({ "strategy": to.as_str(), "force": body.force, "by": by });
    let switcher = app.switcher().clone();
    let work = |job: std::sync::Arc<crate::sync::Job>| async move {
        job.begin("handing over", 0);
        Ok(switcher.switch(to, body.force, by).await?.describe())
    };
    let job = match app.syncer().jobs.start("switch", Class::Change, arguments, work) {
        Ok(job) => job,
        Err(busy) => return with_strategy(&app, refused(&busy)),
    };
    if !wait {
        return jobs::answer(Ok(job), false).await;
    }
    match job.end().await {
        Outcome::Done(data) => done(data),
        Outcome::Failed(error) => with_strategy(&app, error.into()),
    }
}

/// Who asks, for people: the name that the command line gives counts as little as anybody's word.
fn who(app: &App, address: Option<SocketAddr>, headers: &HeaderMap) -> String {
    let name = headers.get(USER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name: String = name.chars().take(NAME).collect();
    let means = match app.config().admin.token.is_empty() {
        true => "the admin interface",
        false => "the admin token",
    };
    let place = address.map_or_else(String::new, |address| format!(" from {address}"));
    match name.is_empty() {
        true => format!("{means}{place}"),
        false => format!("{name}, {means}{place}"),
    }
}

/// The members of `data` stand beside it too.
fn done(data: Value) -> Response {
    let mut body = json!({ "success": true, "timestamp": timestamp() });
    if let (Value::Object(body), Value::Object(data)) = (&mut body, &data) {
        body.extend(data.clone());
    }
    body["data"] = data;
    Json(body).into_response()
}

fn with_strategy(app: &App, failure: Failure) -> Response {
    let current = app.status().strategy().as_str();
    let mut data = failure.data.clone().unwrap_or_else(|| json!({}));
    data["currentStrategy"] = json!(current);
    let mut body = failure.with(data).body();
    body.1["currentStrategy"] = json!(current);
    (body.0, Json(body.1)).into_response()
}
