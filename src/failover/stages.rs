//! What happens while nobody asks for another strategy.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::apart::POSTGRES;
use super::parts::{PartError, RunningMirror};
use super::probe::Health;
use super::requests::Requests;
use super::{Back, Failover, Local, Next, Stage, TICK};
use crate::local::LocalState;
use crate::mirror::reach;
use crate::strategy::{Condition, Gap, Lead, MirrorState};
use crate::tenure::Standing;
use crate::upstream::{Leave, SideManager, To};

/// How long the replication link may take to notice that Redis is gone.
const LINK_PATIENCE: Duration = Duration::from_millis(100);
/// How long PostgreSQL may take to serve before clients are told.
const OPENING: Duration = Duration::from_secs(2);
/// How long giving the lead back may take.
const GIVING: Duration = Duration::from_secs(5);

impl Failover {
    /// Redis leads without a mirror.
    pub(super) async fn alone(&self, requests: &mut Requests, over: &CancellationToken) -> Next {
        self.presence.clear();
        self.gate.refuse(false);
        self.gate.open();
        self.route.set_patient(false);
        tokio::select! {
            () = over.cancelled() => Next::Over,
            request = requests.next() => Next::Asked(Stage::Alone, request),
        }
    }

    /// Redis leads, until it is gone.
    pub(super) async fn under_redis(
        &self,
        mut mirror: RunningMirror,
        health: watch::Receiver<Health>,
        requests: &mut Requests,
        over: &CancellationToken,
    ) -> Result<Next, PartError> {
        self.status.set_lead(Lead::Redis, "");
        let mut standing = self.tenure.watch();
        loop {
            let leads = match standing.borrow_and_update().clone() {
                Standing::Leader(_) => true,
                Standing::Standby(_) => false,
                Standing::Starting | Standing::Away(..) => mirror.leads,
            };
            if leads != mirror.leads {
                mirror.yielded().await;
                mirror = self.mirror(leads)?.start()?;
            }
            tokio::select! {
                () = over.cancelled() => {
                    mirror.stop_gently().await;
                    return Ok(Next::Over);
                }
                () = mirror.led.notified() => {
                    tracing::info!("PostgreSQL has taken over from Redis before, and leads until Redis has everything");
                    self.leave(Leave::Cut).await;
                    mirror.stop_at_once(over).await;
                    return self.stand_in();
                }
                request = requests.next() => {
                    return Ok(Next::Asked(Stage::Redis(mirror), request));
                }
                () = tokio::time::sleep(TICK) => {}
                _ = standing.changed() => continue,
            }
            if self.is_passed_by() {
                self.leave(Leave::Cut).await;
                mirror.stop_at_once(over).await;
                return Ok(Next::Stage(Stage::Apart));
            }
            let postgres = self.status.postgres_up.load(Ordering::Relaxed);
            self.route.set_patient(postgres);
            let Health::Gone(why) = health.borrow().clone() else { continue };
            let syncing = self.status.mirror.state() == MirrorState::Syncing;
            if !postgres || syncing || !self.status.mirror.synced.load(Ordering::Relaxed) {
                continue;
            }
            self.status.set_lead(Lead::Nobody, &why);
            if !mirror.leads {
                tracing::warn!(reason = why, "Redis is gone, and another proxy leads");
                self.leave(Leave::Cut).await;
                mirror.stop_at_once(over).await;
                return Ok(Next::Stage(Stage::Apart));
            }
            tracing::warn!(reason = why, "Redis is gone: PostgreSQL takes over");
            self.tenure.set_lead(POSTGRES);
            self.leave(Leave::Cut).await;
            // One that hangs has sent nothing for long.
            if self.status.redis.condition().0 != Condition::Silent {
                self.rest_of_link().await;
            }
            if mirror.stop_at_once(over).await {
                self.mark(true);
                return self.stand_in();
            }
            // PostgreSQL has gone too: the mirror goes on where it was.
            mirror = self.mirror(true)?.start()?;
            self.presence.set(Gap::Unknown, true);
            self.turn_to_redis();
            self.status.set_lead(Lead::Redis, "");
        }
    }

    pub(super) fn stand_in(&self) -> Result<Next, PartError> {
        let (local, back) = self.standing(false)?;
        Ok(Next::Stage(Stage::Standing(local, back)))
    }

    /// PostgreSQL leads, until Redis has everything.
    pub(super) async fn under_local(
        &self,
        local: Local,
        back: Back,
        health: watch::Receiver<Health>,
        requests: &mut Requests,
        over: &CancellationToken,
    ) -> Result<Next, PartError> {
        let state = local.server.state();
        self.status.set_lead(Lead::Postgres, &why(&health.borrow()));
        let mut opened = state.clone();
        // Clients wait that long at most.
        let _ = tokio::time::timeout(OPENING, opened.wait_for(|state| *state != LocalState::Opens))
            .await;
        self.route.set_patient(false);
        self.turn(To::Local(local.sender.clone()));
        loop {
            tokio::select! {
                () = over.cancelled() => {
                    local.server.stopped().await;
                    return Ok(Next::Over);
                }
                request = requests.next() => {
                    return Ok(Next::Asked(Stage::Standing(local, back), request));
                }
                () = tokio::time::sleep(TICK) => {}
            }
            if let Standing::Standby(_) = self.tenure.standing() {
                self.leave(Leave::Cut).await;
                local.server.stopped().await;
                return Ok(Next::Stage(Stage::Apart));
            }
            let healthy = back.tell(&health);
            let now = *state.borrow();
            let owes_nothing = now == (LocalState::Away { owes: false });
            if healthy && owes_nothing && self.has_all().await {
                tracing::info!("Redis is back and lacks nothing: it leads again");
                self.leave(Leave::Cut).await;
                local.server.stopped().await;
                return Ok(Next::Stage(self.to_redis(true)?));
            }
            if !*back.ready.borrow() || now != LocalState::Serves {
                continue;
            }
            self.status.set_lead(Lead::Nobody, "Redis is given the lead");
            if self.give_back(&local).await {
                local.server.stopped().await;
                return Ok(Next::Stage(self.to_redis(true)?));
            }
            self.status.set_lead(Lead::Postgres, "Redis did not take everything");
            self.turn(To::Local(local.sender.clone()));
        }
    }

    /// Has Redis, which has everything, lead again, and nobody ask anything meanwhile; false when that did not go
    /// well.
    pub(super) async fn give_back(&self, local: &Local) -> bool {
        self.leave(Leave::Drained).await;
        local.server.give_back();
        let mut given = local.server.state();
        let done = given.wait_for(|state| *state != LocalState::Serves);
        let _ = tokio::time::timeout(GIVING, done).await;
        *given.borrow() == LocalState::GaveBack
    }

    /// Whether Redis has everything that the mirror had received of it.
    async fn has_all(&self) -> bool {
        let mirror = &self.status.mirror;
        let (replid, offset) =
            (mirror.replid.read().clone(), mirror.received.load(Ordering::Relaxed));
        let look = async {
            let mut connection = SideManager::new(self.redis.clone()).connect().await.ok()?;
            reach(&mut connection, &replid).await.ok()?
        };
        let limit = Duration::from_millis(self.config.redis.hang_timeout_ms);
        let reached = tokio::time::timeout(limit, look).await.ok().flatten();
        !replid.is_empty() && reached.is_some_and(|reached| reached >= offset)
    }

    /// Redis, which has everything, leads, mirrored. Nobody else may serve any more.
    pub(super) fn to_redis(&self, leads: bool) -> Result<Stage, PartError> {
        self.mark(false);
        self.gate.open();
        let mirror = self.mirror(leads)?.start()?;
        self.turn_to_redis();
        Ok(Stage::Redis(mirror))
    }

    /// Lets the link read what Redis has sent before it went.
    async fn rest_of_link(&self) {
        let began = Instant::now();
        while self.status.mirror.state() == MirrorState::Streaming
            && began.elapsed() < LINK_PATIENCE
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Back {
    /// Tells the server how Redis is; true when it is well.
    pub(super) fn tell(&self, health: &watch::Receiver<Health>) -> bool {
        let healthy = *health.borrow() == Health::Well;
        self.well.send_if_modified(|well| std::mem::replace(well, healthy) != healthy);
        healthy
    }
}

fn why(health: &Health) -> String {
    match health {
        Health::Gone(why) => why.clone(),
        _ => String::new(),
    }
}
