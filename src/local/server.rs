use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::io::DuplexStream;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::office::Office;
use super::period::Credentials;
use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::strategy::{CommitGate, Status};
use crate::upstream::Connector;

/// Scripts and long chains of values are worked on deep inside; only what is touched takes memory.
const STACK: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start the local server: {0}")]
    Thread(#[source] std::io::Error),
}

/// The local server's thread, and the way to it.
pub struct LocalServer {
    thread: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl LocalServer {
    /// Starts the thread; PostgreSQL may be away. Connections arrive over `incoming`, with the user
    /// and password of `redis`, which also is the server that follows in `database_first`.
    pub fn start(
        config: Arc<Config>,
        gate: Arc<CommitGate>,
        status: Arc<Status>,
        redis: Connector,
        incoming: mpsc::UnboundedReceiver<DuplexStream>,
    ) -> Result<LocalServer, StartError> {
        Store::check(&config.postgres)?;
        // A write is acknowledged when it is committed, always.
        gate.close();
        let shutdown = CancellationToken::new();
        let url = redis.url();
        let credentials = Credentials { user: url.user.clone(), password: url.password.clone() };
        let ends = shutdown.clone();
        let thread = std::thread::Builder::new().name("local".into()).stack_size(STACK);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(async move {
                    Office::new(config, credentials, gate, status, redis, incoming, ends)
                        .run()
                        .await;
                }),
                Err(error) => tracing::error!(%error, "the local server cannot run"),
            }
        };
        Ok(LocalServer { thread: thread.spawn(work).map_err(StartError::Thread)?, shutdown })
    }

    /// Commits what has been run and ends the thread. Nobody may be connected any more.
    pub fn stop(self) {
        self.shutdown.cancel();
        // A thread that panicked has been logged.
        let _ = self.thread.join();
    }
}
