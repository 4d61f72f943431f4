use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::office::Office;
use super::period::Credentials;
use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::strategy::{CommitGate, Status};
use crate::tenure::Tenure;
use crate::upstream::{Connector, Local};

/// Scripts and long chains of values are worked on deep inside; only what is touched takes memory.
const STACK: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start the local server: {0}")]
    Thread(#[source] std::io::Error),
}

/// Where the local server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalState {
    /// PostgreSQL has not answered yet.
    Opens,
    Serves,
    /// PostgreSQL is gone, or does not let it serve. `owes`: something has changed that Redis lacks.
    Away {
        owes: bool,
    },
    /// Redis leads again.
    GaveBack,
}

/// What it takes to give the lead to a Redis that comes back.
pub struct FailoverLink {
    /// The way to this server.
    pub local: Local,
    /// Redis can be reached, and is well.
    pub well: watch::Receiver<bool>,
    /// Redis has everything but what is on its way.
    pub ready: watch::Sender<bool>,
    /// PostgreSQL has led for good: what only Redis has was deleted, if Redis has led before.
    pub replaces: bool,
}

/// The office's ends of what [`LocalServer`] has the others of.
pub(super) struct Ends {
    pub incoming: mpsc::UnboundedReceiver<DuplexStream>,
    pub shutdown: CancellationToken,
    pub failover: Option<FailoverLink>,
    pub state: watch::Sender<LocalState>,
    pub why: Arc<Mutex<String>>,
    pub give_back: watch::Sender<()>,
}

/// The local server's thread, and the way to it.
pub struct LocalServer {
    thread: JoinHandle<()>,
    shutdown: CancellationToken,
    state: watch::Receiver<LocalState>,
    why: Arc<Mutex<String>>,
    give_back: watch::Sender<()>,
}

impl LocalServer {
    /// Starts the thread; PostgreSQL may be away. Connections arrive over `incoming`, with the user
    /// and password of `redis`, which also is the server that follows in `database_first`.
    pub fn start(
        config: Arc<Config>,
        gate: Arc<CommitGate>,
        tenure: Arc<Tenure>,
        status: Arc<Status>,
        redis: Connector,
        incoming: mpsc::UnboundedReceiver<DuplexStream>,
        failover: Option<FailoverLink>,
    ) -> Result<LocalServer, StartError> {
        Store::check(&config.postgres)?;
        // A write is acknowledged when it is committed, always.
        gate.close();
        let shutdown = CancellationToken::new();
        let url = redis.url();
        let credentials = Credentials { user: url.user.clone(), password: url.password.clone() };
        let give_back = watch::Sender::new(());
        let (said, state) = watch::channel(LocalState::Opens);
        let why = Arc::<Mutex<String>>::default();
        let ends = Ends {
            incoming,
            shutdown: shutdown.clone(),
            failover,
            state: said,
            why: Arc::clone(&why),
            give_back: give_back.clone(),
        };
        let thread = std::thread::Builder::new().name("local".into()).stack_size(STACK);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(async move {
                    let office =
                        Office::new(config, credentials, gate, tenure, status, redis, ends);
                    match office {
                        Ok(office) => office.run().await,
                        Err(error) => tracing::error!(%error, "the local server cannot run"),
                    }
                }),
                Err(error) => tracing::error!(%error, "the local server cannot run"),
            }
        };
        let thread = thread.spawn(work).map_err(StartError::Thread)?;
        Ok(LocalServer { thread, shutdown, state, why, give_back })
    }

    pub fn state(&self) -> watch::Receiver<LocalState> {
        self.state.clone()
    }

    /// Why it is away, for people.
    pub fn why(&self) -> String {
        self.why.lock().clone()
    }

    /// Has Redis, which has everything, lead again. Nobody may ask anything meanwhile; the state tells
    /// whether it went well.
    pub fn give_back(&self) {
        self.give_back.send_replace(());
    }

    /// As [`LocalServer::stop`], for callers that may not block.
    pub async fn stopped(self) {
        // A panic has been logged.
        let _ = tokio::task::spawn_blocking(move || self.stop()).await;
    }

    /// Commits what has been run and ends the thread. Nobody may be connected any more.
    pub fn stop(self) {
        self.shutdown.cancel();
        // A thread that panicked has been logged.
        let _ = self.thread.join();
    }
}
