use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post};

use super::answer::Failure;
use super::state::App;
use super::{auth, data, handlers, jobs, log_level, openapi, page, serve, strategy};

/// A parameter of a call.
pub struct Param {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub what: &'static str,
}

/// What a parameter's value may be.
#[derive(Clone, Copy)]
pub enum Kind {
    Flag,
    Number {
        least: u64,
        most: u64,
    },
    /// Not empty.
    Text,
    /// What this regular expression matches.
    Matching(&'static str),
    OneOf(&'static [&'static str]),
}

/// What an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{success, data, timestamp}`.
    Envelope,
    /// A JSON object of its own.
    Json,
    /// `text/plain`.
    Text,
    /// `text/html`.
    Page,
}

const fn param(name: &'static str, kind: Kind, what: &'static str) -> Param {
    Param { name, kind, required: false, what }
}

/// Largest value of a number that has no other bound.
pub const MOST: u64 = 1_000_000_000;
/// Largest number of differences in full.
pub const MOST_SHOWN: u64 = 10_000;

const NUMBER: Kind = Kind::Number { least: 0, most: MOST };
const WAIT: Param = param("wait", Kind::Flag, "False: 202 at once with the job.");
const PATTERN: Param = param("pattern", Kind::Text, "Redis glob; without it all keys.");
const RATE: Param = param("rate", NUMBER, "Keys per second; 0: as fast as it goes.");
const DELETE: Param = param("delete", Kind::Flag, "What the source lacks goes from the target.");
const DRY_RUN: Param = param("dry_run", Kind::Flag, "Count and change nothing.");
const RESUME: Param = param(
    "resume",
    Kind::Number { least: 1, most: MOST },
    "Number of an interrupted job; what was asked of it counts.",
);
const OVERWRITE: Param = param("overwrite", Kind::Flag, "Replace also what Redis has otherwise.");
const FORCE: Param =
    param("force", Kind::Flag, "Also where something may be lost, or a backend is away.");
const SIDES: Kind = Kind::OneOf(&["redis", "postgres"]);
const REPAIR: Param = Param {
    required: true,
    ..param("repair", SIDES, "The side that is repaired from the other one.")
};
/// The filters that are worth writing; there are more.
const FILTER: &str =
    "^(off|error|warn|info|debug|trace)(,[a-z_:]+=(off|error|warn|info|debug|trace))*$";
const LEVEL: Param =
    Param { required: true, ..param("level", Kind::Matching(FILTER), "A level or a filter.") };

const CHECK: &[Param] = &[
    PATTERN,
    param("limit", Kind::Number { least: 0, most: MOST_SHOWN }, "Differences in full."),
    param("tolerance_ms", NUMBER, "How far expiries may be apart."),
    RATE,
    WAIT,
];

/// One thing that can be asked.
pub struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    pub what: &'static str,
    /// True when it asks for no token.
    pub open: bool,
    /// True when its answer may take as long as a job does.
    pub long: bool,
    pub query: &'static [Param],
    /// Members of the JSON object that is the request's body.
    pub body: &'static [Param],
    pub format: Format,
    route: fn() -> MethodRouter<App>,
}

impl Endpoint {
    const fn takes(self, query: &'static [Param]) -> Endpoint {
        Endpoint { query, ..self }
    }

    const fn reads(self, body: &'static [Param]) -> Endpoint {
        Endpoint { body, ..self }
    }

    const fn answers(self, format: Format) -> Endpoint {
        Endpoint { format, ..self }
    }

    /// True when `path` is one of its paths; a part of it in braces stands for anything.
    fn is_at(&self, path: &str) -> bool {
        let (mut own, mut theirs) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), theirs.next()) {
                (None, None) => return true,
                (Some(own), Some(their)) if own == their || own.starts_with('{') => {}
                _ => return false,
            }
        }
    }
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    what: &'static str,
    route: fn() -> MethodRouter<App>,
) -> Endpoint {
    let (query, body, format) = (&[], &[], Format::Envelope);
    Endpoint { method, path, what, open: false, long: false, query, body, format, route }
}

const fn job(
    method: &'static str,
    path: &'static str,
    what: &'static str,
    route: fn() -> MethodRouter<App>,
) -> Endpoint {
    let (query, body, format) = (&[WAIT], &[], Format::Envelope);
    Endpoint { method, path, what, open: false, long: true, query, body, format, route }
}

const fn open(
    method: &'static str,
    path: &'static str,
    what: &'static str,
    route: fn() -> MethodRouter<App>,
) -> Endpoint {
    let (query, body, format) = (&[], &[], Format::Envelope);
    Endpoint { method, path, what, open: true, long: false, query, body, format, route }
}

/// Everything that can be asked.
pub const ENDPOINTS: &[Endpoint] = &[
    open("GET", "/", "The status page, for a browser; it asks for the token itself.", || {
        get(page::page)
    })
    .answers(Format::Page),
    open("GET", "/live", "200 while the process runs.", || get(handlers::live)),
    open(
        "GET",
        "/ready",
        "200 from when clients can be served for the first time (Redis is reachable, the first sync has ended); 503 before, and while stopping.",
        || get(handlers::ready),
    ),
    endpoint("GET", "/metrics", "Metrics in Prometheus's text format.", || {
        get(handlers::prometheus)
    })
    .answers(Format::Text),
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
    job(
        "GET",
        "/admin/database/consistency-check",
        "Compares Redis and PostgreSQL key by key, on the live system: counts, families, and the first differences in full. `?pattern=`, `?limit=100` (differences in full), `?tolerance_ms=` (of expiries), `?rate=` (keys per second), `?wait=false`.",
        || get(data::check),
    )
    .takes(CHECK),
    job(
        "POST",
        "/admin/database/consistency-fix",
        "Repairs one side from the other: `{\"repair\": \"postgres\"}` or `\"redis\"`, with `pattern`, `delete` (what the side alone has goes), `dry_run`, `rate`. `?wait=false`.",
        || post(data::fix),
    )
    .reads(&[REPAIR, PATTERN, DELETE, DRY_RUN, RATE]),
    job(
        "POST",
        "/admin/database/sync/redis-to-postgres",
        "Copies to PostgreSQL what it lacks or has otherwise: `pattern`, `delete` (what Redis lacks goes), `dry_run`, `rate`, `resume` (number of an interrupted job). `?wait=false`.",
        || post(data::redis_to_postgres),
    )
    .reads(&[PATTERN, DELETE, DRY_RUN, RATE, RESUME]),
    job(
        "POST",
        "/admin/database/sync/postgres-to-redis",
        "Copies to Redis what it lacks, with type and expiry: `pattern`, `overwrite` (also what Redis has otherwise), `delete` (what PostgreSQL lacks goes), `dry_run`, `rate`, `resume`. `?wait=false`.",
        || post(data::postgres_to_redis),
    )
    .reads(&[PATTERN, OVERWRITE, DELETE, DRY_RUN, RATE, RESUME]),
    job(
        "POST",
        "/admin/database/cache/clear",
        "Drops copies from Redis that PostgreSQL holds with the same value, never a key that only Redis has: `pattern`, `rate`. `?wait=false`.",
        || post(data::clear),
    )
    .reads(&[PATTERN, RATE]),
    job(
        "POST",
        "/admin/database/cache/warm",
        "Brings back to Redis what it lacks and PostgreSQL has: `pattern`, `rate`. `?wait=false`.",
        || post(data::warm),
    )
    .reads(&[PATTERN, RATE]),
    job(
        "POST",
        "/admin/database/strategy/{strategy}",
        "Switches to `dual-write`, `cache-first`, `database-first`, `redis-only` or `postgres-only` (or with `_`): `{\"force\": true}` also where it is not safe. The answer has `newStrategy`, a refusal `currentStrategy`. `?wait=false`.",
        || post(strategy::switch),
    )
    .reads(&[FORCE]),
    endpoint("GET", "/admin/jobs", "Jobs that run, and the last that have ended, with the first ten differences of checks.", || {
        get(jobs::list)
    }),
    endpoint(
        "GET",
        "/admin/jobs/{id}",
        "A job: its state, progress, and its result or error when it has ended.",
        || get(jobs::get),
    ),
    endpoint("DELETE", "/admin/jobs/{id}", "Cancels a job; what it has done stays.", || {
        delete(jobs::cancel)
    }),
    endpoint("GET", "/admin/log-level", "The log's level or filter.", || get(log_level::get)),
    endpoint(
        "POST",
        "/admin/log-level",
        "Changes it until the next start: `{\"level\": \"info,tandem::mirror=debug\"}`.",
        || post(log_level::set),
    )
    .reads(&[LEVEL]),
    endpoint("GET", "/admin/openapi.json", "This interface in the words of OpenAPI 3.1.", || {
        get(openapi::document)
    })
    .answers(Format::Json),
];

/// Largest body of a request, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

pub fn is_open(path: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.open && endpoint.path == path)
}

/// True for what may take longer than other answers.
pub fn is_long(path: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.long && endpoint.is_at(path))
}

/// The path in the table that `path` is one of.
pub fn path_of(path: &str) -> &'static str {
    ENDPOINTS.iter().find(|endpoint| endpoint.is_at(path)).map_or("", |endpoint| endpoint.path)
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
        .layer(from_fn(serve::body_in_time))
        .layer(from_fn_with_state(app.clone(), auth::check))
        .layer(from_fn(serve::in_time))
        .with_state(app)
}

async fn not_found(uri: Uri) -> Failure {
    let message = format!("there is no {}; docs/operations.md lists what there is", uri.path());
    Failure::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn not_allowed(method: Method, uri: Uri) -> Failure {
    let known = ENDPOINTS.iter().filter(|endpoint| endpoint.is_at(uri.path()));
    let known: Vec<&str> = known.map(|endpoint| endpoint.method).collect();
    let message = format!("{method} is not for {}; use {}", uri.path(), known.join(" or "));
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
