//! Who may ask.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::answer::Failure;
use super::endpoints::is_open;
use super::state::App;
use crate::config::is_loopback;

/// Asks for the token on every path that is not open, also on those that do not exist.
pub async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let token = &app.config().admin.token;
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let refused = match token.is_empty() {
        true => from_a_browser(request.headers()),
        false => without_token(request.headers(), token),
    };
    match refused {
        None => next.run(request).await,
        Some(failure) => {
            let mut response = failure.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let scheme = header::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

fn without_token(headers: &HeaderMap, token: &str) -> Option<Failure> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let given = headers.get("x-admin-token").and_then(|value| value.to_str().ok()).or(bearer);
    // Its length may be found out, its content not.
    let right = given.is_some_and(|given| given.as_bytes().ct_eq(token.as_bytes()).into());
    let message = match given {
        Some(_) => "the token is not the one of admin.token",
        None => "send the token of admin.token as `Authorization: Bearer …` or `x-admin-token: …`",
    };
    (!right).then(|| Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
}

/// Without a token, whoever is on this machine may ask; a page of the world that a browser here shows
/// may not, neither as another origin nor under a name of its own that leads here.
fn from_a_browser(headers: &HeaderMap) -> Option<Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST);
    let foreign_host = host.is_some_and(|host| !is_loopback(host));
    let foreign_origin = text(header::ORIGIN)
        .is_some_and(|origin| origin.split_once("://").map(|(_, host)| host) != host);
    (foreign_host || foreign_origin).then(|| {
        let message = "without admin.token only requests to a loopback address are answered, and none of other origins; set admin.token";
        Failure::new(StatusCode::FORBIDDEN, "forbidden", message)
    })
}
