//! Another proxy leads, and either Redis is gone or PostgreSQL answers in its place: who goes to Redis here would pass
//! the leader by. What clients ask is handed on to it.

use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::probe::Health;
use super::requests::Requests;
use super::{Failover, Next, PartError, Stage, TICK, peer_of, who_leads};
use crate::store::{Store, StoreError};
use crate::strategy::Lead;
use crate::tenure::Standing;
use crate::upstream::{Leave, To};

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
        requests: &mut Requests,
        over: &CancellationToken,
    ) -> Result<Next, PartError> {
        self.presence.clear();
        self.route.set_patient(true);
        let mut standing = self.tenure.watch();
        let mut lead = String::new();
        loop {
            let well = *health.borrow() == Health::Well;
            match standing.borrow_and_update().clone() {
                now @ Standing::Standby(_) => {
                    if let Standing::Standby(held) = &now {
                        lead.clone_from(&held.lead);
                    }
                    if well && lead == REDIS {
                        return self.back_to_redis(false).await.map(Next::Stage);
                    }
                    self.hand_on(&now).await;
                }
                Standing::Leader(_) => match self.lead_instead().await {
                    Ok(true) => return self.stand_in(),
                    Ok(false) if well => return self.back_to_redis(true).await.map(Next::Stage),
                    Ok(false) => return self.stand_in(),
                    Err(error) => tracing::debug!(%error, "PostgreSQL does not say who leads"),
                },
                // PostgreSQL is away: whoever led may still answer.
                Standing::Starting | Standing::Away(..) if well && lead == REDIS => {
                    return self.back_to_redis(false).await.map(Next::Stage);
                }
                Standing::Starting | Standing::Away(..) => {}
            }
            tokio::select! {
                () = over.cancelled() => return Ok(Next::Over),
                request = requests.next() => return Ok(Next::Asked(Stage::Apart, request)),
                () = tokio::time::sleep(TICK) => {}
                _ = standing.changed() => {}
            }
        }
    }

    async fn back_to_redis(&self, leads: bool) -> Result<Stage, PartError> {
        self.leave(Leave::Drained).await;
        self.to_redis(leads)
    }

    /// Clients are served by the proxy that leads.
    async fn hand_on(&self, standing: &Standing) {
        let Some(peer) = peer_of(standing) else { return };
        if self.route.peer().as_ref() == Some(&peer) {
            return;
        }
        self.leave(Leave::Cut).await;
        self.status.set_lead(Lead::Leader, &who_leads(standing));
        self.status.postgres_up.store(true, Ordering::Relaxed);
        self.turn(To::Peer(peer));
    }

    /// The one that led is gone. True when PostgreSQL leads.
    async fn lead_instead(&self) -> Result<bool, StoreError> {
        self.leave(Leave::Cut).await;
        self.status.set_lead(Lead::Nobody, "the proxy that led is gone");
        self.has_taken_over().await
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
            Standing::Leader(_) | Standing::Away(..) => true,
        });
        let _ = tokio::time::timeout(super::OUTSET, known).await;
    }
}
