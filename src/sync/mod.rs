//! The operator's work on data: comparing Redis and PostgreSQL, bringing one up to the other, dropping
//! copies. All of it runs as jobs beside the traffic of clients.
//!
//! Both sides are read page by page. What differs is looked at again at a place in the replication
//! stream ([`crate::strategy::Inspections`]), where both sides are seen at the same moment of Redis's
//! history; only what differs there is a difference.

mod background;
mod check;
mod clear;
mod compare;
mod copy;
mod error;
mod idle;
mod jobs;
mod large;
mod mark;
mod pace;
mod put;
mod redis_side;
mod report;
mod walk;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::Value;

pub use background::Checks;
pub use copy::{CopyOptions, Target};
pub use error::SyncError;
pub use jobs::{Busy, Class, Job, Jobs, Outcome, Place};
pub use report::Totals;

use crate::config::{Config, Mode};
use crate::engine::{Db, glob};
use crate::store::Store;
use crate::strategy::{CommitGate, Families, MirrorState, Presence, Role, Status};
use crate::upstream::{Connector, SideManager};
use redis_side::RedisSide;

/// What nobody asks for: checks, and copies that leave Redis unread. Runs until it is dropped.
pub async fn serve(syncer: Arc<Syncer>) {
    tokio::join!(background::serve(Arc::clone(&syncer)), idle::serve(syncer));
}

/// A key and the database it is in.
type Name = (Db, Bytes);

/// Keys looked at in one step.
const PAGE: usize = 512;

/// Which keys a job deals with, and how fast.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Redis glob; `None`: all keys.
    pub pattern: Option<String>,
    /// Keys per second; 0: as fast as it goes.
    pub rate: u64,
}

/// What a check is to look at.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    pub scope: Scope,
    /// How far expiries may be apart, in ms.
    pub tolerance_ms: u64,
    /// Differences that are told in full.
    pub limit: usize,
    /// Nobody asks for it: it is left out where it would disturb.
    pub considerate: bool,
}

/// What the jobs work on.
pub struct Syncer {
    config: Arc<Config>,
    families: Families,
    status: Arc<Status>,
    gate: Arc<CommitGate>,
    presence: Arc<Presence>,
    side: SideManager,
    pub jobs: Arc<Jobs>,
    pub checks: Checks,
}

impl Syncer {
    pub fn new(
        config: Arc<Config>,
        connector: &Connector,
        status: Arc<Status>,
        gate: Arc<CommitGate>,
        presence: Arc<Presence>,
        jobs: Arc<Jobs>,
    ) -> Syncer {
        Syncer {
            families: Families::new(config.family.clone()),
            side: SideManager::new(connector.clone()),
            config,
            status,
            gate,
            presence,
            jobs,
            checks: Checks::default(),
        }
    }

    /// Looks for differences; the job's result is the report.
    pub async fn check(&self, options: CheckOptions, job: &Job) -> Result<Value, SyncError> {
        let all = options.scope.pattern.is_none();
        let result = check::run(self, options, job).await;
        match &result {
            Ok(report) if all => self.checks.record(report.totals()),
            Err(error) if all => self.checks.record_failure(error),
            _ => {}
        }
        Ok(result?.answer())
    }

    /// Drops copies from Redis that PostgreSQL has.
    pub async fn clear(&self, scope: Scope, job: &Job) -> Result<Value, SyncError> {
        clear::run(self, scope, job).await
    }

    /// Brings one side up to the other; the job's result says what was done.
    pub async fn copy(&self, options: CopyOptions, job: &Job) -> Result<Value, SyncError> {
        copy::run(self, options, job).await
    }

    /// So many keys have been brought back to Redis.
    fn restored(&self, keys: u64) {
        self.status.mirror.restored.fetch_add(keys, Ordering::Relaxed);
    }

    /// Keys whose time is over: Redis, which lacks them, will never say so to PostgreSQL, but whoever misses
    /// them has it noticed.
    async fn forget_expired(&self, names: Vec<Name>) -> Result<(), SyncError> {
        for some in names.chunk_by(|(a, _), (b, _)| a == b) {
            let keys = some.iter().map(|(_, key)| key.clone()).collect();
            let recalled = self.presence.recall(some[0].0, keys).await;
            recalled.map_err(|error| SyncError::Mirror(error.to_string()))?;
        }
        Ok(())
    }

    /// Whether there are two sides that one can compare, and the mirror between them follows.
    fn ready(&self) -> Result<(), SyncError> {
        if let (Role::Standby, leader) = self.status.role() {
            return Err(SyncError::StandingBy(format!("{leader} leads: it does this")));
        }
        let why = match self.status.strategy() {
            Mode::DualWrite | Mode::CacheFirst => return self.mirror_follows(),
            Mode::RedisOnly => {
                "in redis_only nothing is kept in PostgreSQL: switch to dual_write or cache_first, whose mirror brings PostgreSQL up to Redis"
            }
            Mode::PostgresOnly => {
                "in postgres_only there is no Redis beside PostgreSQL: there is nothing to compare or to copy"
            }
            Mode::DatabaseFirst => {
                "in database_first PostgreSQL leads and fills Redis by itself; `GET /admin/database/status` says how far. Comparing and copying is for strategies that Redis leads: dual_write and cache_first"
            }
        };
        Err(SyncError::NotApplicable(why.into()))
    }

    fn mirror_follows(&self) -> Result<(), SyncError> {
        let mirror = &self.status.mirror;
        let state = mirror.state();
        let why = mirror.reason();
        match state {
            MirrorState::Streaming => Ok(()),
            MirrorState::Spooling => Err(SyncError::Postgres(format!("PostgreSQL is away: {why}"))),
            MirrorState::Connecting => Err(SyncError::Redis(format!("Redis is away: {why}"))),
            MirrorState::Off => Err(SyncError::Redis(
                "Redis is away, or is being brought up to PostgreSQL: nothing follows it now"
                    .into(),
            )),
            MirrorState::Syncing => Err(SyncError::Mirror(
                "the mirror takes over a snapshot; try again when `tandem status` says streaming"
                    .into(),
            )),
        }
    }

    async fn redis(&self) -> Result<RedisSide, SyncError> {
        RedisSide::connect(&self.side).await
    }

    async fn postgres(&self) -> Result<Store, SyncError> {
        Ok(Store::connect(&self.config.postgres).await?)
    }
}

impl Scope {
    fn takes(&self, key: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern.as_bytes(), key))
    }
}
