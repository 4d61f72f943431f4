//! The mirror on its thread, and the watch over Redis.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Failover;
use super::probe::{self, Health};
use crate::local::StartError;
use crate::mirror::{Mirror, MirrorError, Stop};
use crate::strategy::{Status, Witness};
use crate::upstream::{Route, SideManager};

/// The mirror's commands run deep inside its futures; only what is touched takes memory.
const MIRROR_STACK: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Local(#[from] StartError),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A mirror that is ready to run, or to stand by.
pub struct Part {
    mirror: Mirror,
    leads: bool,
}

/// A mirror that runs.
pub struct RunningMirror {
    thread: JoinHandle<()>,
    stop: Stop,
    ended: oneshot::Receiver<bool>,
    /// False when it stands by.
    pub leads: bool,
    /// PostgreSQL turned out to lead.
    pub led: Arc<Notify>,
}

impl Failover {
    pub(super) fn mirror(&self, leads: bool) -> Result<Part, PartError> {
        let mirror = Mirror::new(
            Arc::clone(&self.config),
            &self.redis,
            Arc::clone(&self.gate),
            Arc::clone(&self.tenure),
            Arc::clone(&self.status),
            Arc::clone(&self.presence),
        )?;
        Ok(Part { mirror, leads })
    }
}

impl Part {
    pub fn start(self) -> Result<RunningMirror, PartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(PartError::Thread)?;
        let stop = Stop::new(CancellationToken::new());
        let (said, ended) = oneshot::channel();
        let Part { mirror, leads } = self;
        let (led, mine) = (mirror.led(), stop.clone());
        let work = move || {
            let drained = match leads {
                true => runtime.block_on(mirror.run(mine)),
                false => runtime.block_on(mirror.stand_by(mine)),
            };
            // Whoever asked may be gone.
            let _ = said.send(drained);
        };
        let thread = std::thread::Builder::new().name("mirror".into()).stack_size(MIRROR_STACK);
        let thread = thread.spawn(work).map_err(PartError::Thread)?;
        Ok(RunningMirror { thread, stop, ended, leads, led })
    }
}

impl RunningMirror {
    /// Takes what Redis has done until now, and ends. True when all of it is in PostgreSQL.
    pub async fn stop_gently(mut self) -> bool {
        self.stop.gently.cancel();
        let drained = (&mut self.ended).await.unwrap_or(false);
        self.joined().await;
        drained
    }

    /// Another one goes on in its place. Replies that wait go on waiting.
    pub async fn yielded(self) {
        self.stop.yields.cancel();
        self.joined().await;
    }

    /// Redis is gone. True when PostgreSQL has all that was received of it; that is waited for until the process
    /// ends.
    pub async fn stop_at_once(mut self, over: &CancellationToken) -> bool {
        self.stop.received.cancel();
        tokio::select! {
            drained = &mut self.ended => {
                self.joined().await;
                drained.unwrap_or(false)
            }
            () = over.cancelled() => {
                self.stop.gently.cancel();
                self.joined().await;
                false
            }
        }
    }

    async fn joined(self) {
        // A thread that panicked has been logged.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// Asks Redis how it is, until it is dropped.
pub struct Probing {
    pub health: watch::Receiver<Health>,
    status: Arc<Status>,
    task: tokio::task::JoinHandle<()>,
}

impl Probing {
    pub fn start(
        manager: SideManager,
        route: Arc<Route>,
        status: Arc<Status>,
        limit: Duration,
    ) -> Probing {
        let (said, health) = watch::channel(Health::Unknown);
        let task = tokio::spawn(probe::watch(manager, route, Arc::clone(&status), limit, said));
        Probing { health, status, task }
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
        self.status.redis.forget(Witness::Watch);
    }
}
