//! The consistency check: what is wrong at a place in the stream is reported.

use std::time::{SystemTime, UNIX_EPOCH};

use super::compare::difference;
use super::report::{Report, Verdict};
use super::walk::{Sides, Suspect, Walk};
use super::{CheckOptions, Job, Name, SyncError, Syncer};
use crate::strategy::Gap;

/// Places at which a key that waits to be read again is looked at.
pub const ATTEMPTS: usize = 5;

pub async fn run(syncer: &Syncer, options: CheckOptions, job: &Job) -> Result<Report, SyncError> {
    let CheckOptions { scope, tolerance_ms, limit, considerate } = options;
    let mut walk = Walk::new(syncer, job, scope, tolerance_ms, Report::new(limit)).await?;
    let use_counts =
        syncer.presence.has(Gap::Evicting) || syncer.families.least_cache_ttl_s().is_some();
    if considerate && !walk.redis.leaves_no_mark && use_counts {
        return Err(SyncError::NotApplicable(
            "this Redis drops keys by last use and cannot be read without using keys (CLIENT NO-TOUCH is in Redis 7.2): it is checked only when somebody asks for it".into(),
        ));
    }
    walk.run(Sides { redis: true, postgres: true }, None).await?;
    Ok(walk.report)
}

impl Walk<'_> {
    /// Which side has them.
    pub async fn look_for(&mut self, suspects: Vec<Suspect>) -> Result<(), SyncError> {
        if suspects.is_empty() {
            return Ok(());
        }
        let names: Vec<Name> = suspects.iter().map(|suspect| suspect.name.clone()).collect();
        let Some(seen) = self.syncer.presence_of(&mut self.redis, &names).await? else {
            self.suspects.extend(suspects);
            return Ok(());
        };
        for (suspect, (there, loaded)) in suspects.into_iter().zip(seen) {
            let Some(loaded) = loaded else {
                self.once_more(suspect);
                continue;
            };
            match (there, loaded.found) {
                (false, None) => {}
                (true, Some(_)) => {
                    self.suspects.push_back(Suspect { presence: false, ..suspect });
                }
                (true, None) => self.missing_in_postgres(&suspect.name),
                (false, Some(found)) => {
                    let kind = found.kind().as_str();
                    self.missing_in_redis(&suspect.name, kind, found.expires_at_ms);
                }
            }
        }
        Ok(())
    }

    /// What both sides have of them.
    pub async fn look_at(&mut self, suspects: Vec<Suspect>) -> Result<(), SyncError> {
        if suspects.is_empty() {
            return Ok(());
        }
        let names: Vec<Name> = suspects.iter().map(|suspect| suspect.name.clone()).collect();
        let Some(seen) = self.syncer.both(&mut self.redis, &names).await? else {
            self.suspects.extend(suspects);
            return Ok(());
        };
        for (suspect, both) in suspects.into_iter().zip(seen) {
            let Some(loaded) = both.postgres else {
                self.once_more(suspect);
                continue;
            };
            let name = &suspect.name;
            match (both.redis, loaded.found) {
                (None, None) => {}
                (Some(_), None) => self.missing_in_postgres(name),
                (None, Some(found)) => {
                    self.missing_in_redis(name, found.kind().as_str(), found.expires_at_ms);
                }
                (Some((object, at)), Some(found)) => {
                    let tolerance = self.tolerance_ms;
                    if let Some(aspect) = difference(&object, at, &found, tolerance) {
                        let (families, kind) = (&self.syncer.families, Verdict::Different);
                        self.report.wrong(families, name, kind, Some(aspect.what), aspect.detail);
                    }
                }
            }
        }
        Ok(())
    }

    /// Its value is on the way to PostgreSQL.
    pub fn once_more(&mut self, suspect: Suspect) {
        let attempts = suspect.attempts + 1;
        match attempts < ATTEMPTS {
            true => self.suspects.push_back(Suspect { attempts, ..suspect }),
            false => self.report.unsettled += 1,
        }
    }

    pub fn missing_in_postgres(&mut self, name: &Name) {
        let detail = "Redis has it, PostgreSQL lacks it".to_owned();
        let families = &self.syncer.families;
        self.report.wrong(families, name, Verdict::MissingInPostgres, None, detail);
    }

    pub fn missing_in_redis(&mut self, name: &Name, kind: &str, expires_at_ms: Option<i64>) {
        // Its row is swept away.
        if expires_at_ms.is_some_and(|at| at <= now_ms()) {
            return;
        }
        let families = &self.syncer.families;
        if self.syncer.presence.partial() {
            return self.report.not_in_redis(families, &name.1);
        }
        let expires =
            expires_at_ms.map_or("without expiry".into(), |at| format!("expires at {at} ms"));
        let detail = format!("PostgreSQL has it ({kind}, {expires}), Redis lacks it");
        self.report.wrong(families, name, Verdict::MissingInRedis, None, detail);
    }
}

/// Unix time in ms.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
