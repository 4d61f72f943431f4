use std::sync::atomic::Ordering;

use serde::Serialize;

use super::backends::Look;
use super::state::App;
use crate::config::Mode;
use crate::strategy::{Condition, Following, Lead, MirrorState, UNAVAILABLE};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Healthy,
    /// Clients are served, and something is not as configured.
    Degraded,
    /// Clients get errors.
    Unhealthy,
}

#[derive(Serialize)]
pub struct Databases {
    pub redis: bool,
    pub postgres: bool,
}

impl Databases {
    pub fn of(app: &App, look: &Look) -> Databases {
        let redis = match app.status().strategy() {
            Mode::PostgresOnly => false,
            Mode::DatabaseFirst => app.status().redis_up.load(Ordering::Relaxed),
            _ => look.redis_up(),
        };
        Databases { redis, postgres: look.postgres_up() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub status: Verdict,
    pub databases: Databases,
    /// In force.
    pub strategy: &'static str,
    /// What it has come to.
    pub mode: &'static str,
    /// Why the status is not `healthy`.
    pub reasons: Vec<String>,
    pub stats: Stats,
    pub initialized: bool,
    pub sync_enabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub operations: u64,
    pub errors: u64,
    pub clients: u64,
    pub uptime_seconds: u64,
}

pub fn judge(app: &App, look: &Look) -> Health {
    let status = app.status();
    let mut reasons = Vec::new();
    if let Err(error) = &look.redis {
        reasons.push(error.clone());
    }
    if let Some(Err(error)) = &look.postgres {
        reasons.push(error.clone());
    }
    // They answer, and are not well all the same.
    for (there, backend) in
        [(look.redis_up(), &status.redis), (look.postgres_up(), &status.postgres)]
    {
        // One that is slow does what is asked of it.
        let ill = there && backend.condition().0 != Condition::Slow;
        reasons.extend(backend.complaint().filter(|_| ill));
    }
    let (lead, why) = status.lead();
    if lead != Lead::Redis {
        let separator = if why.is_empty() { "" } else { ": " };
        let who = match lead {
            Lead::Leader => "another proxy",
            lead => lead.as_str(),
        };
        reasons.push(format!("{who} leads instead of Redis{separator}{why}"));
    }
    let state = status.mirror.state();
    if status.strategy().has_mirror()
        && lead == Lead::Redis
        && look.complete()
        && state != MirrorState::Streaming
    {
        let why = status.mirror.reason();
        let separator = if why.is_empty() { "" } else { ": " };
        reasons.push(format!("the mirror is {}{separator}{why}", state.as_str()));
    }
    if status.strategy() == Mode::DatabaseFirst && status.follower.state() != Following::Whole {
        reasons.push(format!("Redis is {}", status.follower.state().as_str()));
    }
    let serves = match lead {
        Lead::Redis => look.redis_up(),
        // It may have gone since the look.
        Lead::Postgres => look.postgres_up() && status.mode() != UNAVAILABLE,
        Lead::Leader => true,
        Lead::Nobody => false,
    };
    let verdict = match (serves, reasons.is_empty()) {
        (false, _) => Verdict::Unhealthy,
        (true, false) => Verdict::Degraded,
        (true, true) => Verdict::Healthy,
    };
    Health {
        status: verdict,
        databases: Databases::of(app, look),
        strategy: status.strategy().as_str(),
        mode: status.mode(),
        reasons,
        stats: Stats {
            operations: status.meters.all_commands(),
            errors: status.meters.all_faults(),
            clients: status.clients.load(Ordering::Relaxed),
            uptime_seconds: status.started.elapsed().as_secs(),
        },
        initialized: app.is_ready(),
        sync_enabled: status.strategy().has_mirror(),
    }
}
