//! Builds everything from a [`Config`], runs it, and drains it when the process is asked to end.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminError, Subject};
use crate::config::{Config, Source};
use crate::failover::{self, Failover, PartError, Remembered, Switcher};
use crate::log::LogLevel;
use crate::open_files;
use crate::process::{Asked, Reload, Signals, tell_systemd};
use crate::proxy::{Activated, BindError, Listeners, Shared, run_worker};
use crate::strategy::{CommitGate, Presence, Status};
use crate::sync::Jobs;
use crate::tenure::Tenure;
use crate::upstream::{ConnectError, Connector, Leave, Route, To};

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Redis(#[from] ConnectError),
    #[error(transparent)]
    Part(#[from] PartError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("cannot start a worker: {0}")]
    Worker(#[source] std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then lets replies under way reach their clients. At SIGHUP the
/// configuration in `path` is read again.
pub async fn run(
    path: &Path,
    source: Source,
    config: Config,
    log_level: LogLevel,
) -> Result<(), ServerError> {
    let mut signals = Signals::new().map_err(ServerError::Worker)?;
    let shutdown = CancellationToken::new();
    let server = Server::start(config.clone(), log_level.clone(), shutdown.clone())?;
    let mut reload = Reload { path, source, config, log_level };
    tell_systemd(&[Some(NotifyState::Ready)]);
    while let Asked::Reload = signals.next().await {
        let since = NotifyState::monotonic_usec_now();
        tell_systemd(&[Some(NotifyState::Reloading), since.ok()]);
        reload.run();
        server.shared.take_over_users();
        tell_systemd(&[Some(NotifyState::Ready)]);
    }
    tell_systemd(&[Some(NotifyState::Stopping)]);
    tracing::info!("shutting down");
    shutdown.cancel();
    server.join().await;
    tracing::info!("stopped");
    Ok(())
}

/// A running server.
pub struct Server {
    workers: Vec<JoinHandle<()>>,
    /// Its end is asked for only when the workers have ended: replies that they hold wait for it.
    leads: failover::Running,
    /// The last to end: it says until then that the process is stopping.
    admin: Option<Admin>,
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Binds the ports and starts the workers and the mirror; Redis and PostgreSQL may be away.
    pub fn start(
        config: Config,
        log_level: LogLevel,
        shutdown: CancellationToken,
    ) -> Result<Server, ServerError> {
        let remembered = Remembered::load(&config);
        let mode = remembered.as_ref().map_or(config.strategy.mode, |last| last.strategy);
        open_files::raise_for(config.listen.max_clients);
        let gate = CommitGate::new(&instance());
        let status = Arc::new(Status::new(config.strategy.mode, config.strategy.ack));
        status.set_strategy(mode);
        status.note_switch(|switched| switched.last = remembered.map(|last| (last.at, last.by)));
        let presence = Arc::new(Presence::new());
        let count = match config.listen.workers {
            // Redis and its client need the other half.
            0 => std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1),
            count => count,
        };
        let listeners = Listeners::bind(&config.listen, count, Activated::take())?;
        let address = listeners[0].tcp.local_addr().map_err(ServerError::Worker)?;
        let route = Route::new(To::Nobody(Leave::Cut));
        let connector = Connector::routed(&config.redis, Arc::clone(&route))?;
        let connector = Arc::new(connector.with_peers(&config.listen)?);
        let (switcher, requests) = Switcher::new();
        let jobs = Arc::<Jobs>::default();
        let subject = Subject {
            config: Arc::new(config.clone()),
            connector: Arc::clone(&connector),
            status: Arc::clone(&status),
            gate: Arc::clone(&gate),
            presence: Arc::clone(&presence),
            jobs: Arc::clone(&jobs),
            switcher: switcher.clone(),
            log_level,
        };
        let admin = Admin::start(subject, shutdown.clone())?;
        let failover = Failover {
            config: Arc::new(config.clone()),
            redis: connector.to_redis(),
            bound: address,
            route,
            gate: Arc::clone(&gate),
            tenure: Tenure::new(&status),
            lease: Default::default(),
            status: Arc::clone(&status),
            presence: Arc::clone(&presence),
        };
        let leads = failover.start(requests)?;
        let shared = Arc::new(Shared::new(
            config,
            connector,
            gate,
            status,
            presence,
            (switcher, jobs),
            shutdown,
        ));
        let mut workers = Vec::new();
        for (number, listeners) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            let work = move || {
                if let Err(error) = run_worker(shared, listeners) {
                    tracing::error!(%error, worker = number, "a worker has ended");
                }
            };
            workers.push(thread.spawn(work).map_err(ServerError::Worker)?);
        }
        tracing::info!(
            %address,
            workers = count,
            server = shared.connector.address(),
            strategy = shared.status.strategy().as_str(),
            "ready for clients"
        );
        Ok(Server { workers, leads, admin, address, shared })
    }

    /// Where clients connect.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Waits for the workers to end, after the shutdown token was cancelled, and then for the mirror to
    /// commit what it has received.
    pub async fn join(self) {
        let joined = tokio::task::spawn_blocking(move || {
            for worker in self.workers {
                // A worker that panicked has been logged; the others still end in order.
                let _ = worker.join();
            }
            self.leads.stop();
            if let Some(admin) = self.admin {
                admin.stop();
            }
        });
        let _ = joined.await;
    }
}

/// A name that tells this process's barriers from another's.
fn instance() -> String {
    format!("{:016x}", rand::random::<u64>())
}
