//! Dropping copies from Redis. A key goes only where PostgreSQL has the same value, which the transaction
//! that drops it makes sure of; the mirror tells it from a client's delete.

use std::time::Duration;

use serde_json::{Value, json};

use super::check::ATTEMPTS;
use super::compare::difference;
use super::mark::needs;
use super::pace::Pace;
use super::redis_side::{Change, RedisSide};
use super::{Job, Name, PAGE, Scope, SyncError, Syncer};
use crate::engine::Part;
use crate::mirror::declare_partial;
use crate::store::{Store, StoreError};
use crate::strategy::{Gap, Inspections};

/// Copies dropped together.
const TOGETHER: usize = 128;
/// Commands that were under way when Redis was declared to be partial have reached it by then.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Other proxies know it by then, or serve with care because they have not heard of this one for long.
const OTHERS_KNOW: Duration = Duration::from_secs(5);

pub async fn run(syncer: &Syncer, scope: Scope, job: &Job) -> Result<Value, SyncError> {
    syncer.ready()?;
    let mut clear = Clear::new(syncer).await?;
    clear.declare().await;
    clear.walk(&scope, job).await?;
    let Counts { seen, cleared, only_in_redis, different, busy, not_mirrored } = clear.counts;
    let kept = only_in_redis + different + busy;
    let mut message = format!("{cleared} of {seen} copies dropped from Redis");
    if kept > 0 {
        message += &format!(
            ", {kept} kept: {only_in_redis} that Redis alone has, {different} that PostgreSQL has otherwise, {busy} that clients were writing"
        );
    }
    Ok(json!({
        "cleared": cleared,
        "total": seen,
        "kept": { "onlyInRedis": only_in_redis, "different": different, "busy": busy },
        "notMirrored": not_mirrored,
        "message": message,
    }))
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    seen: u64,
    pub cleared: u64,
    only_in_redis: u64,
    different: u64,
    busy: u64,
    not_mirrored: u64,
}

pub struct Clear<'a> {
    syncer: &'a Syncer,
    pub redis: RedisSide,
    store: Store,
    pub counts: Counts,
}

impl<'a> Clear<'a> {
    pub async fn new(syncer: &'a Syncer) -> Result<Clear<'a>, SyncError> {
        let (redis, store) = (syncer.redis().await?, syncer.postgres().await?);
        Ok(Clear { syncer, redis, store, counts: Counts::default() })
    }

    /// Has clients served with care, before the first copy is missed.
    pub async fn declare(&self) {
        if declare_partial(&self.syncer.config, &self.syncer.presence, Gap::Lacking) {
            let others = self.syncer.presence.has_others();
            tokio::time::sleep(if others { OTHERS_KNOW } else { UNDER_WAY }).await;
        }
    }

    async fn walk(&mut self, scope: &Scope, job: &Job) -> Result<(), SyncError> {
        let mut pace = Pace::new(scope.rate);
        let databases = self.redis.databases().await?;
        job.begin("redis", databases.iter().map(|(_, keys)| keys).sum());
        for (db, _) in databases {
            let mut cursor = 0;
            loop {
                let pattern = scope.pattern.as_ref().map(|pattern| pattern.as_bytes());
                let (next, keys) = self.redis.scan(db, cursor, pattern, PAGE).await?;
                let seen = keys.len();
                let mut names: Vec<Name> = keys.into_iter().map(|key| (db, key)).collect();
                names.retain(|(_, key)| self.syncer.families.mirrors(key));
                self.counts.not_mirrored += (seen - names.len()) as u64;
                self.counts.seen += names.len() as u64;
                self.clear(names).await?;
                job.advance(seen as u64);
                job.note(json!({ "cleared": self.counts.cleared, "seen": self.counts.seen }));
                pace.after(seen).await;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Keys that PostgreSQL lacks are not even read.
    pub async fn clear(&mut self, names: Vec<Name>) -> Result<(), SyncError> {
        let sizes = self.store.sizes(&names).await?;
        let mut group = Vec::new();
        let mut room = super::walk::Room::default();
        for (name, size) in names.into_iter().zip(sizes) {
            let Some(size) = size else {
                self.counts.only_in_redis += 1;
                continue;
            };
            if group.len() >= TOGETHER || !room.takes(size) {
                self.drop_copies(std::mem::take(&mut group)).await?;
                room = super::walk::Room::of(size);
            }
            group.push(name);
        }
        self.drop_copies(group).await
    }

    async fn drop_copies(&mut self, names: Vec<Name>) -> Result<(), SyncError> {
        let mut left = names;
        let mut at_once = left.len();
        for _ in 0..ATTEMPTS {
            let mut again = Vec::new();
            for some in left.chunks(at_once.max(1)) {
                if !self.drop_some(some).await? {
                    again.extend_from_slice(some);
                }
            }
            left = again;
            if left.is_empty() {
                return Ok(());
            }
            // Somebody writes one of them; fewer at once keep the others out of its way.
            at_once /= 4;
        }
        self.counts.busy += left.len() as u64;
        Ok(())
    }

    /// False: it has to be tried again.
    async fn drop_some(&mut self, names: &[Name]) -> Result<bool, SyncError> {
        let syncs = self.syncer.full_syncs();
        let (number, answered) = self.syncer.presence.inspections.ask(Vec::new(), None);
        let message = Inspections::message(number);
        let channel = self.syncer.gate.channel();
        let states = self.redis.watch_at(names, (channel, &message)).await?;
        if self.syncer.answered(answered, syncs).await?.is_none() {
            self.redis.unwatch().await?;
            return Ok(false);
        }
        // PostgreSQL has all writes up to the place. Later ones to these keys would fail the transaction.
        let loaded = match self.store.load(&needs(names, Part::All)).await {
            Err(StoreError::Corrupt(_)) => {
                self.redis.unwatch().await?;
                return Ok(false);
            }
            loaded => loaded?,
        };
        let (mut changes, mut only_in_redis, mut different) = (Vec::new(), 0, 0);
        for ((name, state), loaded) in names.iter().zip(states).zip(loaded) {
            match (state, loaded.found) {
                (None, _) => {}
                (Some(_), None) => only_in_redis += 1,
                (Some((object, at)), Some(found)) => {
                    let tolerance_ms = self.syncer.config.sync.ttl_tolerance_ms;
                    match difference(&object, at, &found, tolerance_ms) {
                        None => changes.push((name.clone(), Change::Delete)),
                        Some(_) => different += 1,
                    }
                }
            }
        }
        if changes.is_empty() {
            self.redis.unwatch().await?;
        } else {
            let Some(errors) = self.redis.change(channel, &changes).await? else {
                return Ok(false);
            };
            self.counts.cleared += (changes.len() as u64).saturating_sub(errors);
            self.counts.busy += errors;
        }
        self.counts.only_in_redis += only_in_redis;
        self.counts.different += different;
        Ok(true)
    }
}
