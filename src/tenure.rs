//! Which of several proxies leads: the one with the lease mirrors Redis, or serves from PostgreSQL. The others stand by.
//!
//! One thread asks for the lease as long as the process lives, and renews it. What is written to PostgreSQL is fenced
//! there, by the lease's number and by the writer's; what a leader remembers it may tell while [`Tenure::lasts`] only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio_postgres::config::Host;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, PostgresAddress};
use crate::store::{Asked, Held, Holder, Lease, Store, StoreError};
use crate::strategy::{Condition, Role, Status, Witness};
use crate::upstream::{Backoff, SECURE};

/// How long a lease lasts: a proxy that is paused or cut off is replaced after this time.
const TIME: Duration = Duration::from_secs(4);
const RENEWAL: Duration = Duration::from_secs(1);
/// After so long without an answer PostgreSQL is said to be silent, and slow when the answer comes.
const SILENT: Duration = Duration::from_secs(1);
/// How often the others look whether the lease is free, and who answers the holder's clients.
const LOOK: Duration = Duration::from_millis(100);
/// So long after an outage of PostgreSQL the others leave the lease to who had it: what PostgreSQL
/// missed is in its spool.
const PRECEDENCE: Duration = Duration::from_millis(1500);
/// How long giving the lease up may take at the end.
const ENDING: Duration = Duration::from_secs(1);

/// What this proxy is among those that share a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// PostgreSQL has not been asked yet.
    Starting,
    /// It has the lease of this number.
    Leader(i64),
    /// Another proxy has it.
    Standby(Arc<Held>),
    /// PostgreSQL is away, how, and why.
    Away(Condition, String),
}

/// Shared by all who work under the lease.
#[derive(Debug)]
pub struct Tenure {
    standing: watch::Sender<Standing>,
    /// Until when what is remembered counts.
    until: Mutex<Instant>,
    renewed: Notify,
    /// Somebody was fenced: the lease is looked at at once.
    doubt: Notify,
    /// Who answers our clients, for the others.
    lead: watch::Sender<&'static str>,
    status: Arc<Status>,
}

impl Tenure {
    /// Nobody asks for the lease yet.
    pub fn new(status: &Arc<Status>) -> Arc<Tenure> {
        Arc::new(Tenure {
            standing: watch::Sender::new(Standing::Starting),
            until: Mutex::new(Instant::now()),
            renewed: Notify::new(),
            doubt: Notify::new(),
            lead: watch::Sender::new(""),
            status: Arc::clone(status),
        })
    }

    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// The number of the lease; [`StoreError::Held`] when another proxy has it.
    pub async fn token(&self) -> Result<i64, StoreError> {
        let mut standing = self.standing.subscribe();
        let known = standing.wait_for(|standing| *standing != Standing::Starting).await;
        match known.map(|known| known.clone()) {
            Ok(Standing::Leader(token)) => Ok(token),
            Ok(Standing::Standby(held)) => {
                Err(StoreError::Held { holder: held.holder.name.clone() })
            }
            Ok(Standing::Away(condition, message)) => {
                Err(StoreError::Connection { message, outcome_unknown: false, condition })
            }
            // The sender lives as long as `self`.
            Ok(Standing::Starting) | Err(_) => Err(StoreError::Fenced),
        }
    }

    /// Resolves when the lease of this number has been lost.
    pub async fn lost(&self, token: i64) -> StoreError {
        let mut standing = self.standing.subscribe();
        let _ = standing.wait_for(|standing| *standing != Standing::Leader(token)).await;
        self.token().await.err().unwrap_or(StoreError::Fenced)
    }

    /// True while nobody else can have the lease; not so when the process was paused for long.
    pub fn lasts(&self) -> bool {
        Instant::now() < *self.until.lock()
    }

    /// Returns when [`Tenure::lasts`].
    pub async fn lasting(&self) {
        loop {
            let renewed = self.renewed.notified();
            if self.lasts() {
                return;
            }
            renewed.await;
        }
    }

    /// Returns when no other proxy is known to lead, and none can have come to lead while this process was paused: what
    /// waits for Redis may be sent. With PostgreSQL away it goes on.
    pub async fn unopposed(&self) {
        let mut standing = self.standing.subscribe();
        loop {
            let renewed = self.renewed.notified();
            match standing.borrow_and_update().clone() {
                Standing::Leader(_) if self.lasts() => return,
                Standing::Starting | Standing::Away(..) => return,
                Standing::Leader(_) | Standing::Standby(_) => {}
            }
            tokio::select! {
                () = renewed => {}
                // The sender lives as long as `self`.
                _ = standing.changed() => {}
            }
        }
    }

    /// PostgreSQL has refused this proxy because of another.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Has the others know who answers our clients.
    pub fn set_lead(&self, lead: &'static str) {
        self.lead.send_replace(lead);
    }

    fn set(&self, standing: Standing) {
        self.standing.send_if_modified(|now| {
            let news = *now != standing;
            if news {
                say(now, &standing);
                match &standing {
                    Standing::Leader(_) => self.status.set_role(Role::Leader, ""),
                    Standing::Standby(held) => {
                        self.status.admit(None);
                        self.status.set_role(Role::Standby, &held.holder.name);
                    }
                    Standing::Starting | Standing::Away(..) => {
                        self.status.set_role(Role::None, "");
                    }
                }
                if !matches!(standing, Standing::Leader(_)) {
                    *self.until.lock() = Instant::now();
                }
                *now = standing;
            }
            news
        });
    }

    fn renew(&self, asked: Instant) {
        match asked.elapsed() {
            took if took < SILENT => self.status.postgres.well(Witness::Watch),
            took => {
                let why = format!("an answer took {} ms", took.as_millis());
                self.status.postgres.note(Witness::Watch, Condition::Slow, why);
            }
        }
        *self.until.lock() = asked + TIME;
        self.renewed.notify_waiters();
    }
}

/// One line of the log for each change that an operator cares for.
fn say(before: &Standing, now: &Standing) {
    match (before, now) {
        (_, Standing::Leader(token)) => tracing::info!(token, "this proxy leads: it has the lease"),
        (Standing::Standby(before), Standing::Standby(now)) if before.token == now.token => {}
        (_, Standing::Standby(held)) => {
            tracing::info!(holder = %held.holder.name, "standing by: another proxy leads");
        }
        (Standing::Leader(_), Standing::Away(_, why)) => {
            tracing::info!(why, "the lease cannot be renewed");
        }
        _ => {}
    }
}

/// The thread that asks for the lease.
#[derive(Debug)]
pub struct Running {
    tenure: Arc<Tenure>,
    thread: JoinHandle<()>,
    over: CancellationToken,
}

impl Running {
    /// Gives the lease up and ends.
    pub fn stop(self) {
        self.over.cancel();
        // A thread that panicked has been logged.
        let _ = self.thread.join();
        self.tenure.status.admit(None);
        self.tenure.set(Standing::Starting);
        self.tenure.status.postgres.forget(Witness::Watch);
    }
}

/// Begins to ask for the lease; PostgreSQL may be away.
/// `bound` is where clients connect.
pub fn start(config: &Config, bound: SocketAddr, tenure: &Arc<Tenure>) -> std::io::Result<Running> {
    let over = CancellationToken::new();
    let me = Holder {
        name: name(&config.listen.address),
        address: config.listen.advertise.clone(),
        secret: secret(),
    };
    let asking = Asking {
        tenure: Arc::clone(tenure),
        postgres: config.postgres.clone(),
        bound,
        secure: config.listen.tls().is_some() && config.listen.tls_address.is_empty(),
        me,
        over: over.clone(),
        migrated: false,
        before: Before::Nothing,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("lease".into());
    let thread = thread.spawn(move || runtime.block_on(asking.run()))?;
    Ok(Running { tenure: Arc::clone(tenure), thread, over })
}

fn secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Who we are, for the people at the other proxy.
fn name(address: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("the proxy on {} that listens on {address} (pid {})", host.trim(), std::process::id())
}

struct Asking {
    tenure: Arc<Tenure>,
    postgres: config::Postgres,
    bound: SocketAddr,
    /// Clients need TLS there.
    secure: bool,
    me: Holder,
    over: CancellationToken,
    /// The schema is known to be there.
    migrated: bool,
    before: Before,
}

/// What this proxy was when PostgreSQL was there last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Leading,
    StandingBy,
}

impl Asking {
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let over = self.over.clone();
        while !over.is_cancelled() {
            let since = Instant::now();
            if let Err(error) = self.session().await {
                let condition = error.condition().unwrap_or(Condition::Failing);
                let why = match error {
                    StoreError::Connection { message, .. } => message,
                    error => error.to_string(),
                };
                self.tenure.status.postgres.note(Witness::Watch, condition, why.as_str());
                self.tenure.set(Standing::Away(condition, why));
            }
            if since.elapsed() > TIME {
                backoff.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.tenure.status.reconnect.notified() => {}
                () = over.cancelled() => {}
            }
        }
    }

    /// Asks, and holds, in one session of PostgreSQL. Returns at the end.
    async fn session(&mut self) -> Result<(), StoreError> {
        let over = self.over.clone();
        if !self.migrated {
            tokio::select! {
                migrated = migrate(&self.postgres) => migrated?,
                () = over.cancelled() => return Ok(()),
            }
            self.migrated = true;
        }
        if self.me.address.is_empty() {
            let address = address(self.bound, &self.postgres).await;
            self.me.address = if self.secure { format!("{SECURE}{address}") } else { address };
        }
        let mut lease = Store::lease(&self.postgres, TIME).await?;
        let patience = match self.before {
            Before::StandingBy => PRECEDENCE,
            Before::Nothing | Before::Leading => Duration::ZERO,
        };
        let patient_until = Instant::now() + patience;
        loop {
            let asked = Instant::now();
            match lease.ask(&self.me, asked >= patient_until).await? {
                Asked::Taken => {
                    self.before = Before::Leading;
                    self.tenure.renew(asked);
                    self.tenure.status.admit(Some(self.me.secret.clone()));
                    self.tenure.set(Standing::Leader(lease.token()));
                    match self.hold(&lease).await {
                        Ok(()) => {
                            // Should that fail, the end of the session gives it up too.
                            let _ = tokio::time::timeout(ENDING, lease.give_up()).await;
                            return Ok(());
                        }
                        Err(StoreError::Fenced) => {
                            self.me.secret = secret();
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Asked::Held(held) => {
                    self.tenure.status.postgres.well(Witness::Watch);
                    self.before = Before::StandingBy;
                    self.tenure.set(Standing::Standby(Arc::new(held)));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = over.cancelled() => return Ok(()),
            }
        }
    }

    /// Renews the lease until the end, or until that fails.
    async fn hold(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut lead = self.tenure.lead.subscribe();
        lead.mark_changed();
        let mut renewals = tokio::time::interval(RENEWAL);
        loop {
            tokio::select! {
                _ = renewals.tick() => {}
                () = self.tenure.doubt.notified() => {}
                Ok(()) = lead.changed() => {
                    let lead = *lead.borrow_and_update();
                    lease.say_lead(lead).await?;
                    continue;
                }
                () = lease.ended() => {}
                () = self.over.cancelled() => return Ok(()),
            }
            let asked = Instant::now();
            let mut renewal = pin!(lease.renew());
            match tokio::time::timeout(SILENT, &mut renewal).await {
                Ok(renewed) => renewed?,
                Err(_) => {
                    let why = format!("no answer within {SILENT:?}");
                    self.tenure.status.postgres.note(Witness::Watch, Condition::Silent, why);
                    renewal.await?;
                }
            }
            self.tenure.renew(asked);
        }
    }
}

/// Where others reach what listens on `bound`: on all interfaces, at the address that this host shows PostgreSQL.
async fn address(bound: SocketAddr, postgres: &config::Postgres) -> String {
    if !bound.ip().is_unspecified() {
        return bound.to_string();
    }
    let ip = towards(postgres).await.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, bound.port()).to_string()
}

/// This host's address on the way to PostgreSQL; `None`: that is on this host.
async fn towards(postgres: &config::Postgres) -> Option<IpAddr> {
    let server = PostgresAddress::new(postgres).ok()?.server;
    let Some(Host::Tcp(host)) = server.get_hosts().first() else { return None };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    let to = tokio::net::lookup_host((host.as_str(), port)).await.ok()?.next()?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Nothing is sent: the system only looks for the way.
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(to).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

async fn migrate(postgres: &config::Postgres) -> Result<(), StoreError> {
    Store::connect(postgres).await?.migrate().await
}
