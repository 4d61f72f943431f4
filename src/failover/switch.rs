//! From one strategy to another. Between any two there is a moment in which Redis and PostgreSQL are equal and the
//! position in PostgreSQL is a place in Redis's stream; there nobody leads, and anybody may begin to:
//!
//! | from | to that moment |
//! | --- | --- |
//! | `redis_only` | a mirror joins, and is drained |
//! | `dual_write`, `cache_first` | the mirror is drained |
//! | `database_first` | Redis takes the last changes |
//! | `postgres_only` | PostgreSQL stands in for Redis, as after a failover, until Redis has everything |
//!
//! Two pairs need no such moment: `postgres_only` to `database_first`, whose Redis is filled while PostgreSQL serves, and
//! `dual_write` to `cache_first` and back, which differ in when a write is acknowledged. Until the new strategy is in force,
//! whatever fails leads back to the old one.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::hand_over::Patience;
use super::memory::{Prepared, Remembered};
use super::parts::{PartError, RunningMirror};
use super::requests::{Done, Request, now};
use super::{Back, Failover, Local, Next, Stage};
use crate::config::{Ack, Mode};
use crate::local::LocalState;
use crate::store::Store;
use crate::strategy::Gap;
use crate::sync::SyncError;
use crate::traces;
use crate::upstream::{Leave, To};

/// How long the table of switches may take.
const NOTING: Duration = Duration::from_secs(1);
/// How long the first write that waits for PostgreSQL may be away.
const HOLDING: Duration = Duration::from_secs(1);

/// One switch.
struct Switch<'a> {
    from: Mode,
    to: Mode,
    force: bool,
    by: &'a str,
    at: String,
    prepared: Option<Prepared>,
    patience: Patience<'a>,
}

/// What a switch has come to: the stage that follows in any case.
type Outcome = Result<(Stage, Result<(), SyncError>), PartError>;

fn refused(stage: Stage, error: SyncError) -> Outcome {
    Ok((stage, Err(error)))
}

impl Failover {
    pub(super) async fn switch(
        &self,
        stage: Stage,
        request: Request,
        over: &CancellationToken,
    ) -> Result<Next, PartError> {
        let Request { to, force, by, mut answer } = request;
        let from = self.status.strategy();
        if from == to {
            // Whoever asked may be gone.
            let _ = answer.send(Ok(Done { from, to, held_ms: 0 }));
            return Ok(Next::Stage(stage));
        }
        let at = now();
        let configured = self.status.configured;
        let switch = Remembered { configured, strategy: to, at: at.clone(), by: by.clone() };
        let prepared = match switch.prepare(&self.config.mirror.spool_dir) {
            Ok(prepared) => Some(prepared),
            Err(error) => {
                let why = format!("the switch could not be remembered: {error} (mirror.spool_dir)");
                let _ = answer.send(Err(SyncError::Refused(why)));
                return Ok(Next::Stage(stage));
            }
        };
        let (old, new) = (from.as_str(), to.as_str());
        let began = Instant::now();
        tracing::info!(from = old, to = new, by, force, "the strategy is to be switched");
        self.status.note_switch(|switched| switched.to = Some(to));
        let held_before = self.route.held_for();
        let patience = Patience { answer: &mut answer, over };
        let mut switch = Switch { from, to, force, by: &by, at, prepared, patience };
        let (stage, result) = self.carry_out(stage, &mut switch).await?;
        let held = self.route.held_for().saturating_sub(held_before);
        self.status.note_switch(|switched| switched.to = None);
        traces::record("strategy switch", began.elapsed(), result.is_ok(), || {
            let held_ms = held.as_millis() as i64;
            [
                ("tandem.from", old.into()),
                ("tandem.to", new.into()),
                ("tandem.held_ms", held_ms.into()),
            ]
        });
        let result = result.map(|()| {
            let held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(from = old, to = new, by, force, held_ms, "the strategy is switched");
            Done { from, to, held_ms }
        });
        match &result {
            Ok(_) => self.note_in_postgres(&switch).await,
            Err(error) => {
                tracing::info!(from = old, to = new, by, force, %error, "the strategy is not switched");
            }
        }
        let _ = answer.send(result);
        Ok(Next::Stage(stage))
    }

    async fn note_in_postgres(&self, switch: &Switch<'_>) {
        let strategies = (switch.from.as_str(), switch.to.as_str());
        let note = async {
            let store = Store::connect(&self.config.postgres).await?;
            store
                .log_strategy(&self.config.listen.address, strategies, switch.by, switch.force)
                .await
        };
        if let Ok(Err(error)) = tokio::time::timeout(NOTING, note).await {
            tracing::debug!(%error, "the switch is not in the table strategy_log");
        }
    }

    /// From here on the new strategy is in force. Whoever is to answer is told next.
    fn enter(&self, switch: &mut Switch<'_>) {
        if let Some(prepared) = switch.prepared.take()
            && let Err(error) = prepared.commit()
        {
            tracing::error!(%error, "the switch is not remembered: a restart undoes it");
        }
        self.status.set_strategy(switch.to);
        let last = Some((switch.at.clone(), switch.by.to_owned()));
        self.status.note_switch(|switched| switched.last = last);
    }

    async fn carry_out(&self, stage: Stage, switch: &mut Switch<'_>) -> Outcome {
        match (stage, switch.to) {
            (Stage::Alone, to) => {
                self.take_part()?;
                self.outset().await;
                let (stage, result) = match to.has_mirror() {
                    true => self.alone_to_mirrored(switch).await?,
                    false => self.alone_to_postgres(switch).await?,
                };
                if let Stage::Alone = stage {
                    self.stand_aside().await;
                }
                Ok((stage, result))
            }
            (Stage::Served(local), _) if !self.leads() => {
                self.served_elsewhere(local, switch).await
            }
            (Stage::Apart, to) if to != Mode::RedisOnly => self.apart_to(to, switch).await,
            (stage @ (Stage::Apart | Stage::Outset(_)), _) => {
                let error = self.may_lead().err();
                let why = "it is being found out who leads: try again in a moment";
                refused(stage, error.unwrap_or_else(|| SyncError::Refused(why.into())))
            }
            (Stage::Redis(mirror), Mode::RedisOnly) => self.mirrored_to_alone(mirror, switch).await,
            (Stage::Redis(mirror), to) if to.has_mirror() => {
                self.change_acknowledgement(mirror, switch).await
            }
            (Stage::Redis(mirror), _) => self.mirrored_to_postgres(mirror, switch).await,
            (Stage::Standing(local, back), _) => self.leave_standing(local, back, switch).await,
            (Stage::Served(local), to) if to.is_led_by_postgres() => {
                self.between_servers(local, switch).await
            }
            (Stage::Served(local), _) => self.postgres_to_redis(local, switch).await,
        }
    }

    /// `redis_only` to `dual_write` or `cache_first`.
    async fn alone_to_mirrored(&self, switch: &mut Switch<'_>) -> Outcome {
        let mirror = match self.may_join(switch).await {
            Ok(()) => self.join(&mut switch.patience).await?,
            Err(error) => Err(error),
        };
        let mirror = match mirror {
            Ok(mirror) => mirror,
            // PostgreSQL follows when it is back.
            Err(SyncError::Postgres(_) | SyncError::Mirror(_)) if switch.force => {
                self.mirror(self.leads())?.start()?
            }
            // PostgreSQL has what Redis lacks, and leads until Redis has everything.
            Err(SyncError::Refused(_)) if switch.force => {
                self.leave(Leave::Drained).await;
                self.mark(true);
                let (local, back) = self.standing(false)?;
                self.enter(switch);
                return Ok((Stage::Standing(local, back), Ok(())));
            }
            Err(error) => return refused(Stage::Alone, error),
        };
        self.enter(switch);
        self.wait_for_holding(switch).await;
        Ok((Stage::Redis(mirror), Ok(())))
    }

    /// Whether a mirror of this Redis would bring PostgreSQL up to it, and not the other way round.
    async fn may_join(&self, switch: &Switch<'_>) -> Result<(), SyncError> {
        if self.postgres_led().await? {
            return Err(SyncError::Refused(format!(
                "PostgreSQL led last, and Redis has never got what it has: Redis would be brought up to PostgreSQL, whose values win where both have changed a key. Forced, {} does that",
                switch.to.as_str()
            )));
        }
        self.redis_there().await
    }

    /// `redis_only` to `database_first` or `postgres_only`.
    async fn alone_to_postgres(&self, switch: &mut Switch<'_>) -> Outcome {
        let joined = match self.may_join(switch).await {
            Ok(()) => self.join(&mut switch.patience).await?,
            Err(error) => Err(error),
        };
        match joined {
            Ok(mirror) => match self.mirrored_to_postgres(mirror, switch).await? {
                (Stage::Redis(mirror), Err(error)) => {
                    mirror.stop_gently().await;
                    refused(Stage::Alone, error)
                }
                other => Ok(other),
            },
            Err(SyncError::Redis(_) | SyncError::Refused(_)) if switch.force => {
                tracing::warn!("PostgreSQL serves what it has, which is not what Redis has");
                self.leave(Leave::Drained).await;
                match self.begin_to_serve(switch.to).await? {
                    Ok(local) => Ok(self.served_by(local, switch)),
                    Err(error) => {
                        self.turn_to_redis();
                        refused(Stage::Alone, error)
                    }
                }
            }
            Err(error) => refused(Stage::Alone, error),
        }
    }

    /// Another proxy leads, and clients are handed on to it while PostgreSQL answers there.
    async fn served_elsewhere(&self, local: Local, switch: &mut Switch<'_>) -> Outcome {
        let redis_leads = !self.is_passed_by();
        if switch.to == Mode::RedisOnly && !redis_leads {
            let error = SyncError::Refused(format!(
                "{}, and PostgreSQL answers there: switch that proxy first",
                self.status.lead().1
            ));
            return refused(Stage::Served(local), error);
        }
        self.leave(Leave::Drained).await;
        local.server.stopped().await;
        if switch.to.is_led_by_postgres() {
            let local = self.server(switch.to)?;
            self.enter(switch);
            return Ok((Stage::Served(local), Ok(())));
        }
        match redis_leads {
            true => self.led_by_redis(switch).await,
            false => {
                self.enter(switch);
                Ok((Stage::Apart, Ok(())))
            }
        }
    }

    /// Another proxy leads in any case.
    async fn apart_to(&self, to: Mode, switch: &mut Switch<'_>) -> Outcome {
        let stage = match to.is_led_by_postgres() {
            true => {
                self.leave(Leave::Drained).await;
                Stage::Served(self.server(to)?)
            }
            false => Stage::Apart,
        };
        self.enter(switch);
        Ok((stage, Ok(())))
    }

    /// PostgreSQL serves: clients may come.
    fn served_by(&self, local: Local, switch: &mut Switch<'_>) -> (Stage, Result<(), SyncError>) {
        self.enter(switch);
        self.mark(false);
        self.status.clear_lead();
        self.route.turn(To::Local(local.sender.clone()));
        (Stage::Served(local), Ok(()))
    }

    /// `dual_write` or `cache_first` to `redis_only`.
    async fn mirrored_to_alone(&self, mirror: RunningMirror, switch: &mut Switch<'_>) -> Outcome {
        let lacks = self.presence.has(Gap::Lacking) || self.presence.has(Gap::Warming);
        if lacks && !switch.force {
            let why = "Redis lacks keys that PostgreSQL has (it has evicted them, copies were dropped, or it is being filled): clients would miss them. `tandem warm` brings them back";
            return refused(Stage::Redis(mirror), SyncError::Refused(why.into()));
        }
        if let Err(error) = self.redis_there().await {
            return refused(Stage::Redis(mirror), error);
        }
        if !mirror.stop_gently().await {
            tracing::info!(
                "PostgreSQL has not got the last changes: it is brought up by a later switch"
            );
        }
        self.presence.clear();
        self.enter(switch);
        self.stand_aside().await;
        Ok((Stage::Alone, Ok(())))
    }

    /// `dual_write` to `cache_first`, or back.
    async fn change_acknowledgement(
        &self,
        mirror: RunningMirror,
        switch: &mut Switch<'_>,
    ) -> Outcome {
        if switch.to == Mode::DualWrite
            && !switch.force
            && let Err(error) = self.caught_up(mirror.leads, &mut switch.patience).await
        {
            return refused(Stage::Redis(mirror), error);
        }
        self.enter(switch);
        self.wait_for_holding(switch).await;
        Ok((Stage::Redis(mirror), Ok(())))
    }

    /// In `dual_write` replies wait for PostgreSQL from a moment later on.
    async fn wait_for_holding(&self, switch: &Switch<'_>) {
        let began = Instant::now();
        let wanted = switch.to == Mode::DualWrite && self.status.ack == Ack::Postgres;
        while wanted && !self.gate.holding() && began.elapsed() < HOLDING {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// `dual_write` or `cache_first` to `database_first` or `postgres_only`.
    async fn mirrored_to_postgres(
        &self,
        mirror: RunningMirror,
        switch: &mut Switch<'_>,
    ) -> Outcome {
        if let Err(error) = self.may_lead() {
            return refused(Stage::Redis(mirror), error);
        }
        if let Err(error) = self.caught_up(mirror.leads, &mut switch.patience).await {
            return refused(Stage::Redis(mirror), error);
        }
        self.leave(Leave::Drained).await;
        if let Err((mirror, error)) = self.drain(mirror).await? {
            self.turn_to_redis();
            return refused(Stage::Redis(mirror), error);
        }
        let (position, served) = match self.position().await {
            Ok(position) => (position, self.begin_to_serve(switch.to).await?),
            Err(error) => (None, Err(error.into())),
        };
        match served {
            Ok(local) => {
                self.carry_unmirrored(&local).await;
                Ok(self.served_by(local, switch))
            }
            Err(error) => {
                self.undo(position).await;
                refused(self.to_redis(self.leads())?, error)
            }
        }
    }

    /// PostgreSQL stands in for a Redis that is gone.
    async fn leave_standing(&self, local: Local, back: Back, switch: &mut Switch<'_>) -> Outcome {
        let (_, why) = self.status.lead();
        let separator = if why.is_empty() { "" } else { ": " };
        let away = SyncError::Redis(format!(
            "Redis is gone or is being brought up to PostgreSQL, which stands in for it{separator}{why}"
        ));
        let serves = *local.server.state().borrow() == LocalState::Serves;
        match switch.to {
            Mode::RedisOnly => refused(Stage::Standing(local, back), away),
            to if to != Mode::PostgresOnly && !switch.force => {
                refused(Stage::Standing(local, back), away)
            }
            to if to.has_mirror() => {
                self.enter(switch);
                Ok((Stage::Standing(local, back), Ok(())))
            }
            _ if !serves => {
                let error =
                    SyncError::Postgres(format!("PostgreSQL is away: {}", local.server.why()));
                refused(Stage::Standing(local, back), error)
            }
            to => {
                self.leave(Leave::Drained).await;
                local.server.stopped().await;
                match self.begin_to_serve(to).await? {
                    Ok(local) => Ok(self.served_by(local, switch)),
                    Err(error) => {
                        let (local, back) = self.standing(false)?;
                        refused(Stage::Standing(local, back), error)
                    }
                }
            }
        }
    }

    /// `postgres_only` to `database_first`, or back.
    async fn between_servers(&self, local: Local, switch: &mut Switch<'_>) -> Outcome {
        if let Err(error) = self.serves(&local) {
            return refused(Stage::Served(local), error);
        }
        if switch.to == Mode::DatabaseFirst
            && !switch.force
            && let Err(error) = self.redis_there().await
        {
            return refused(Stage::Served(local), error);
        }
        let followed = switch.from == Mode::DatabaseFirst && self.is_nearly_level();
        self.leave(Leave::Drained).await;
        local.server.stopped().await;
        // A Redis that has everything need not be compared when it is to lead later.
        if followed && let Err(error) = self.note_place().await {
            tracing::info!(%error, "Redis has not got everything");
        }
        match self.begin_to_serve(switch.to).await? {
            Ok(local) => Ok(self.served_by(local, switch)),
            Err(error) => refused(self.serve_again(switch.from)?, error),
        }
    }

    fn serves(&self, local: &Local) -> Result<(), SyncError> {
        match *local.server.state().borrow() {
            LocalState::Serves => Ok(()),
            _ => Err(SyncError::Postgres(format!("PostgreSQL is away: {}", local.server.why()))),
        }
    }

    /// `database_first` or `postgres_only` to a strategy that Redis leads.
    async fn postgres_to_redis(&self, local: Local, switch: &mut Switch<'_>) -> Outcome {
        if let Err(error) = self.redis_there().await {
            if !(switch.force && switch.to.has_mirror()) {
                return refused(Stage::Served(local), error);
            }
            // As after a failover: Redis gets the lead when it is back.
            self.leave(Leave::Drained).await;
            local.server.stopped().await;
            self.mark(true);
            let (local, back) = self.standing(switch.from == Mode::PostgresOnly)?;
            self.enter(switch);
            return Ok((Stage::Standing(local, back), Ok(())));
        }
        if let Err(error) = self.serves(&local) {
            if !(switch.force && switch.to == Mode::RedisOnly) {
                return refused(Stage::Served(local), error);
            }
            tracing::warn!("Redis serves what it has, which is not what PostgreSQL has");
            self.leave(Leave::Cut).await;
            local.server.stopped().await;
            return self.led_by_redis(switch).await;
        }
        if switch.from == Mode::DatabaseFirst {
            if let Err(error) = self.followed(&mut switch.patience).await {
                return refused(Stage::Served(local), error);
            }
            self.leave(Leave::Drained).await;
            local.server.stopped().await;
            if let Err(error) = self.note_place().await {
                return refused(self.serve_again(switch.from)?, error);
            }
        } else if let Err((local, error)) = self.bring_up(local, &mut switch.patience).await? {
            self.leave(Leave::Drained).await;
            local.server.stopped().await;
            return refused(self.serve_again(switch.from)?, error);
        }
        self.led_by_redis(switch).await
    }

    /// Nobody leads, and Redis has everything: clients may come.
    async fn led_by_redis(&self, switch: &mut Switch<'_>) -> Outcome {
        self.enter(switch);
        self.status.clear_lead();
        if switch.to.has_mirror() {
            let stage = self.to_redis(self.leads())?;
            self.forget_unmirrored().await;
            self.wait_for_holding(switch).await;
            return Ok((stage, Ok(())));
        }
        self.mark(false);
        self.gate.open();
        self.presence.clear();
        self.turn_to_redis();
        self.forget_unmirrored().await;
        self.stand_aside().await;
        Ok((Stage::Alone, Ok(())))
    }
}
