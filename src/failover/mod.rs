//! Who leads, and the strategy in force.
//!
//! ```text
//!              dual_write, cache_first                 Redis is gone
//!   redis_only ◀──▶ Redis, mirrored ──────────────────────────────────▶ PostgreSQL, until
//!                     ▲        ▲     ◀────────────────────────────────  Redis has everything
//!     a switch of the │        │      Redis is back, and has everything        ▲
//!     strategy        ▼        ▼                                                ┆
//!          postgres_only ◀──▶ database_first                    (on the way back from postgres_only)
//! ```
//!
//! At each change nobody answers for a moment: connections of before end first ([`Route`]). When both are gone
//! clients are told so, and what comes back first serves, provided that it has everything that was acknowledged.

mod apart;
mod hand_over;
mod memory;
mod parts;
mod place;
mod probe;
mod requests;
mod serving;
mod stages;
mod switch;
mod unmirrored;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Mode};
use crate::local::{FailoverLink, LocalServer};
use crate::store::Holder;
use crate::strategy::{CommitGate, Gap, Presence, Status};
use crate::tenure::{self, Standing, Tenure};
use crate::upstream::{Connector, Leave, Peer, Route, SideManager, To};
use apart::{POSTGRES, REDIS};
pub use memory::Remembered;
pub use parts::PartError;
use parts::{Part, Probing, RunningMirror};
pub use requests::{Requests, Switcher};

/// How often is looked at what nobody tells.
const TICK: Duration = Duration::from_millis(20);
/// How long clients wait at the start for it to be known whether another proxy leads.
const OUTSET: Duration = Duration::from_secs(1);
/// In the spool's directory while PostgreSQL stands in: a restarted process knows it before it serves.
const MARKER: &str = "postgres-leads";

/// Decides who leads.
pub struct Failover {
    pub config: Arc<Config>,
    /// To Redis itself.
    pub redis: Connector,
    /// Where clients connect.
    pub bound: SocketAddr,
    pub route: Arc<Route>,
    pub gate: Arc<CommitGate>,
    pub tenure: Arc<Tenure>,
    /// Asks for the lease, except in `redis_only`: without PostgreSQL there is nothing of which only one of several
    /// proxies may take care.
    pub lease: Mutex<Option<tenure::Running>>,
    pub status: Arc<Status>,
    pub presence: Arc<Presence>,
}

enum Stage {
    /// Nobody has been answered yet.
    Outset(Part),
    /// Redis leads, and nothing follows it.
    Alone,
    /// Redis leads, mirrored.
    Redis(RunningMirror),
    /// PostgreSQL leads until Redis has everything.
    Standing(Local, Back),
    /// PostgreSQL leads, through this proxy or another one.
    Served(Local),
    /// Another proxy leads, and Redis may not be asked.
    Apart,
}

/// The server within the process.
struct Local {
    server: LocalServer,
    sender: mpsc::UnboundedSender<tokio::io::DuplexStream>,
}

/// How Redis gets the lead back from it.
struct Back {
    well: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
}

/// What a stage ends with.
enum Next {
    Stage(Stage),
    /// The operator wants another strategy.
    Asked(Stage, requests::Request),
    Over,
}

impl Failover {
    /// What the process starts with. Fails when it cannot work at all.
    pub fn start(self, requests: Requests) -> Result<Running, PartError> {
        if self.status.strategy() != Mode::RedisOnly {
            self.take_part()?;
        }
        let stage = match self.status.strategy() {
            Mode::RedisOnly => {
                self.route.turn(To::Redis);
                Stage::Alone
            }
            mode @ (Mode::PostgresOnly | Mode::DatabaseFirst) => Stage::Served(self.server(mode)?),
            Mode::DualWrite | Mode::CacheFirst => {
                // The spool is looked at in any case, so that what is wrong with it is said at the start.
                let mirror = self.mirror(true)?;
                self.presence.set(Gap::Unknown, true);
                match self.marker().exists() {
                    false => Stage::Outset(mirror),
                    true => {
                        let (local, back) = self.standing(false)?;
                        Stage::Standing(local, back)
                    }
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(PartError::Thread)?;
        let over = CancellationToken::new();
        let end = over.clone();
        let thread = std::thread::Builder::new().name("failover".into());
        let work = move || runtime.block_on(self.run(stage, requests, end));
        Ok(Running { thread: thread.spawn(work).map_err(PartError::Thread)?, over })
    }

    async fn run(self, mut stage: Stage, mut requests: Requests, over: CancellationToken) {
        let mut probing = None;
        loop {
            let next = match stage {
                Stage::Outset(mirror) => self.begin(mirror).await.map(Next::Stage),
                Stage::Apart => {
                    let health = self.health(&mut probing);
                    self.apart(health, &mut requests, &over).await
                }
                Stage::Alone => {
                    probing = None;
                    Ok(self.alone(&mut requests, &over).await)
                }
                Stage::Served(local) => {
                    probing = None;
                    Ok(self.served(local, &mut requests, &over).await)
                }
                Stage::Redis(mirror) => {
                    let health = self.health(&mut probing);
                    self.under_redis(mirror, health, &mut requests, &over).await
                }
                Stage::Standing(local, back) => {
                    let health = self.health(&mut probing);
                    self.under_local(local, back, health, &mut requests, &over).await
                }
            };
            let next = match next {
                Ok(Next::Asked(stage, request)) => self.switch(stage, request, &over).await,
                other => other,
            };
            match next {
                Ok(Next::Stage(next)) => stage = next,
                Ok(Next::Asked(..) | Next::Over) => break,
                Err(error) => {
                    tracing::error!(%error, "nobody can serve: the proxy has to be restarted");
                    over.cancelled().await;
                    break;
                }
            }
        }
        self.stand_aside().await;
    }

    async fn begin(&self, mirror: Part) -> Result<Stage, PartError> {
        self.outset().await;
        if self.is_passed_by() {
            return Ok(Stage::Apart);
        }
        self.turn_to_redis();
        Ok(Stage::Redis(mirror.start()?))
    }

    /// Asks for the lease from now on.
    fn take_part(&self) -> Result<(), PartError> {
        let mut lease = self.lease.lock();
        if lease.is_none() {
            let running = tenure::start(&self.config, self.bound, &self.tenure);
            *lease = Some(running.map_err(PartError::Thread)?);
        }
        Ok(())
    }

    /// Leaves the lease to others.
    async fn stand_aside(&self) {
        let lease = self.lease.lock().take();
        if let Some(lease) = lease {
            // A panic has been logged.
            let _ = tokio::task::spawn_blocking(move || lease.stop()).await;
        }
    }

    fn turn_to_redis(&self) {
        self.tenure.set_lead(REDIS);
        self.turn(To::Redis);
    }

    /// Has somebody answer.
    fn turn(&self, to: To) {
        self.gate.let_go();
        if let To::Peer(_) = to {
            // The one that leads waits for PostgreSQL.
            self.gate.open();
        }
        self.gate.turned();
        self.route.turn(to);
    }

    /// How Redis is; asked from here on.
    fn health(&self, probing: &mut Option<Probing>) -> watch::Receiver<probe::Health> {
        probing.get_or_insert_with(|| self.probing()).health.clone()
    }

    fn probing(&self) -> Probing {
        let manager = SideManager::new(self.redis.clone());
        let limit = Duration::from_millis(self.config.redis.hang_timeout_ms);
        Probing::start(manager, Arc::clone(&self.route), Arc::clone(&self.status), limit)
    }

    /// Has the connections of clients end.
    async fn leave(&self, how: Leave) {
        // With `Drained` clients' commands wait before they are handed to a connection.
        if how == Leave::Cut {
            self.gate.hold_fast();
        }
        self.route.turn(To::Nobody(how));
        self.route.left().await;
    }

    /// The configuration as it would be for another strategy.
    fn config_for(&self, mode: Mode) -> Config {
        let mut config = Config::clone(&self.config);
        config.strategy.mode = mode;
        config
    }

    /// Has PostgreSQL serve.
    fn server(&self, mode: Mode) -> Result<Local, PartError> {
        self.local(Arc::new(self.config_for(mode)), |_| None)
    }

    /// Has PostgreSQL serve until Redis has everything. `replaces`: what only Redis has goes, and no family is
    /// an exception.
    fn standing(&self, replaces: bool) -> Result<(Local, Back), PartError> {
        let mut config = Config::clone(&self.config);
        if replaces {
            config.family.iter_mut().for_each(|family| family.mirror = true);
        }
        let (well, of_well) = watch::channel(false);
        let (of_ready, ready) = watch::channel(false);
        let link = |local| Some(FailoverLink { local, well: of_well, ready: of_ready, replaces });
        Ok((self.local(Arc::new(config), link)?, Back { well, ready }))
    }

    fn local(
        &self,
        config: Arc<Config>,
        link: impl FnOnce(mpsc::UnboundedSender<tokio::io::DuplexStream>) -> Option<FailoverLink>,
    ) -> Result<Local, PartError> {
        self.presence.clear();
        self.tenure.set_lead(POSTGRES);
        let (sender, incoming) = mpsc::unbounded_channel();
        let server = LocalServer::start(
            config,
            Arc::clone(&self.gate),
            Arc::clone(&self.tenure),
            Arc::clone(&self.status),
            self.redis.clone(),
            incoming,
            link(sender.clone()),
        )?;
        Ok(Local { server, sender })
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
