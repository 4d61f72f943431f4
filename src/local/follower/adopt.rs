//! How PostgreSQL comes to lead. What Redis has is taken over first, when Redis led until now or nobody did.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Follower, Role};
use crate::config::{Ack, Config, Mode};
use crate::mirror::{Mirror, MirrorError, Stop};
use crate::store::{Position, Store, StoreError};
use crate::strategy::{CommitGate, MirrorState, Presence, Status};
use crate::tenure::Tenure;
use crate::upstream::Connector;

/// How often the mirror is asked whether it is there.
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis cannot be taken over: {0}")]
    Mirror(#[from] MirrorError),
}

impl Follower {
    /// Takes the lead for PostgreSQL. Waits for Redis when it has to be taken over.
    pub async fn lead(
        &self,
        store: &Store,
        tenure: &Arc<Tenure>,
        config: &Config,
        redis: &Connector,
    ) -> Result<(), LeadError> {
        let position = store.position().await?;
        if self.role == Role::Failover {
            store.take_over(false).await?;
            self.debts.set(store.debt().await?);
            return Ok(());
        }
        let follower = position.as_ref().and_then(Position::follower);
        if let Some(run_id) = follower {
            self.begin(store.epoch(), run_id);
        } else {
            while !self.connected.get() {
                self.progress.notified().await;
            }
            let run_id = self.run_id.borrow().clone();
            adopt(tenure, config, redis).await?;
            store.position().await?;
            self.begin(store.epoch(), Some(&run_id));
        }
        // Should this process be killed, nobody knows what has reached Redis.
        Ok(store.lead(None).await?)
    }
}

/// Mirrors Redis until PostgreSQL has everything. Nobody may write to Redis meanwhile; ends only
/// when it is done.
async fn adopt(
    tenure: &Arc<Tenure>,
    config: &Config,
    redis: &Connector,
) -> Result<(), MirrorError> {
    tracing::info!(redis = redis.address(), "PostgreSQL takes over what Redis has");
    let mut config = config.clone();
    // From here on everything is in PostgreSQL.
    config.family.iter_mut().for_each(|family| family.mirror = true);
    let status = Arc::new(Status::new(Mode::CacheFirst, Ack::Redis));
    let mirror = Mirror::new(
        Arc::new(config),
        redis,
        CommitGate::new("adoption"),
        Arc::clone(tenure),
        Arc::clone(&status),
        Arc::new(Presence::new()),
    )?;
    let done = CancellationToken::new();
    let running = tokio::task::spawn_local(mirror.run(Stop::new(done.clone())));
    let _ends_with_us = done.clone().drop_guard();
    while status.mirror.state() != MirrorState::Streaming || status.mirror.lag_bytes() > 0 {
        tokio::time::sleep(TICK).await;
    }
    done.cancel();
    // A panic has been logged.
    let _ = running.await;
    tracing::info!("PostgreSQL has what Redis has");
    Ok(())
}
