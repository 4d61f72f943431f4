//! Both sides at one place in the replication stream.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::redis_side::RedisSide;
use super::{Name, SyncError, Syncer};
use crate::engine::{Loaded, Need, Part};
use crate::strategy::{Inspected, Inspections, MirrorState, RedisState};

/// How long the mirror may take to reach a place, unless it takes over a snapshot.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether there is anything to wait for.
const LOOK: Duration = Duration::from_millis(20);

/// What both sides have of a key.
pub struct Both {
    pub redis: RedisState,
    /// `None`: its value waits to be read again from Redis.
    pub postgres: Option<Loaded>,
}

impl Syncer {
    /// What both sides have of these keys at one place; `None`: it was lost in a resync, ask again.
    pub async fn both(
        &self,
        redis: &mut RedisSide,
        names: &[Name],
    ) -> Result<Option<Vec<Both>>, SyncError> {
        let syncs = self.full_syncs();
        let (number, answered) = self.presence.inspections.ask(needs(names, Part::All), None);
        let message = Inspections::message(number);
        let states = redis.read_at(names, (self.gate.channel(), &message)).await?;
        let Some(seen) = self.answered(answered, syncs).await? else { return Ok(None) };
        let both = states.into_iter().zip(seen);
        Ok(Some(both.map(|(redis, postgres)| Both { redis, postgres }).collect()))
    }

    /// Which of the keys are there, in Redis and in PostgreSQL; as in [`Syncer::both`].
    pub async fn presence_of(
        &self,
        redis: &mut RedisSide,
        names: &[Name],
    ) -> Result<Option<Vec<(bool, Option<Loaded>)>>, SyncError> {
        let syncs = self.full_syncs();
        let (number, answered) = self.presence.inspections.ask(needs(names, Part::Meta), None);
        let message = Inspections::message(number);
        let there = redis.exist_at(names, (self.gate.channel(), &message)).await?;
        let Some(seen) = self.answered(answered, syncs).await? else { return Ok(None) };
        Ok(Some(there.into_iter().zip(seen).collect()))
    }

    pub(super) fn full_syncs(&self) -> u64 {
        self.status.mirror.full_syncs.load(Ordering::Relaxed)
    }

    /// Waits for the mirror; `None`: a snapshot has begun since `syncs`, of which the place may be a part.
    pub(super) async fn answered(
        &self,
        mut answered: oneshot::Receiver<Inspected>,
        syncs: u64,
    ) -> Result<Option<Inspected>, SyncError> {
        let mut waited = Duration::ZERO;
        loop {
            match tokio::time::timeout(LOOK, &mut answered).await {
                Ok(Ok(seen)) => return Ok(Some(seen)),
                Ok(Err(_)) => {
                    self.mirror_follows()?;
                    return Err(SyncError::Mirror(
                        "the mirror could not commit up to the place that was looked at; the log says why".into(),
                    ));
                }
                Err(_) => match self.status.mirror.state() {
                    MirrorState::Syncing => {}
                    MirrorState::Streaming if self.full_syncs() != syncs => return Ok(None),
                    MirrorState::Streaming if waited >= PATIENCE => {
                        return Err(SyncError::Mirror(format!(
                            "the mirror has not reached the place that was looked at within {PATIENCE:?}"
                        )));
                    }
                    MirrorState::Streaming => waited += LOOK,
                    _ => self.mirror_follows()?,
                },
            }
        }
    }
}

pub fn needs(names: &[Name], part: Part) -> Vec<Need> {
    let need = |(db, key): &Name| Need { db: *db, key: key.clone(), part: part.clone() };
    names.iter().map(need).collect()
}
