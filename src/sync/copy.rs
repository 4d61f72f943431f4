//! Bringing one side up to the other: what is asked for, and what is answered.

use serde_json::{Value, json};

use super::check::now_ms;
use super::jobs::Place;
use super::report::Report;
use super::walk::{Sides, Walk};
use super::{Job, Scope, SyncError, Syncer};
use crate::mirror::{declare_whole, sweep};
use crate::strategy::Gap;

/// Which side is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Postgres,
    Redis,
}

impl Target {
    pub fn as_str(self) -> &'static str {
        match self {
            Target::Postgres => "postgres",
            Target::Redis => "redis",
        }
    }
}

/// What a copy is to do.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    pub target: Target,
    pub scope: Scope,
    /// To Redis: also what Redis has otherwise, which is newer.
    pub overwrite: bool,
    /// What the source lacks goes from the target.
    pub delete: bool,
    /// Everything is looked at, to tell what is left wrong.
    pub repair: bool,
    /// Nothing is changed; it is only counted.
    pub dry_run: bool,
    /// Where another copy was interrupted.
    pub from: Option<Place>,
}

/// What is done to a key that is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub target: Target,
    pub overwrite: bool,
    pub delete: bool,
}

/// What a copy has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub synced: u64,
    pub deleted: u64,
    /// Redis did not take them.
    pub errors: u64,
    /// Clients changed them each time that they were to be copied.
    pub busy: u64,
}

pub async fn run(syncer: &Syncer, options: CopyOptions, job: &Job) -> Result<Value, SyncError> {
    let CopyOptions { target, scope, overwrite, delete, repair, dry_run, from } = options;
    if let Some(from) = &from {
        // Should this one fail at once, a third one can go on.
        job.reached(from.clone());
    }
    let partial = syncer.presence.partial();
    if target == Target::Postgres && delete && partial {
        return Err(SyncError::Refused(format!(
            "Redis is partial ({}): what it lacks may have been evicted, and PostgreSQL has the only copy. Nothing is deleted from PostgreSQL now; leave delete out",
            syncer.presence.describe()
        )));
    }
    let tolerance_ms = 0;
    let mut walk = Walk::new(syncer, job, scope, tolerance_ms, Report::new(0)).await?;
    if !dry_run {
        walk.action = Some(Action { target, overwrite, delete });
    }
    let sides = match target {
        Target::Postgres => Sides { redis: true, postgres: delete || repair },
        Target::Redis => Sides { redis: overwrite || delete || repair, postgres: true },
    };
    let everything = walk.scope.pattern.is_none() && from.is_none() && !dry_run;
    let syncs = syncer.full_syncs();
    let swaps = walk.redis.swaps().await?;
    walk.run(sides, from).await?;
    let nothing_left = walk.report.unsettled + walk.report.done.errors + walk.report.done.busy == 0;
    if target == Target::Redis && everything && nothing_left && syncer.full_syncs() == syncs {
        // What came to another database by SWAPDB meanwhile may not have been met.
        if walk.redis.swaps().await?.none_since(&swaps) {
            whole_again(&mut walk).await?;
        }
    }
    let report = &walk.report;
    let done = match dry_run {
        true => would_do(report, target, overwrite, delete),
        false => report.done,
    };
    Ok(answer(target, delete, repair, dry_run, report, done))
}

/// Redis has everything that PostgreSQL has: unless it evicts, clients need no care any more.
async fn whole_again(walk: &mut Walk<'_>) -> Result<(), SyncError> {
    let Syncer { presence, config, .. } = walk.syncer;
    if walk.syncer.families.least_cache_ttl_s().is_some() {
        // Copies leave Redis meanwhile.
        return Ok(());
    }
    let other = [Gap::Evicting, Gap::Unknown, Gap::Warming].iter().any(|gap| presence.has(*gap));
    // Redis has not taken what was over by then, and will never say so: a write to such a key without care would go to
    // its old row.
    let swept = async || -> Result<bool, SyncError> {
        let store = walk.syncer.postgres().await?;
        Ok(sweep(presence, &store, now_ms()).await?)
    };
    if presence.has(Gap::Lacking) && !other && swept().await? && walk.redis.evicted().await? == 0 {
        declare_whole(config, presence);
    }
    Ok(())
}

fn answer(
    target: Target,
    delete: bool,
    repair: bool,
    dry_run: bool,
    report: &Report,
    done: Done,
) -> Value {
    let seen = &report.total;
    let total = match target {
        Target::Postgres => seen.redis,
        Target::Redis => seen.postgres,
    };
    let Done { synced, deleted, errors, busy } = done;
    let failed = errors + busy + report.unsettled;
    let (verb, side) = (if dry_run { "would be " } else { "" }, name(target));
    let mut message = format!("{synced} of {total} keys {verb}copied to {side}");
    if delete {
        message += &format!(", {deleted} {verb}deleted from it");
    }
    if failed > 0 {
        message += &format!(", {failed} could not be copied");
    }
    let mut answer = json!({
        "synced": synced,
        "deleted": deleted,
        "errors": failed,
        "total": total,
        "target": target.as_str(),
        "dryRun": dry_run,
        "notMirrored": report.excluded,
    });
    if repair {
        let alone = match target {
            Target::Postgres => seen.missing_in_redis,
            Target::Redis => seen.missing_in_postgres,
        };
        let left = alone.saturating_sub(deleted);
        answer["repaired"] = json!(synced + deleted);
        answer["left"] = json!(left);
        answer["direction"] = json!(match target {
            Target::Postgres => "redis-to-postgres",
            Target::Redis => "postgres-to-redis",
        });
        if left > 0 {
            message +=
                &format!(", {left} that are in {side} alone left there: delete removes them");
        }
    }
    answer["message"] = json!(message);
    answer
}

fn name(target: Target) -> &'static str {
    match target {
        Target::Postgres => "PostgreSQL",
        Target::Redis => "Redis",
    }
}

/// What a check that has changed nothing means for a copy.
fn would_do(report: &Report, target: Target, overwrite: bool, delete: bool) -> Done {
    let total = &report.total;
    let when = |wanted: bool, count: u64| if wanted { count } else { 0 };
    let (synced, deleted) = match target {
        Target::Postgres => {
            (total.missing_in_postgres + total.different, when(delete, total.missing_in_redis))
        }
        Target::Redis => (
            total.missing_in_redis + total.not_in_redis + when(overwrite, total.different),
            when(delete, total.missing_in_postgres),
        ),
    };
    Done { synced, deleted, ..Done::default() }
}
