use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::RwLock;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

use super::backend::{Backend, Condition, Witness};
use super::following::{FollowerStatus, Following};
use super::meters::{Histogram, Meters, SIZES};
use crate::config::{Ack, Mode};

/// Where the mirror stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MirrorState {
    /// No mirror by configuration (`redis_only`).
    #[default]
    Off,
    /// Looking for Redis.
    Connecting,
    /// A first or full resync: a snapshot is being loaded, writes are acknowledged by Redis.
    Syncing,
    /// Following the replication stream.
    Streaming,
    /// PostgreSQL is away; the stream is spooled to disk.
    Spooling,
}

impl MirrorState {
    pub const ALL: [MirrorState; 5] = [
        MirrorState::Off,
        MirrorState::Connecting,
        MirrorState::Syncing,
        MirrorState::Streaming,
        MirrorState::Spooling,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            MirrorState::Off => "off",
            MirrorState::Connecting => "connecting",
            MirrorState::Syncing => "syncing",
            MirrorState::Streaming => "streaming",
            MirrorState::Spooling => "spooling",
        }
    }
}

/// Who answers clients in a strategy in which Redis leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    #[default]
    Redis,
    /// The server within the process, because Redis is gone.
    Postgres,
    /// Another proxy, which leads.
    Leader,
    /// It is being decided.
    Nobody,
}

impl Lead {
    pub fn as_str(self) -> &'static str {
        match self {
            Lead::Redis => "redis",
            Lead::Postgres => "postgres",
            Lead::Leader => "leader",
            Lead::Nobody => "nobody",
        }
    }
}

/// What a proxy is among those that share a Redis and a PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// PostgreSQL has not said, or the strategy does without it.
    #[default]
    None,
    /// It mirrors, or serves from PostgreSQL.
    Leader,
    /// Another one does.
    Standby,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::None => "none",
            Role::Leader => "leader",
            Role::Standby => "standby",
        }
    }
}

/// How the strategy in force came to be: by the configuration, or by a switch.
#[derive(Clone, Debug, Default)]
pub struct Switched {
    /// The last switch that is remembered: when, as RFC 3339, and by whom.
    pub last: Option<(String, String)>,
    /// The strategy that is being switched to.
    pub to: Option<Mode>,
}

/// The mirror's counters, written by the mirror alone.
#[derive(Debug)]
pub struct MirrorStatus {
    state: RwLock<(MirrorState, String)>,
    pub replid: RwLock<String>,
    /// Replication offset read from Redis, in bytes of the stream.
    pub received: AtomicI64,
    /// Replication offset committed in PostgreSQL.
    pub applied: AtomicI64,
    /// Age in ms of the oldest received, uncommitted effect; 0 when there is none.
    pub lag_ms: AtomicU64,
    pub spool_bytes: AtomicU64,
    /// PostgreSQL has had a position in Redis's history: the first sync is over.
    pub synced: AtomicBool,
    pub effects: AtomicU64,
    pub commits: AtomicU64,
    pub full_syncs: AtomicU64,
    pub partial_syncs: AtomicU64,
    /// Keys re-read from Redis because a command or a type was unknown to the engine.
    pub rereads: AtomicU64,
    pub unknown_commands: AtomicU64,
    pub conflicts: AtomicU64,
    /// Flushes in the stream that no client sent through a proxy.
    pub foreign_flushes: AtomicU64,
    /// Keys brought back to Redis from PostgreSQL.
    pub restored: AtomicU64,
    /// How long PostgreSQL takes for a transaction of the mirror.
    pub commit_time: Histogram,
    /// Commands of the stream in one transaction.
    pub batches: Histogram,
}

impl Default for MirrorStatus {
    fn default() -> Self {
        MirrorStatus {
            state: RwLock::default(),
            replid: RwLock::default(),
            received: AtomicI64::default(),
            applied: AtomicI64::default(),
            lag_ms: AtomicU64::default(),
            spool_bytes: AtomicU64::default(),
            synced: AtomicBool::default(),
            effects: AtomicU64::default(),
            commits: AtomicU64::default(),
            full_syncs: AtomicU64::default(),
            partial_syncs: AtomicU64::default(),
            rereads: AtomicU64::default(),
            unknown_commands: AtomicU64::default(),
            conflicts: AtomicU64::default(),
            foreign_flushes: AtomicU64::default(),
            restored: AtomicU64::default(),
            commit_time: Histogram::default(),
            batches: Histogram::new(&SIZES),
        }
    }
}

impl MirrorStatus {
    pub fn state(&self) -> MirrorState {
        self.state.read().0
    }

    /// Why the mirror is in this state, for people; empty when all is well.
    pub fn reason(&self) -> String {
        self.state.read().1.clone()
    }

    /// Changes the state and says so in the log, one line per change.
    pub fn set_state(&self, state: MirrorState, reason: impl Into<String>) {
        let reason = reason.into();
        let mut now = self.state.write();
        if now.0 != state {
            tracing::info!(from = now.0.as_str(), to = state.as_str(), reason, "mirror state");
        }
        *now = (state, reason);
    }

    /// Bytes of the stream received and not yet committed.
    pub fn lag_bytes(&self) -> i64 {
        let (received, applied) =
            (self.received.load(Ordering::Relaxed), self.applied.load(Ordering::Relaxed));
        (received - applied).max(0)
    }
}

/// What the operator sees: the strategy in force, the mode it has come to, and why.
#[derive(Debug)]
pub struct Status {
    /// Its place in [`Mode::ALL`].
    strategy: AtomicU8,
    /// As proxy.toml and the environment have it.
    pub configured: Mode,
    switched: RwLock<Switched>,
    pub ack: Ack,
    pub started: Instant,
    pub redis_up: AtomicBool,
    pub postgres_up: AtomicBool,
    pub redis: Backend,
    pub postgres: Backend,
    pub mirror: MirrorStatus,
    pub follower: FollowerStatus,
    /// Who leads where Redis does by configuration, and why it is somebody else.
    lead: RwLock<(Lead, String)>,
    /// What this proxy is among several, and who leads if that is another one.
    role: RwLock<(Role, String)>,
    /// By this a proxy that leads knows the others.
    secret: RwLock<Option<String>>,
    /// Changes of who leads.
    pub failovers: AtomicU64,
    /// Connected clients and accepted since start, kept by the listener.
    pub clients: AtomicU64,
    pub clients_total: AtomicU64,
    pub commands_total: AtomicU64,
    /// Client tasks that panicked; each ended its own client only.
    pub panics: AtomicU64,
    pub meters: Meters,
    /// Somebody asks for backends that are away to be tried now, without the pause between attempts.
    pub reconnect: Notify,
}

/// The mode in which nobody can serve.
pub const UNAVAILABLE: &str = "unavailable";

impl Status {
    pub fn new(strategy: Mode, ack: Ack) -> Status {
        Status {
            strategy: AtomicU8::new(strategy as u8),
            configured: strategy,
            switched: RwLock::default(),
            ack,
            started: Instant::now(),
            redis_up: AtomicBool::new(false),
            postgres_up: AtomicBool::new(false),
            redis: Backend::new("Redis"),
            postgres: Backend::new("PostgreSQL"),
            mirror: MirrorStatus::default(),
            follower: FollowerStatus::default(),
            lead: RwLock::default(),
            role: RwLock::default(),
            secret: RwLock::default(),
            failovers: AtomicU64::new(0),
            clients: AtomicU64::new(0),
            clients_total: AtomicU64::new(0),
            commands_total: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            meters: Meters::default(),
            reconnect: Notify::new(),
        }
    }

    /// The strategy in force.
    pub fn strategy(&self) -> Mode {
        let at = usize::from(self.strategy.load(Ordering::Acquire));
        Mode::ALL.get(at).copied().unwrap_or(self.configured)
    }

    pub fn set_strategy(&self, strategy: Mode) {
        self.strategy.store(strategy as u8, Ordering::Release);
        // Others look from now on.
        self.redis.forget(Witness::Work);
        self.postgres.forget(Witness::Work);
    }

    /// How the strategy came to be in force.
    pub fn switched(&self) -> Switched {
        self.switched.read().clone()
    }

    pub fn note_switch(&self, change: impl FnOnce(&mut Switched)) {
        change(&mut self.switched.write());
    }

    /// True when clients were answered the last time anybody looked.
    pub fn serves(&self) -> bool {
        match self.strategy() {
            _ if self.lead().0 == Lead::Leader => true,
            Mode::PostgresOnly => self.postgres_up.load(Ordering::Relaxed),
            Mode::DatabaseFirst => {
                self.postgres_up.load(Ordering::Relaxed)
                    || self.follower.state() == Following::Whole
            }
            _ if self.lead().0 == Lead::Postgres => self.postgres_up.load(Ordering::Relaxed),
            _ => self.redis_up.load(Ordering::Relaxed),
        }
    }

    /// Who leads where Redis does by configuration, and why it is somebody else, for people.
    pub fn lead(&self) -> (Lead, String) {
        self.lead.read().clone()
    }

    /// What this proxy is among several, and for people the one that leads if that is another.
    pub fn role(&self) -> (Role, String) {
        self.role.read().clone()
    }

    /// Whether other proxies may hand their clients' commands on to this one: with this secret, or not.
    pub fn admit(&self, secret: Option<String>) {
        *self.secret.write() = secret;
    }

    /// True for who says the `word` that proves knowledge of the secret.
    pub fn admits(&self, word: &[u8], proof: impl Fn(&str) -> Option<String>) -> bool {
        let known = self.secret.read().as_deref().and_then(proof);
        known.is_some_and(|known| known.as_bytes().ct_eq(word).into())
    }

    /// True while other proxies are admitted at all.
    pub fn admits_others(&self) -> bool {
        self.secret.read().is_some()
    }

    pub fn set_role(&self, role: Role, leader: &str) {
        *self.role.write() = (role, leader.to_owned());
    }

    /// Notes who leads, and says so in the log when that changes.
    pub fn set_lead(&self, lead: Lead, why: &str) {
        let mut now = self.lead.write();
        if now.0 != lead && lead != Lead::Nobody {
            tracing::info!(lead = lead.as_str(), reason = why, "who answers clients");
        }
        if lead == Lead::Postgres && now.0 != lead {
            self.failovers.fetch_add(1, Ordering::Relaxed);
        }
        *now = (lead, why.to_owned());
    }

    /// Nobody stands in for anybody.
    pub fn clear_lead(&self) {
        *self.lead.write() = Default::default();
    }

    /// How Redis is for clients' connections. Where it is mirrored or follows, whoever watches it says so.
    pub fn note_lanes(&self, condition: Condition, why: &str) {
        if self.strategy() == Mode::RedisOnly {
            self.redis.note(Witness::Work, condition, why);
        }
    }

    /// Notes whether PostgreSQL is there; true when that is news.
    pub fn set_postgres(&self, up: bool) -> bool {
        self.postgres_up.swap(up, Ordering::Relaxed) != up
    }

    /// Why the effective mode is not the strategy, for people; empty when it is.
    pub fn mode_reason(&self) -> String {
        let mode = self.mode();
        let (lead, why) = self.lead();
        match lead {
            _ if mode == self.strategy().as_str() => String::new(),
            Lead::Leader => why,
            _ => {
                let ill = [&self.redis, &self.postgres].map(Backend::complaint);
                let ill: Vec<String> = ill.into_iter().flatten().collect();
                if ill.is_empty() { why } else { ill.join("; ") }
            }
        }
    }

    /// The effective mode: what the configured strategy has come to with the backends as they are.
    pub fn mode(&self) -> &'static str {
        let strategy = self.strategy();
        let mirror_on = strategy.has_mirror();
        let redis = self.redis_up.load(Ordering::Relaxed);
        let postgres = self.postgres_up.load(Ordering::Relaxed);
        if self.lead().0 == Lead::Leader {
            return "forwarding";
        }
        if strategy.is_led_by_postgres() {
            return match (postgres, self.serves()) {
                (true, _) => strategy.as_str(),
                (false, true) => "reads_only",
                (false, false) => UNAVAILABLE,
            };
        }
        if mirror_on && self.lead().0 == Lead::Postgres {
            return if postgres { Mode::PostgresOnly.as_str() } else { UNAVAILABLE };
        }
        match (mirror_on, redis, postgres) {
            (_, false, _) => UNAVAILABLE,
            (true, true, false) => Mode::RedisOnly.as_str(),
            _ => strategy.as_str(),
        }
    }
}
