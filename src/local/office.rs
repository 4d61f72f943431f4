//! Who serves when: this process while PostgreSQL is there and nobody else has the lease; Redis, for reads,
//! when PostgreSQL is gone and Redis follows; nobody otherwise.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::away::Away;
use super::busy::Incoming;
use super::failback::{Failback, FailbackError};
use super::follower::{Follower, LeadError, Role};
use super::link;
use super::period::{Credentials, Outset, Period};
use super::server::{Ends, LocalState};
use crate::config::{Config, Mode};
use crate::resp::{RequestLimits, encode_error};
use crate::store::{Store, StoreError};
use crate::strategy::{CommitGate, Status, Witness};
use crate::tenure::Tenure;
use crate::upstream::{Backoff, ConnectError, Connector, SideManager};

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// How long the last changes may take to reach PostgreSQL, and then Redis, when the process ends.
const DRAIN: Duration = Duration::from_secs(8);
/// How long clients wait at the start before they are told that it takes longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends a task with its owner.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const LOADING: &str = "LOADING PostgreSQL has not been reached yet, or takes over what Redis has";

pub(super) struct Office {
    outset: Rc<Outset>,
    status: Arc<Status>,
    incoming: Arc<Incoming>,
    shutdown: CancellationToken,
    /// Why nobody serves; `None`: nothing has failed yet.
    why: Option<String>,
    /// Who came before anything had failed.
    waiting: Vec<DuplexStream>,
    /// Ends the sessions that Redis serves.
    back: CancellationToken,
    /// For whoever started this.
    state: watch::Sender<LocalState>,
    /// As `why`, for whoever started this.
    said: Arc<Mutex<String>>,
    /// Redis, which has everything, is to lead again.
    give_back: watch::Sender<()>,
    /// Redis leads, and gets the lead back when it has everything again.
    failback: Option<Rc<Failback>>,
}

/// Why [`Office::serve`] has ended.
enum Served {
    Shutdown,
    /// Redis leads again.
    GivenBack,
}

/// Why nobody is served any more.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Lead(#[from] LeadError),
    #[error("Redis could not be given the lead: {0}")]
    Failback(#[from] FailbackError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Lead(error.into())
    }
}

impl Office {
    pub fn new(
        config: Arc<Config>,
        credentials: Credentials,
        gate: Arc<CommitGate>,
        tenure: Arc<Tenure>,
        status: Arc<Status>,
        redis: Connector,
        ends: Ends,
    ) -> Result<Office, ConnectError> {
        let Ends { incoming, shutdown, failover, state, why: said, give_back } = ends;
        let incoming = Arc::new(Incoming::new(incoming));
        let role = match (config.strategy.mode, &failover) {
            (_, Some(_)) => Some(Role::Failover),
            (Mode::DatabaseFirst, _) => Some(Role::Copy),
            _ => None,
        };
        let follower = role.map(|role| {
            (Rc::new(Follower::new(Arc::clone(&tenure), Arc::clone(&status), role)), redis)
        });
        let failback = match (&failover, &follower) {
            (Some(link), Some((follower, redis))) => Some(Rc::new(Failback::new(
                Arc::clone(&config),
                redis.clone(),
                Rc::clone(follower),
                Arc::clone(&status),
                (link.local.clone(), Arc::clone(&gate)),
                (link.well.clone(), link.ready.clone()),
                link.replaces,
            )?)),
            _ => None,
        };
        Ok(Office {
            outset: Rc::new(Outset {
                config,
                credentials,
                incoming: Arc::clone(&incoming),
                gate,
                tenure,
                status: Arc::clone(&status),
                follower,
            }),
            status,
            incoming,
            shutdown,
            why: None,
            waiting: Vec::new(),
            back: CancellationToken::new(),
            state,
            said,
            give_back,
            failback,
        })
    }

    pub async fn run(mut self) {
        if let Some((follower, redis)) = &self.outset.follower
            && follower.role == Role::Copy
        {
            let manager = SideManager::new(redis.clone());
            tokio::task::spawn_local(Rc::clone(follower).run(manager));
        }
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let mut served_since = None;
            let outset = Rc::clone(&self.outset);
            let Some(opened) = self.meanwhile(Period::open(&outset)).await else { return };
            let error = match opened {
                Ok((period, store)) => {
                    served_since = Some(Instant::now());
                    self.status.set_postgres(true);
                    self.status.postgres.well(Witness::Work);
                    tracing::info!("PostgreSQL serves");
                    std::mem::take(&mut self.back).cancel();
                    // The workers need not wait for their next look.
                    self.status.reconnect.notify_waiters();
                    self.state.send_replace(LocalState::Serves);
                    let served = self.serve(&period, &store).await;
                    period.end();
                    match served {
                        Ok(Served::Shutdown) => return,
                        Ok(Served::GivenBack) => {
                            self.state.send_replace(LocalState::GaveBack);
                            return;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => Failed::Lead(error),
            };
            self.away(&error).await;
            // A server that lets us in may still take nothing, when its disk is full.
            if served_since.is_some_and(|since| since.elapsed() >= LAST_RETRY) {
                backoff.reset();
            }
            let mut standing = outset.tenure.watch();
            let news = async {
                tokio::select! {
                    () = backoff.wait() => {}
                    _ = standing.changed() => {}
                }
            };
            if self.meanwhile(news).await.is_none() {
                return;
            }
        }
    }

    async fn away(&mut self, error: &Failed) {
        if let Failed::Failback(error) = error {
            match error {
                // Nothing has failed: it is tried again when Redis has everything.
                FailbackError::Late => {
                    tracing::info!(%error, "Redis is not given the lead yet: PostgreSQL goes on");
                }
                _ => {
                    tracing::warn!(%error, "Redis could not be given the lead: PostgreSQL goes on")
                }
            }
            self.state.send_replace(LocalState::Opens);
            return;
        }
        let held = matches!(error, Failed::Lead(LeadError::Store(StoreError::Held { .. })));
        if let Failed::Lead(LeadError::Store(error)) = error
            && let Some(condition) = error.condition()
        {
            self.status.postgres.note(Witness::Work, condition, error.to_string());
        }
        let news = self.status.set_postgres(held);
        let follower = self.outset.follower.as_ref();
        let owes = follower.is_some_and(|(follower, _)| !follower.debts.is_empty());
        *self.said.lock() = error.to_string();
        self.state.send_replace(LocalState::Away { owes });
        match error {
            _ if held => {}
            error if news || self.why.is_none() => tracing::warn!(%error, "PostgreSQL is away"),
            _ => {}
        }
        self.why = Some(format!("UNAVAILABLE PostgreSQL does not serve: {error}"));
        for stream in std::mem::take(&mut self.waiting) {
            self.receive(stream).await;
        }
    }

    /// Serves until the shutdown, until PostgreSQL fails, or until Redis is to lead again.
    async fn serve(&mut self, period: &Rc<Period>, store: &Store) -> Result<Served, Failed> {
        let failback = self.failback.clone();
        let bringing = failback.clone().map(|failback| tokio::task::spawn_local(failback.run()));
        let _ends_with_us = bringing.map(|task| AbortOnDrop(task.abort_handle()));
        // A former wish was about a former period.
        let mut giving = self.give_back.subscribe();
        giving.borrow_and_update();
        for stream in std::mem::take(&mut self.waiting) {
            link::serve(period, stream);
        }
        let mut keeping = pin!(period.keep(store));
        let mut leased = pin!(period.tenure.lost(period.token));
        loop {
            tokio::select! {
                failed = &mut keeping => {
                    failed?;
                    return Ok(Served::Shutdown);
                }
                lost = &mut leased => return Err(lost.into()),
                _ = giving.changed() => break,
                connection = self.incoming.recv() => match connection {
                    Some(stream) => link::serve(period, stream),
                    None => break,
                },
                () = self.shutdown.cancelled() => break,
            }
        }
        if self.shutdown.is_cancelled() || failback.is_none() {
            return self.finish(period, store, keeping).await;
        }
        let Some(failback) = failback else { return Ok(Served::Shutdown) };
        let mut forgetting = pin!(failback.forget_unmirrored());
        loop {
            tokio::select! {
                failed = &mut keeping => {
                    failed?;
                    return Ok(Served::Shutdown);
                }
                Some(stream) = self.incoming.recv() => link::serve(period, stream),
                forgotten = &mut forgetting => break forgotten?,
            }
        }
        period.finish();
        keeping.await?;
        failback.give_back(store).await?;
        Ok(Served::GivenBack)
    }

    /// Commits the last changes, and has Redis take them, before the process ends.
    async fn finish(
        &self,
        period: &Period,
        store: &Store,
        keeping: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<Served, Failed> {
        period.finish();
        let ending = async {
            keeping.await?;
            if let Some(follower) = &period.follower
                && follower.role == Role::Copy
            {
                follower.drained().await;
                store.lead(follower.followed().as_deref()).await?;
            }
            Ok::<_, StoreError>(())
        };
        match tokio::time::timeout(DRAIN, ending).await {
            Ok(result) => result?,
            Err(_) => {
                tracing::warn!("not all of the last changes have been taken within {DRAIN:?}");
            }
        }
        Ok(Served::Shutdown)
    }

    /// Does `work`, and answers whoever connects; `None` at the shutdown.
    async fn meanwhile<W: Future>(&mut self, work: W) -> Option<W::Output> {
        let (mut work, mut late) = (pin!(work), pin!(tokio::time::sleep(PATIENCE)));
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.shutdown.cancelled() => return None,
                connection = self.incoming.recv() => match connection {
                    Some(stream) => self.receive(stream).await,
                    None => return None,
                },
                () = &mut late, if self.why.is_none() => {
                    self.why = Some(LOADING.to_owned());
                    for stream in std::mem::take(&mut self.waiting) {
                        self.receive(stream).await;
                    }
                }
            }
        }
    }

    /// Somebody connects while PostgreSQL does not serve.
    async fn receive(&mut self, mut stream: DuplexStream) {
        let Some(why) = &self.why else { return self.waiting.push(stream) };
        let Outset { config, gate, follower, .. } = &*self.outset;
        match follower {
            Some((follower, redis)) if follower.is_whole() => Away {
                redis: redis.clone(),
                follower: Rc::clone(follower),
                gate: Arc::clone(gate),
                limits: RequestLimits::from(&config.limits),
                over: self.back.clone(),
            }
            .serve(stream),
            _ => {
                let mut reply = Vec::new();
                encode_error(&why.replace(['\r', '\n'], " "), &mut reply);
                // Nobody may be there any more to hear it.
                let _ = stream.write_all(&reply).await;
            }
        }
    }
}
