//! Another proxy leads, and either Redis is gone or PostgreSQL answers in its place: who goes to Redis here would pass
//! the leader by.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::probe::Health;
use super::{Failover, PartError, Stage, TICK};
use crate::store::{Store, StoreError};
use crate::strategy::Lead;
use crate::tenure::Standing;
use crate::upstream::Leave;

/// What the others call a leader whose clients Redis answers, and one whose clients PostgreSQL answers.
pub(super) const REDIS: &str = "redis";
pub(super) const POSTGRES: &str = "postgres";

impl Failover {
    /// True when another proxy leads, and has taken over from Redis.
    pub(super) fn is_passed_by(&self) -> bool {
        matches!(self.tenure.standing(), Standing::Standby(held) if held.lead == POSTGRES)
    }

    /// Until Redis leads again, or this proxy does.
    pub(super) async fn apart(
        &self,
        health: watch::Receiver<Health>,
        over: &CancellationToken,
    ) -> Result<Option<Stage>, PartError> {
        self.presence.clear();
        self.gate.open();
        self.route.set_patient(true);
        let mut standing = self.tenure.watch();
        loop {
            let well = *health.borrow() == Health::Well;
            match standing.borrow_and_update().clone() {
                Standing::Standby(held) => {
                    let why = format!("{} leads", held.holder.name);
                    self.status.set_lead(Lead::Nobody, &why);
                    if well && held.lead == REDIS {
                        return self.back_to_redis(false).await.map(Some);
                    }
                }
                Standing::Leader(_) => match self.has_taken_over().await {
                    Ok(true) => return Ok(Some(Stage::Local(self.local()?))),
                    Ok(false) if well => return self.back_to_redis(true).await.map(Some),
                    Ok(false) => return Ok(Some(Stage::Local(self.local()?))),
                    Err(error) => tracing::debug!(%error, "PostgreSQL does not say who leads"),
                },
                Standing::Starting | Standing::Away(_) => {}
            }
            tokio::select! {
                () = over.cancelled() => return Ok(None),
                () = tokio::time::sleep(TICK) => {}
                _ = standing.changed() => {}
            }
        }
    }

    async fn back_to_redis(&self, leads: bool) -> Result<Stage, PartError> {
        self.leave(Leave::Drained).await;
        self.to_redis(leads)
    }

    async fn has_taken_over(&self) -> Result<bool, StoreError> {
        Store::connect(&self.config.postgres).await?.has_taken_over().await
    }

    /// Waits until it is known whether another proxy leads, for a short while.
    pub(super) async fn outset(&self) {
        let mut standing = self.tenure.watch();
        let known = standing.wait_for(|standing| match standing {
            Standing::Starting => false,
            // It is said right after the lease is taken.
            Standing::Standby(held) => !held.lead.is_empty(),
            Standing::Leader(_) | Standing::Away(_) => true,
        });
        let _ = tokio::time::timeout(super::OUTSET, known).await;
    }
}
