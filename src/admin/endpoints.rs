use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};

use super::answer::Failure;
use super::state::App;
use super::{auth, handlers, log_level, serve};

/// One thing that can be asked.
pub struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    pub what: &'static str,
    /// True when it asks for no token.
    pub open: bool,
    route: fn() -> MethodRouter<App>,
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    what: &'static str,
    route: fn() -> MethodRouter<App>,
) -> Endpoint {
    Endpoint { method, path, what, open: false, route }
}

const fn open(
    method: &'static str,
    path: &'static str,
    what: &'static str,
    route: fn() -> MethodRouter<App>,
) -> Endpoint {
    Endpoint { method, path, what, open: true, route }
}

/// Everything that can be asked.
pub const ENDPOINTS: &[Endpoint] = &[
    open("GET", "/live", "200 while the process runs.", || get(handlers::live)),
    open(
        "GET",
        "/ready",
        "200 from when clients can be served for the first time (Redis is reachable, the first sync has ended); 503 before, and while stopping.",
        || get(handlers::ready),
    ),
    endpoint("GET", "/metrics", "Metrics in Prometheus's text format.", || {
        get(handlers::prometheus)
    }),
    endpoint(
        "GET",
        "/admin/database/health",
        "`status`: `healthy`, `degraded` (200 both) or `unhealthy` (503), with the reasons.",
        || get(handlers::health),
    ),
    endpoint(
        "GET",
        "/admin/database/status",
        "The health, connections to both backends, the mirror's position and lag, role, uptime, version.",
        || get(handlers::status),
    ),
    endpoint(
        "GET",
        "/admin/database/metrics",
        "Operations, rates, latency percentiles, hit rate, error rate, connections, lag.",
        || get(handlers::metrics),
    ),
    endpoint(
        "POST",
        "/admin/database/reconnect",
        "Tries backends that are away at once, without the pause between attempts; 503 when one stays away.",
        || post(handlers::reconnect),
    ),
    endpoint("GET", "/admin/log-level", "The log's level or filter.", || get(log_level::get)),
    endpoint(
        "POST",
        "/admin/log-level",
        "Changes it until the next start: `{\"level\": \"info,tandem::mirror=debug\"}`.",
        || post(log_level::set),
    ),
];

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

pub fn is_open(path: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.open && endpoint.path == path)
}

pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        router = router.route(endpoint.path, (endpoint.route)());
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(app.clone(), auth::check))
        .layer(from_fn(serve::in_time))
        .with_state(app)
}

async fn not_found(uri: Uri) -> Failure {
    let message = format!("there is no {}; docs/operations.md lists what there is", uri.path());
    Failure::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn not_allowed(method: Method, uri: Uri) -> Failure {
    let known = ENDPOINTS.iter().filter(|endpoint| endpoint.path == uri.path());
    let known: Vec<&str> = known.map(|endpoint| endpoint.method).collect();
    let message = format!("{method} is not for {}; use {}", uri.path(), known.join(" or "));
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
