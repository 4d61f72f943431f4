//! The operator's HTTP interface, on `[admin] address`, with threads of its own: the data path does
//! not notice it.
//!
//! | call | answer |
//! | --- | --- |
//! | `GET /` | the status page |
//! | `GET /live` | 200 while the process runs |
//! | `GET /ready` | 200 from when clients can be served for the first time, 503 before and while stopping |
//! | `GET /metrics` | Prometheus text format |
//! | `GET /admin/database/health` | healthy or degraded: 200; unhealthy: 503 |
//! | `GET /admin/database/status` | health, connections, mirror, versions |
//! | `GET /admin/database/metrics` | rates, latencies, hit rate, lag |
//! | `POST /admin/database/reconnect` | tries backends that are away now; 503 when one stays away |
//! | `GET /admin/database/consistency-check` | compares both sides key by key |
//! | `POST /admin/database/consistency-fix` | repairs one side from the other |
//! | `POST /admin/database/sync/redis-to-postgres`, `…/postgres-to-redis` | copies |
//! | `POST /admin/database/cache/clear`, `…/warm` | drops copies from Redis, brings them back |
//! | `POST /admin/database/strategy/{strategy}` | switches the strategy |
//! | `GET /admin/jobs`, `GET`, `DELETE /admin/jobs/{id}` | long work: progress, result, cancel |
//! | `GET`, `POST /admin/log-level` | the log's filter, and a change of it |
//! | `GET /admin/openapi.json` | all of this for programs |
//!
//! Answers are JSON: `{success: true, data, timestamp}`, or `{success: false, error, message}` with a
//! status code that says the same. `/`, `/live` and `/ready` are open; everything else asks for the token
//! where one is set.

mod answer;
mod auth;
mod backends;
mod data;
mod endpoints;
mod handlers;
mod health;
mod jobs;
mod log_level;
mod metrics;
mod openapi;
mod page;
mod rates;
mod serve;
mod state;
mod strategy;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

pub use endpoints::{ENDPOINTS, Endpoint};
pub use metrics::{Metric, MetricKind, all_metrics};
pub use strategy::USER;

use crate::config::Config;
use crate::failover::Switcher;
use crate::log::LogLevel;
use crate::store::StoreError;
use crate::strategy::{CommitGate, Presence, Status};
use crate::sync::Jobs;
use crate::tls::{ServerTls, TlsError};
use crate::upstream::Connector;
use state::App;

/// Jobs run deep inside their futures; only what is touched takes memory.
const STACK: usize = 16 << 20;

/// Why the admin interface cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(
        "admin.address: cannot listen on {address}: {source}; choose another address, or \"\" for none"
    )]
    Bind { address: String, source: std::io::Error },
    #[error("cannot start the admin interface: {0}")]
    Start(#[source] std::io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Postgres(#[from] StoreError),
}

/// What the interface looks at.
pub struct Subject {
    pub config: Arc<Config>,
    /// To whoever answers clients.
    pub connector: Arc<Connector>,
    pub status: Arc<Status>,
    pub gate: Arc<CommitGate>,
    pub presence: Arc<Presence>,
    pub jobs: Arc<Jobs>,
    pub switcher: Switcher,
    pub log_level: LogLevel,
}

/// The running interface.
pub struct Admin {
    thread: JoinHandle<()>,
    token: CancellationToken,
    address: SocketAddr,
}

impl Admin {
    /// Binds the port and starts. `None`: `admin.address` is empty. `stopping` says that the process is
    /// to end; the interface itself goes on until [`Admin::stop`].
    pub fn start(
        subject: Subject,
        stopping: CancellationToken,
    ) -> Result<Option<Admin>, AdminError> {
        let address = subject.config.admin.address.clone();
        if address.is_empty() {
            return Ok(None);
        }
        let bind = |source| AdminError::Bind { address: address.clone(), source };
        let listener = TcpListener::bind(&address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let tls = subject.config.admin.tls().map(ServerTls::new).transpose()?;
        let app = App::new(subject, stopping)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("admin")
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .map_err(AdminError::Start)?;
        let token = CancellationToken::new();
        let ended = token.clone();
        let work = move || {
            if let Err(error) = runtime.block_on(serve::serve(app, listener, tls, ended)) {
                tracing::error!(%error, "the admin interface has ended");
            }
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("admin".into()).spawn(work);
        tracing::info!(%address, "admin interface");
        Ok(Some(Admin { thread: thread.map_err(AdminError::Start)?, token, address }))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets answers under way be written, and ends. Blocks for a few seconds at most.
    pub fn stop(self) {
        self.token.cancel();
        // A panic has been logged.
        let _ = self.thread.join();
    }
}
