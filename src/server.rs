//! Builds everything from a [`Config`], runs it, and drains it when the process is asked to end.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminError, Subject};
use crate::config::{Config, Mode};
use crate::local::{LocalServer, StartError};
use crate::log::LogLevel;
use crate::mirror::{Mirror, MirrorError};
use crate::open_files;
use crate::proxy::{BindError, Listeners, Shared, run_worker};
use crate::strategy::{CommitGate, Missing, Presence, Status};
use crate::upstream::{ConnectError, Connector};

/// The mirror's commands run deep inside its futures; only what is touched takes memory.
const MIRROR_STACK: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Redis(#[from] ConnectError),
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Local(#[from] StartError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("cannot start a worker: {0}")]
    Worker(#[source] std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then lets replies under way reach their clients.
pub async fn run(config: Config, log_level: LogLevel) -> Result<(), ServerError> {
    let shutdown = CancellationToken::new();
    let server = Server::start(config, log_level, shutdown.clone())?;
    ended().await.map_err(ServerError::Worker)?;
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
    mirror: Option<(JoinHandle<()>, CancellationToken)>,
    /// Answers in `postgres_only`; ends when nobody can ask any more.
    local: Option<LocalServer>,
    /// The last to end: it says until then that the process is stopping.
    admin: Option<Admin>,
    address: std::net::SocketAddr,
}

impl Server {
    /// Binds the ports and starts the workers and the mirror; Redis and PostgreSQL may be away.
    pub fn start(
        config: Config,
        log_level: LogLevel,
        shutdown: CancellationToken,
    ) -> Result<Server, ServerError> {
        let mode = config.strategy.mode;
        open_files::raise_for(config.listen.max_clients);
        let gate = CommitGate::new(&instance());
        let status = Arc::new(Status::new(config.strategy.mode, config.strategy.ack));
        let (presence, missing) = Presence::new();
        let presence = Arc::new(presence);
        let count = match config.listen.workers {
            // Redis and its client need the other half.
            0 => std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1),
            count => count,
        };
        let listeners = Listeners::bind(&config.listen, count)?;
        let address = listeners[0].tcp.local_addr().map_err(ServerError::Worker)?;
        let (connector, local) = match mode {
            Mode::PostgresOnly | Mode::DatabaseFirst => {
                let (connect, incoming) = mpsc::unbounded_channel();
                let connector = Connector::to_local(&config.redis, connect)?;
                let redis = Connector::new(&config.redis)?;
                let of = (Arc::new(config.clone()), Arc::clone(&gate), Arc::clone(&status));
                (connector, Some(LocalServer::start(of.0, of.1, of.2, redis, incoming)?))
            }
            _ => (Connector::new(&config.redis)?, None),
        };
        let connector = Arc::new(connector);
        let subject = Subject {
            config: Arc::new(config.clone()),
            connector: Arc::clone(&connector),
            status: Arc::clone(&status),
            gate: Arc::clone(&gate),
            log_level,
        };
        let admin = Admin::start(subject, shutdown.clone())?;
        let mirror = match mode.has_mirror() {
            true => Some(start_mirror(&config, &connector, &gate, &status, &presence, missing)?),
            false => None,
        };
        let shared = Arc::new(Shared::new(config, connector, gate, status, presence, shutdown));
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
            strategy = shared.status.strategy.as_str(),
            "ready for clients"
        );
        Ok(Server { workers, mirror, local, admin, address })
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
            if let Some(local) = self.local {
                local.stop();
            }
            if let Some((mirror, token)) = self.mirror {
                token.cancel();
                let _ = mirror.join();
            }
            if let Some(admin) = self.admin {
                admin.stop();
            }
        });
        let _ = joined.await;
    }
}

/// Starts the mirror on a thread of its own.
fn start_mirror(
    config: &Config,
    connector: &Connector,
    gate: &Arc<CommitGate>,
    status: &Arc<Status>,
    presence: &Arc<Presence>,
    missing: mpsc::UnboundedReceiver<Missing>,
) -> Result<(JoinHandle<()>, CancellationToken), ServerError> {
    let mirror = Mirror::new(
        Arc::new(config.clone()),
        connector,
        Arc::clone(gate),
        Arc::clone(status),
        Arc::clone(presence),
        missing,
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServerError::Worker)?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    let thread = std::thread::Builder::new().name("mirror".into()).stack_size(MIRROR_STACK);
    let work = move || runtime.block_on(mirror.run(shutdown));
    Ok((thread.spawn(work).map_err(ServerError::Worker)?, token))
}

/// A name that tells this process's barriers from another's.
fn instance() -> String {
    format!("{:016x}", rand::random::<u64>())
}

async fn ended() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
