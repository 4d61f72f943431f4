//! Who leads in `dual_write` and `cache_first`: Redis, or the server within the process while Redis is gone.
//!
//! ```text
//!             Redis is gone, PostgreSQL has all that was received
//!   Redis  ────────────────────────────────────────────────────────▶  PostgreSQL
//!  (mirror) ◀──────────────────────────────────────────────────────── (local server, failback)
//!             Redis is back, and has everything
//! ```
//!
//! At each change nobody answers for a moment: connections of before end first ([`Route`]). When both are gone
//! clients are told so, and what comes back first serves, provided that it has everything that was acknowledged.

mod apart;
mod parts;
mod probe;
mod serving;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::local::{FailoverLink, LocalServer, LocalState};
use crate::mirror::reach;
use crate::store::Holder;
use crate::strategy::{CommitGate, Gap, Lead, MirrorState, Presence, Status};
use crate::tenure::{Standing, Tenure};
use crate::upstream::{Connector, Leave, Peer, Route, SideManager, To};
use apart::{POSTGRES, REDIS};
pub use parts::PartError;
use parts::{Part, RunningMirror};
use probe::Health;
pub use serving::{RunningServing, Serving};

/// How often is looked at what nobody tells.
const TICK: Duration = Duration::from_millis(20);
/// How long the replication link may take to notice that Redis is gone.
const LINK_PATIENCE: Duration = Duration::from_millis(100);
/// How long PostgreSQL may take to serve before clients are told.
const OPENING: Duration = Duration::from_secs(2);
/// How long clients wait at the start for it to be known whether another proxy leads.
const OUTSET: Duration = Duration::from_secs(1);
/// How long giving the lead back may take.
const GIVING: Duration = Duration::from_secs(5);
/// In the spool's directory while PostgreSQL leads: a restarted process knows it before it serves.
const MARKER: &str = "postgres-leads";

/// Decides who leads.
pub struct Failover {
    pub config: Arc<Config>,
    /// To Redis itself.
    pub redis: Connector,
    pub route: Arc<Route>,
    pub gate: Arc<CommitGate>,
    pub tenure: Arc<Tenure>,
    pub status: Arc<Status>,
    pub presence: Arc<Presence>,
}

enum Stage {
    /// Nobody has been answered yet.
    Outset(Part),
    /// Redis leads.
    Redis(RunningMirror),
    /// PostgreSQL leads.
    Local(Local),
    /// Another proxy leads, and Redis may not be asked.
    Apart,
}

struct Local {
    server: LocalServer,
    sender: mpsc::UnboundedSender<tokio::io::DuplexStream>,
    well: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
}

impl Failover {
    /// What the process starts with. Fails when it cannot work at all.
    pub fn start(self) -> Result<Running, PartError> {
        let led = self.marker().exists();
        // The spool is looked at in any case, so that what is wrong with it is said at the start.
        let mirror = self.mirror(true)?;
        self.presence.set(Gap::Unknown, true);
        let stage = match led {
            false => Stage::Outset(mirror),
            true => Stage::Local(self.local()?),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(PartError::Thread)?;
        let over = CancellationToken::new();
        let end = over.clone();
        let thread = std::thread::Builder::new().name("failover".into());
        let work = move || runtime.block_on(self.run(stage, end));
        Ok(Running { thread: thread.spawn(work).map_err(PartError::Thread)?, over })
    }

    async fn run(self, mut stage: Stage, over: CancellationToken) {
        let (said, health) = watch::channel(Health::Unknown);
        let manager = SideManager::new(self.redis.clone());
        let limit = Duration::from_millis(self.config.redis.hang_timeout_ms);
        let probing = tokio::spawn(probe::watch(manager, Arc::clone(&self.route), limit, said));
        loop {
            let next = match stage {
                Stage::Outset(mirror) => self.begin(mirror).await,
                Stage::Apart => self.apart(health.clone(), &over).await,
                Stage::Redis(mirror) => self.under_redis(mirror, health.clone(), &over).await,
                Stage::Local(local) => self.under_local(local, health.clone(), &over).await,
            };
            match next {
                Ok(Some(next)) => stage = next,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "nobody can serve: the proxy has to be restarted");
                    over.cancelled().await;
                    break;
                }
            }
        }
        probing.abort();
    }

    async fn begin(&self, mirror: Part) -> Result<Option<Stage>, PartError> {
        self.outset().await;
        if self.is_passed_by() {
            return Ok(Some(Stage::Apart));
        }
        self.turn_to_redis();
        Ok(Some(Stage::Redis(mirror.start()?)))
    }

    /// Redis leads, until it is gone; `None` at the end.
    async fn under_redis(
        &self,
        mut mirror: RunningMirror,
        health: watch::Receiver<Health>,
        over: &CancellationToken,
    ) -> Result<Option<Stage>, PartError> {
        self.status.set_lead(Lead::Redis, "");
        let mut standing = self.tenure.watch();
        loop {
            let leads = match standing.borrow_and_update().clone() {
                Standing::Leader(_) => true,
                Standing::Standby(_) => false,
                Standing::Starting | Standing::Away(_) => mirror.leads,
            };
            if leads != mirror.leads {
                mirror.yielded().await;
                mirror = self.mirror(leads)?.start()?;
            }
            tokio::select! {
                () = over.cancelled() => {
                    mirror.stop_gently().await;
                    return Ok(None);
                }
                () = mirror.led.notified() => {
                    tracing::info!("PostgreSQL has taken over from Redis before, and leads until Redis has everything");
                    self.leave(Leave::Cut).await;
                    mirror.stop_at_once(over).await;
                    return Ok(Some(Stage::Local(self.local()?)));
                }
                () = tokio::time::sleep(TICK) => {}
                _ = standing.changed() => continue,
            }
            if self.is_passed_by() {
                self.leave(Leave::Cut).await;
                mirror.stop_at_once(over).await;
                return Ok(Some(Stage::Apart));
            }
            let postgres = self.status.postgres_up.load(Ordering::Relaxed);
            self.route.set_patient(postgres);
            let Health::Gone(why) = health.borrow().clone() else { continue };
            let syncing = self.status.mirror.state() == MirrorState::Syncing;
            if !postgres || syncing || !self.status.mirror.synced.load(Ordering::Relaxed) {
                continue;
            }
            self.status.set_lead(Lead::Nobody, &why);
            if !mirror.leads {
                tracing::warn!(reason = why, "Redis is gone, and another proxy leads");
                self.leave(Leave::Cut).await;
                mirror.stop_at_once(over).await;
                return Ok(Some(Stage::Apart));
            }
            tracing::warn!(reason = why, "Redis is gone: PostgreSQL takes over");
            self.tenure.set_lead(POSTGRES);
            self.leave(Leave::Cut).await;
            self.rest_of_link().await;
            if mirror.stop_at_once(over).await {
                self.mark(true);
                return Ok(Some(Stage::Local(self.local()?)));
            }
            // PostgreSQL has gone too: the mirror goes on where it was.
            mirror = self.mirror(true)?.start()?;
            self.presence.set(Gap::Unknown, true);
            self.turn_to_redis();
            self.status.set_lead(Lead::Redis, "");
        }
    }

    /// PostgreSQL leads, until Redis has everything; `None` at the end.
    async fn under_local(
        &self,
        local: Local,
        health: watch::Receiver<Health>,
        over: &CancellationToken,
    ) -> Result<Option<Stage>, PartError> {
        let Local { server, sender, well, ready } = local;
        let state = server.state();
        self.status.set_lead(Lead::Postgres, &why(&health.borrow()));
        let mut opened = state.clone();
        // Clients wait that long at most.
        let _ = tokio::time::timeout(OPENING, opened.wait_for(|state| *state != LocalState::Opens))
            .await;
        self.route.set_patient(false);
        self.route.turn(To::Local(sender.clone()));
        loop {
            tokio::select! {
                () = over.cancelled() => {
                    server.stopped().await;
                    return Ok(None);
                }
                () = tokio::time::sleep(TICK) => {}
            }
            if let Standing::Standby(_) = self.tenure.standing() {
                self.leave(Leave::Cut).await;
                server.stopped().await;
                return Ok(Some(Stage::Apart));
            }
            let healthy = *health.borrow() == Health::Well;
            well.send_if_modified(|well| std::mem::replace(well, healthy) != healthy);
            let now = *state.borrow();
            let owes_nothing = now == (LocalState::Away { owes: false });
            if healthy && owes_nothing && self.has_all().await {
                tracing::info!("Redis is back and lacks nothing: it leads again");
                self.leave(Leave::Cut).await;
                server.stopped().await;
                return Ok(Some(self.to_redis(true)?));
            }
            if !*ready.borrow() || now != LocalState::Serves {
                continue;
            }
            self.status.set_lead(Lead::Nobody, "Redis is given the lead");
            self.leave(Leave::Drained).await;
            server.give_back();
            let mut given = state.clone();
            let done = given.wait_for(|state| *state != LocalState::Serves);
            let _ = tokio::time::timeout(GIVING, done).await;
            let over = *state.borrow();
            if over == LocalState::GaveBack {
                server.stopped().await;
                return Ok(Some(self.to_redis(true)?));
            }
            self.status.set_lead(Lead::Postgres, "Redis did not take everything");
            self.route.turn(To::Local(sender.clone()));
        }
    }

    /// Whether Redis has everything that the mirror had received of it.
    async fn has_all(&self) -> bool {
        let mirror = &self.status.mirror;
        let (replid, offset) =
            (mirror.replid.read().clone(), mirror.received.load(Ordering::Relaxed));
        let look = async {
            let mut connection = SideManager::new(self.redis.clone()).connect().await.ok()?;
            reach(&mut connection, &replid).await.ok()?
        };
        let limit = Duration::from_millis(self.config.redis.hang_timeout_ms);
        let reached = tokio::time::timeout(limit, look).await.ok().flatten();
        !replid.is_empty() && reached.is_some_and(|reached| reached >= offset)
    }

    fn to_redis(&self, leads: bool) -> Result<Stage, PartError> {
        self.mark(false);
        self.gate.open();
        let mirror = self.mirror(leads)?.start()?;
        self.turn_to_redis();
        Ok(Stage::Redis(mirror))
    }

    fn turn_to_redis(&self) {
        self.tenure.set_lead(REDIS);
        self.route.turn(To::Redis);
    }

    /// Has the connections of clients end.
    async fn leave(&self, how: Leave) {
        self.route.turn(To::Nobody(how));
        self.route.left().await;
    }

    /// Lets the link read what Redis has sent before it went.
    async fn rest_of_link(&self) {
        let began = Instant::now();
        while self.status.mirror.state() == MirrorState::Streaming
            && began.elapsed() < LINK_PATIENCE
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn local(&self) -> Result<Local, PartError> {
        self.presence.clear();
        self.tenure.set_lead(POSTGRES);
        let (sender, incoming) = mpsc::unbounded_channel();
        let (well, of_well) = watch::channel(false);
        let (of_ready, ready) = watch::channel(false);
        let link = FailoverLink { local: sender.clone(), well: of_well, ready: of_ready };
        let server = LocalServer::start(
            Arc::clone(&self.config),
            Arc::clone(&self.gate),
            Arc::clone(&self.tenure),
            Arc::clone(&self.status),
            self.redis.clone(),
            incoming,
            Some(link),
        )?;
        Ok(Local { server, sender, well, ready })
    }

    fn marker(&self) -> PathBuf {
        self.config.mirror.spool_dir.join(MARKER)
    }

    fn mark(&self, led: bool) {
        let marker = self.marker();
        let done = match led {
            true => std::fs::write(&marker, b""),
            false => std::fs::remove_file(&marker),
        };
        if let Err(error) = done
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // PostgreSQL knows it too.
            tracing::warn!(%error, path = %marker.display(), "who leads cannot be noted in the spool's directory");
        }
    }
}

/// The proxy that leads, if it is another one that can be reached.
fn peer_of(standing: &Standing) -> Option<Arc<Peer>> {
    let Standing::Standby(held) = standing else { return None };
    let Holder { address, secret, .. } = held.holder.clone();
    (!address.is_empty()).then(|| Arc::new(Peer { address, secret }))
}

/// For people.
fn who_leads(standing: &Standing) -> String {
    match standing {
        Standing::Standby(held) => format!("{} leads", held.holder.name),
        _ => String::new(),
    }
}

fn why(health: &Health) -> String {
    match health {
        Health::Gone(why) => why.clone(),
        _ => String::new(),
    }
}

/// The thread that decides.
pub struct Running {
    thread: std::thread::JoinHandle<()>,
    over: CancellationToken,
}

impl Running {
    /// Ends whoever leads, in order. Nobody may be connected any more.
    pub fn stop(self) {
        self.over.cancel();
        // A thread that panicked has been logged.
        let _ = self.thread.join();
    }
}
