use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::link;
use super::period::{Credentials, Period};
use crate::config::{Config, RedisUrl};
use crate::resp::encode_error;
use crate::store::StoreError;
use crate::strategy::{CommitGate, Status};

/// Scripts and long chains of values are worked on deep inside; only what is touched takes memory.
const STACK: usize = 16 << 20;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// How long the last changes may take to reach PostgreSQL when the process ends.
const DRAIN: Duration = Duration::from_secs(8);

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
    /// Starts the thread; PostgreSQL may be away. Connections arrive over `incoming`.
    pub fn start(
        config: Arc<Config>,
        gate: Arc<CommitGate>,
        status: Arc<Status>,
        url: &RedisUrl,
        incoming: mpsc::UnboundedReceiver<DuplexStream>,
    ) -> Result<LocalServer, StartError> {
        crate::store::Store::check(&config.postgres)?;
        // A write is acknowledged when it is committed, always.
        gate.close();
        let shutdown = CancellationToken::new();
        let credentials = Credentials { user: url.user.clone(), password: url.password.clone() };
        let server =
            Server { config, gate, status, incoming, shutdown: shutdown.clone(), credentials };
        let thread = std::thread::Builder::new().name("local".into()).stack_size(STACK);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(server.run()),
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

struct Server {
    config: Arc<Config>,
    gate: Arc<CommitGate>,
    status: Arc<Status>,
    incoming: mpsc::UnboundedReceiver<DuplexStream>,
    shutdown: CancellationToken,
    credentials: Credentials,
}

impl Server {
    async fn run(mut self) {
        let mut pause = FIRST_RETRY;
        while !self.shutdown.is_cancelled() {
            match Period::open(&self.config, self.credentials.clone(), &self.gate).await {
                Ok((period, store)) => {
                    pause = FIRST_RETRY;
                    self.status.set_postgres(true);
                    tracing::info!("PostgreSQL serves");
                    let served = self.serve(&period, &store).await;
                    period.end();
                    match served {
                        Ok(()) => return,
                        Err(error) => self.away(&error),
                    }
                }
                Err(error) => {
                    self.away(&error);
                    self.refuse(&error, pause).await;
                    pause = (pause * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn away(&self, error: &StoreError) {
        if self.status.set_postgres(false) {
            tracing::warn!(%error, "PostgreSQL is away");
        }
    }

    /// Serves until the shutdown, or until PostgreSQL fails.
    async fn serve(
        &mut self,
        period: &std::rc::Rc<Period>,
        store: &crate::store::Store,
    ) -> Result<(), StoreError> {
        let mut keeping = std::pin::pin!(period.keep(store));
        loop {
            tokio::select! {
                failed = &mut keeping => return failed,
                connection = self.incoming.recv() => match connection {
                    Some(stream) => link::serve(period, stream),
                    None => break,
                },
                () = self.shutdown.cancelled() => break,
            }
        }
        period.finish();
        match tokio::time::timeout(DRAIN, keeping).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!("PostgreSQL has not taken the last changes within {DRAIN:?}");
                Ok(())
            }
        }
    }

    /// Tells whoever connects meanwhile why they cannot be served.
    async fn refuse(&mut self, why: &StoreError, pause: Duration) {
        let mut reply = Vec::new();
        encode_error(&format!("ERR {why}"), &mut reply);
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = self.shutdown.cancelled() => return,
                connection = self.incoming.recv() => {
                    let Some(mut stream) = connection else { return self.shutdown.cancelled().await };
                    // Nobody may be there any more to hear it.
                    let _ = stream.write_all(&reply).await;
                }
            }
        }
    }
}
