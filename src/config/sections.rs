use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The whole configuration; one field per section of `proxy.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: Listen,
    pub limits: Limits,
    pub redis: Redis,
    pub postgres: Postgres,
    pub strategy: Strategy,
    pub mirror: Mirror,
    pub sync: Sync,
    pub admin: Admin,
    pub log: Log,
    pub traces: Traces,
    pub family: Vec<Family>,
    #[serde(skip)]
    pub(super) live: super::reload::Live,
}

/// Where clients connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// `host:port`.
    pub address: String,
    /// Where other proxies reach this one, `host:port` or `tls://host:port`; empty: `address`, and if that is a wildcard, the address that this host
    /// shows PostgreSQL.
    pub advertise: String,
    /// Path of an additional unix socket; empty for none.
    pub unix_socket: String,
    /// `host:port` that speaks TLS; empty: with a certificate, `address` does.
    pub tls_address: String,
    /// PEM files; empty for no TLS.
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    /// Authorities of which clients need a certificate; empty: they need none.
    pub tls_client_ca: PathBuf,
    pub max_clients: usize,
    /// Password asked of clients; empty: the password in `redis.url` is asked of them.
    pub password: String,
    /// Worker threads; 0: one per two cores.
    pub workers: usize,
    /// How long clients may take at the end to receive what is on its way.
    pub drain_timeout_ms: u64,
}

/// What one client may make the proxy do. Sizes in bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub max_depth: usize,
    pub max_array: usize,
    pub max_bulk: usize,
    pub query_buffer: usize,
    pub output_buffer: usize,
    /// Longest inline command.
    pub max_inline: usize,
    pub unauthenticated_array: usize,
    pub unauthenticated_bulk: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://[user:password@]host:port/db`, `rediss://…` for TLS, `unix:///path?db=0`.
    pub url: String,
    pub connect_timeout_ms: u64,
    /// A Redis that is silent for so long counts as gone.
    pub hang_timeout_ms: u64,
    /// PEM file of the certificate authorities to trust; empty: the system's.
    pub tls_ca: PathBuf,
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    /// False accepts any certificate.
    pub tls_verify: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    pub url: String,
    pub schema: String,
    pub pool_max: u32,
    pub pool_min: u32,
    pub pool_idle_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub query_timeout_ms: u64,
    /// TLS with full verification; the URL's `sslmode` can ask for TLS too.
    pub tls: bool,
    pub tls_ca: PathBuf,
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    pub tls_verify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[serde(alias = "dual-write")]
    DualWrite,
    #[serde(alias = "cache-first")]
    CacheFirst,
    #[serde(alias = "database-first")]
    DatabaseFirst,
    #[serde(alias = "redis-only")]
    RedisOnly,
    #[serde(alias = "postgres-only")]
    PostgresOnly,
}

impl Mode {
    pub const ALL: [Mode; 5] = [
        Mode::DualWrite,
        Mode::CacheFirst,
        Mode::DatabaseFirst,
        Mode::RedisOnly,
        Mode::PostgresOnly,
    ];

    /// Takes `redis_only` and `redis-only`, in whatever case.
    pub fn parse(name: &str) -> Option<Mode> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        Mode::ALL.into_iter().find(|mode| mode.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Mode::DualWrite => "dual_write",
            Mode::CacheFirst => "cache_first",
            Mode::DatabaseFirst => "database_first",
            Mode::RedisOnly => "redis_only",
            Mode::PostgresOnly => "postgres_only",
        }
    }

    /// True when PostgreSQL follows Redis's replication stream.
    pub fn has_mirror(self) -> bool {
        matches!(self, Mode::DualWrite | Mode::CacheFirst)
    }

    /// True when the engine answers from PostgreSQL.
    pub fn is_led_by_postgres(self) -> bool {
        matches!(self, Mode::DatabaseFirst | Mode::PostgresOnly)
    }
}

/// For `dual_write`: when a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// When PostgreSQL has committed it.
    Postgres,
    /// When Redis has it.
    Redis,
}

/// What becomes of writes while PostgreSQL cannot commit them, with `ack = "postgres"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    /// Redis's acknowledgement has to do.
    Degrade,
    /// They are refused before they reach Redis.
    Refuse,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    pub mode: Mode,
    pub ack: Ack,
    /// How long a held write reply waits before `ack = "postgres"` degrades to Redis's acknowledgement.
    pub ack_timeout_ms: u64,
    pub on_unavailable: OnUnavailable,
}

/// What happens when the spool has reached `spool_max_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSpoolFull {
    /// Stop reading the stream; Redis's own backlog holds on as long as it can.
    Backpressure,
    /// Give the spool up and take a full resync when PostgreSQL is back.
    Resync,
}

/// What a FLUSHALL or FLUSHDB does that did not come through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flush {
    /// PostgreSQL is flushed too.
    Apply,
    /// PostgreSQL keeps its rows, and Redis is filled from them again.
    Ignore,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// Where the stream is kept that PostgreSQL could not take yet.
    pub spool_dir: PathBuf,
    pub spool_max_bytes: u64,
    pub on_spool_full: OnSpoolFull,
    /// What a flush does that was sent to Redis past the proxies.
    pub flush: Flush,
    /// Bound of the mirror's cache of values, in bytes.
    pub cache_bytes: usize,
    /// Most commands of the stream in one PostgreSQL transaction (a source transaction stays whole).
    pub batch_commands: usize,
    /// Most bytes of the stream in one PostgreSQL transaction.
    pub batch_bytes: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// A consistency check when the mirror follows for the first time.
    pub on_startup: bool,
    /// Between two consistency checks; 0: none.
    pub interval_ms: u64,
    /// Keys that a check or a synchronisation looks at per second; 0: as fast as it goes.
    pub keys_per_second: u64,
    /// How far expiries on both sides may be apart.
    pub ttl_tolerance_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    pub address: String,
    pub token: String,
    /// PEM files; empty for plain HTTP.
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,tandem::mirror=debug`.
    pub level: String,
    pub format: LogFormat,
}

/// Spans for an OpenTelemetry collector.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// URL of a collector that takes OTLP over HTTP; empty: no traces.
    pub endpoint: String,
    /// Of the commands that are timed, the share that gets a span: 0 to 1.
    pub sample_ratio: f64,
    pub service_name: String,
    /// PEM file of the authorities to trust; empty: the system's.
    pub tls_ca: PathBuf,
}

/// One `[[family]]` rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Redis glob over the key.
    #[serde(rename = "match")]
    pub pattern: String,
    #[serde(default = "yes")]
    pub mirror: bool,
    /// Seconds a copy may stay in Redis unread; absent: it stays.
    #[serde(default)]
    pub cache_ttl_s: Option<u64>,
    /// A SQL view over this family.
    #[serde(default)]
    pub view: Option<super::View>,
}

fn yes() -> bool {
    true
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            address: "127.0.0.1:6380".into(),
            advertise: String::new(),
            unix_socket: String::new(),
            tls_address: String::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            tls_client_ca: PathBuf::new(),
            max_clients: 10_000,
            password: String::new(),
            workers: 0,
            drain_timeout_ms: 5_000,
        }
    }
}

/// The TLS keys of a section that listens.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    pub section: &'static str,
    /// The certificate with those between it and the authority.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Authorities of which a client needs a certificate; empty: clients need none.
    pub client_ca: PathBuf,
}

impl Listen {
    /// The files for TLS, where it is wanted.
    pub fn tls(&self) -> Option<ServerFiles> {
        let cert = Some(&self.tls_cert).filter(|cert| !cert.as_os_str().is_empty())?;
        Some(ServerFiles {
            section: "listen",
            cert: cert.clone(),
            key: self.tls_key.clone(),
            client_ca: self.tls_client_ca.clone(),
        })
    }
}

impl Admin {
    /// The files for TLS, where it is wanted.
    pub fn tls(&self) -> Option<ServerFiles> {
        let cert = Some(&self.tls_cert).filter(|cert| !cert.as_os_str().is_empty())?;
        Some(ServerFiles {
            section: "admin",
            cert: cert.clone(),
            key: self.tls_key.clone(),
            client_ca: PathBuf::new(),
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_depth: 32,
            max_array: 1024 * 1024,
            max_bulk: 512 * 1024 * 1024,
            query_buffer: 1024 * 1024 * 1024,
            output_buffer: 1024 * 1024 * 1024,
            max_inline: 64 * 1024,
            unauthenticated_array: 10,
            unauthenticated_bulk: 16 * 1024,
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            url: "redis://127.0.0.1:6379/0".into(),
            connect_timeout_ms: 5_000,
            hang_timeout_ms: 1_000,
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            tls_verify: true,
        }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Postgres {
            url: "postgres://postgres@127.0.0.1:5432/claude_relay".into(),
            schema: "tandem".into(),
            pool_max: 20,
            pool_min: 0,
            pool_idle_timeout_ms: 30_000,
            connect_timeout_ms: 5_000,
            query_timeout_ms: 30_000,
            tls: false,
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            tls_verify: true,
        }
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Strategy {
            mode: Mode::DualWrite,
            ack: Ack::Postgres,
            ack_timeout_ms: 5_000,
            on_unavailable: OnUnavailable::Degrade,
        }
    }
}

impl Default for Mirror {
    fn default() -> Self {
        Mirror {
            spool_dir: "/var/lib/tandem".into(),
            spool_max_bytes: 4 << 30,
            on_spool_full: OnSpoolFull::Resync,
            flush: Flush::Apply,
            cache_bytes: 64 << 20,
            batch_commands: 50_000,
            batch_bytes: 16 << 20,
        }
    }
}

impl Default for Sync {
    fn default() -> Self {
        Sync {
            on_startup: true,
            interval_ms: 3_600_000,
            keys_per_second: 50_000,
            ttl_tolerance_ms: 1_000,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            address: "127.0.0.1:9380".into(),
            token: String::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".into(), format: LogFormat::Text }
    }
}

impl Traces {
    /// Where spans go, if anywhere; without a path in `endpoint`, to the usual one.
    pub fn url(&self) -> Option<String> {
        let mut url = url::Url::parse(&self.endpoint).ok()?;
        if url.path() == "/" {
            url.set_path("v1/traces");
        }
        Some(url.into())
    }
}

impl Default for Traces {
    fn default() -> Self {
        Traces {
            endpoint: String::new(),
            sample_ratio: 0.01,
            service_name: "tandem".into(),
            tls_ca: PathBuf::new(),
        }
    }
}
