//! The steps of which switches of the strategy are made. Clients wait in none of them for longer than a few seconds:
//! what takes long is done while whoever leads serves on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bb8_redis::redis;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::parts::{PartError, RunningMirror};
use super::requests::Done;
use super::{Back, Failover, Local, Stage, TICK};
use crate::config::Mode;
use crate::local::LocalState;
use crate::store::{Position, Store, StoreError};
use crate::strategy::{Following, MirrorState};
use crate::sync::SyncError;
use crate::tenure::Standing;
use crate::upstream::{Leave, To};

/// How long a backend may be silent before a switch that needs it is given up.
const AWAY: Duration = Duration::from_secs(3);
/// How long what is on its way may take while clients wait.
const LAST: Duration = Duration::from_secs(3);
/// What is sent to Redis in the moment in which clients wait, in bytes.
const ON_ITS_WAY: u64 = 4 << 20;
/// How often Redis is given the lead before a switch is given up.
const TRIES: u32 = 3;

/// Whoever asked has gone, or the process ends.
pub(super) struct Patience<'a> {
    pub answer: &'a mut oneshot::Sender<Result<Done, SyncError>>,
    pub over: &'a CancellationToken,
}

impl Patience<'_> {
    /// Waits a little; an error when the switch is to be given up.
    async fn tick(&mut self) -> Result<(), SyncError> {
        tokio::select! {
            () = self.answer.closed() => Err(SyncError::Cancelled),
            () = self.over.cancelled() => Err(SyncError::Cancelled),
            () = tokio::time::sleep(TICK) => Ok(()),
        }
    }
}

/// Says how long something has been so.
#[derive(Default)]
struct Since(Option<Instant>);

impl Since {
    /// True when it has been so for longer than `limit`.
    fn exceeds(&mut self, so: bool, limit: Duration) -> bool {
        match so {
            true => self.0.get_or_insert_with(Instant::now).elapsed() > limit,
            false => {
                self.0 = None;
                false
            }
        }
    }
}

impl Failover {
    /// Looks whether PostgreSQL is there; true when it led last, and Redis has never got what it has.
    pub(super) async fn postgres_led(&self) -> Result<bool, SyncError> {
        let look = async {
            let store = Store::connect(&self.config.postgres).await?;
            store.prepare(&self.config.family).await?;
            store.is_led_by_postgres().await
        };
        match tokio::time::timeout(AWAY, look).await {
            Ok(led) => Ok(led?),
            Err(_) => {
                Err(SyncError::Postgres(format!("PostgreSQL did not answer within {AWAY:?}")))
            }
        }
    }

    /// False when another proxy is known to lead.
    pub(super) fn leads(&self) -> bool {
        !matches!(self.tenure.standing(), Standing::Standby(_))
    }

    /// PostgreSQL serves through the proxy that has the lease.
    pub(super) fn may_lead(&self) -> Result<(), SyncError> {
        match self.tenure.standing() {
            Standing::Standby(held) => Err(SyncError::Refused(format!(
                "another proxy leads ({}), and PostgreSQL serves through one at a time: switch that one",
                held.holder.name
            ))),
            _ => Ok(()),
        }
    }

    /// Looks whether Redis is there and takes writes.
    pub(super) async fn redis_there(&self) -> Result<(), SyncError> {
        let look = async {
            let mut connection = self.side().await?;
            let role: redis::Value = redis::cmd("ROLE").query_async(&mut connection).await?;
            match &role {
                redis::Value::Array(words) => match words.first() {
                    Some(redis::Value::BulkString(role)) if role != b"master" => {
                        Err(SyncError::Redis("Redis is a replica, which takes no writes".into()))
                    }
                    _ => Ok(()),
                },
                _ => Ok(()),
            }
        };
        let late = || SyncError::Redis(format!("Redis did not answer within {AWAY:?}"));
        tokio::time::timeout(AWAY, look).await.unwrap_or_else(|_| Err(late()))
    }

    async fn side(&self) -> Result<redis::aio::MultiplexedConnection, SyncError> {
        use bb8::ManageConnection;
        Ok(crate::upstream::SideManager::new(self.redis.clone()).connect().await?)
    }

    /// Starts a mirror beside a Redis that clients go on using, and waits until PostgreSQL has everything.
    pub(super) async fn join(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<RunningMirror, SyncError>, PartError> {
        let mirror = match self.mirror(self.leads()) {
            Ok(mirror) => mirror.start()?,
            Err(error) => return Ok(Err(SyncError::Mirror(error.to_string()))),
        };
        match self.caught_up(mirror.leads, patience).await {
            Ok(()) => Ok(Ok(mirror)),
            Err(error) => {
                mirror.stop_gently().await;
                self.presence.clear();
                Ok(Err(error))
            }
        }
    }

    /// Waits until PostgreSQL has what Redis has at this moment.
    /// One that stands by only waits until it knows that another proxy mirrors.
    pub(super) async fn caught_up(
        &self,
        leads: bool,
        patience: &mut Patience<'_>,
    ) -> Result<(), SyncError> {
        let mirror = &self.status.mirror;
        let (mut no_postgres, mut no_redis) = (Since::default(), Since::default());
        let mut wanted = None;
        loop {
            patience.tick().await?;
            let state = mirror.state();
            if no_postgres.exceeds(state == MirrorState::Spooling, AWAY) {
                return Err(SyncError::Postgres(format!(
                    "PostgreSQL is away: {}",
                    mirror.reason()
                )));
            }
            if no_redis.exceeds(state == MirrorState::Connecting, AWAY) {
                return Err(SyncError::Redis(format!("Redis is away: {}", mirror.reason())));
            }
            if state != MirrorState::Streaming {
                continue;
            }
            if !leads {
                return Ok(());
            }
            let wanted = match wanted {
                Some(wanted) => wanted,
                None => *wanted.insert(self.redis_offset().await?),
            };
            if mirror.applied.load(Ordering::Relaxed) >= wanted {
                return Ok(());
            }
        }
    }

    async fn redis_offset(&self) -> Result<i64, SyncError> {
        self.offset().await.map_err(|error| SyncError::Redis(error.to_string()))
    }

    /// Nobody writes any more: has PostgreSQL get the last of what Redis has done, and ends the mirror. Both are
    /// equal then. Otherwise the mirror goes on, and so do clients.
    pub(super) async fn drain(
        &self,
        mirror: RunningMirror,
    ) -> Result<Result<(), (RunningMirror, SyncError)>, PartError> {
        self.leave(Leave::Drained).await;
        let drained = tokio::time::timeout(LAST, self.last_of_redis()).await;
        let late = || {
            SyncError::Mirror(format!(
                "PostgreSQL did not get all of Redis's changes within {LAST:?}"
            ))
        };
        let error = match drained.unwrap_or_else(|_| Err(late())) {
            Ok(()) => match mirror.stop_gently().await {
                true => return Ok(Ok(())),
                false => {
                    let mirror = self.mirror(true)?.start()?;
                    return Ok(Err((mirror, late())));
                }
            },
            Err(error) => error,
        };
        Ok(Err((mirror, error)))
    }

    async fn last_of_redis(&self) -> Result<(), SyncError> {
        let wanted = self.redis_offset().await?;
        let mirror = &self.status.mirror;
        let store = Store::connect(&self.config.postgres).await?;
        while mirror.applied.load(Ordering::Relaxed) < wanted || !store.rereads().await?.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Has PostgreSQL, which has everything, serve; nobody leads. An error: it cannot.
    pub(super) async fn begin_to_serve(
        &self,
        mode: Mode,
    ) -> Result<Result<Local, SyncError>, PartError> {
        let local = self.server(mode)?;
        let mut state = local.server.state();
        let opened = state.wait_for(|state| *state != LocalState::Opens);
        // Clients wait no longer.
        let _ = tokio::time::timeout(LAST, opened).await;
        let now = *state.borrow();
        if now == LocalState::Serves {
            return Ok(Ok(local));
        }
        let why = local.server.why();
        local.server.stopped().await;
        self.gate.open();
        let why = if why.is_empty() { format!("it did not begin within {LAST:?}") } else { why };
        Ok(Err(SyncError::Postgres(format!("PostgreSQL does not serve: {why}"))))
    }

    /// PostgreSQL leads again, as before a switch that came to nothing.
    pub(super) fn serve_again(&self, mode: Mode) -> Result<Stage, PartError> {
        let local = self.server(mode)?;
        self.turn(To::Local(local.sender.clone()));
        Ok(Stage::Served(local))
    }

    /// From `postgres_only`: has Redis be brought up to PostgreSQL, which serves on, and then nobody lead.
    pub(super) async fn bring_up(
        &self,
        local: Local,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(), (Local, SyncError)>, PartError> {
        self.leave(Leave::Drained).await;
        local.server.stopped().await;
        let (local, back) = self.standing(true)?;
        let mut state = local.server.state();
        let opened = state.wait_for(|state| *state != LocalState::Opens);
        let _ = tokio::time::timeout(LAST, opened).await;
        self.turn(To::Local(local.sender.clone()));
        match self.given_up_to(&local, &back, patience).await {
            Ok(()) => {
                local.server.stopped().await;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err((local, error))),
        }
    }

    async fn given_up_to(
        &self,
        local: &Local,
        back: &Back,
        patience: &mut Patience<'_>,
    ) -> Result<(), SyncError> {
        let probing = self.probing();
        let state = local.server.state();
        let (mut no_redis, mut no_postgres) = (Since::default(), Since::default());
        let mut tries = 0;
        loop {
            patience.tick().await?;
            if no_redis.exceeds(!back.tell(&probing.health), AWAY) {
                return Err(SyncError::Redis("Redis is away".into()));
            }
            let now = *state.borrow();
            if no_postgres.exceeds(now != LocalState::Serves, AWAY) {
                let why = local.server.why();
                return Err(SyncError::Postgres(format!("PostgreSQL is away: {why}")));
            }
            if now != LocalState::Serves || !*back.ready.borrow() {
                continue;
            }
            if self.give_back(local).await {
                return Ok(());
            }
            self.turn(To::Local(local.sender.clone()));
            tries += 1;
            if tries == TRIES {
                let late = "Redis did not take the last changes in time, while clients waited";
                return Err(SyncError::Redis(late.into()));
            }
        }
    }

    /// From `database_first`: waits until Redis has everything but what is on its way.
    pub(super) async fn followed(&self, patience: &mut Patience<'_>) -> Result<(), SyncError> {
        let (mut no_redis, mut no_postgres) = (Since::default(), Since::default());
        loop {
            patience.tick().await?;
            let following = self.status.follower.state();
            if following == Following::Evicting {
                return Err(SyncError::Refused(
                    "Redis has evicted keys: it is no copy of PostgreSQL. Switch to postgres_only first, from which Redis is compared with PostgreSQL and brought up to it".into(),
                ));
            }
            if no_redis.exceeds(following == Following::Away, AWAY) {
                return Err(SyncError::Redis("Redis is away".into()));
            }
            if no_postgres.exceeds(!self.status.postgres_up.load(Ordering::Relaxed), AWAY) {
                return Err(SyncError::Postgres("PostgreSQL is away".into()));
            }
            if self.is_nearly_level() {
                return Ok(());
            }
        }
    }

    /// True when Redis, which follows, lacks no more than what is on its way.
    pub(super) fn is_nearly_level(&self) -> bool {
        let follower = &self.status.follower;
        let owed = follower.owed_keys.load(Ordering::Relaxed);
        let queued = follower.queued_bytes.load(Ordering::Relaxed);
        match follower.state() {
            Following::Whole => true,
            Following::Behind => owed == 0 && queued < ON_ITS_WAY,
            _ => false,
        }
    }

    /// `database_first` has ended, and nobody leads. If Redis has everything, the position is in its stream.
    pub(super) async fn note_place(&self) -> Result<(), SyncError> {
        let store = Store::connect(&self.config.postgres).await?;
        let whole = store
            .position()
            .await?
            .is_some_and(|position| matches!(position.follower(), Some(Some(_))));
        if !whole {
            return Err(SyncError::Redis(
                "Redis did not take the last changes in time, while clients waited".into(),
            ));
        }
        let place = self.place().await.map_err(|error| SyncError::Redis(error.to_string()))?;
        Ok(store.give_back(&place).await?)
    }

    /// Where Redis's history stands in PostgreSQL, of which nobody else is the writer.
    pub(super) async fn position(&self) -> Result<Option<Position>, StoreError> {
        Store::connect(&self.config.postgres).await?.position().await
    }

    /// Nobody has written since PostgreSQL was to lead: Redis leads on from there.
    pub(super) async fn undo(&self, position: Option<Position>) {
        let undone = async {
            let store = Store::connect(&self.config.postgres).await?;
            store.position().await?;
            match &position {
                Some(position) => store.give_back(position).await,
                None => Ok(()),
            }
        };
        match tokio::time::timeout(LAST, undone).await {
            Ok(Ok(())) => {}
            // The mirror finds out, and PostgreSQL stands in until Redis has been compared with it.
            Ok(Err(error)) => tracing::warn!(%error, "PostgreSQL does not say who leads"),
            Err(_) => tracing::warn!("PostgreSQL does not say who leads"),
        }
    }
}
