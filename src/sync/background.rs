//! Checks that nobody asks for: at the start and every `sync.interval_ms`, and what the last check said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::report::Totals;
use super::{CheckOptions, Class, Outcome, Scope, SyncError, Syncer};
use crate::strategy::MirrorState;

/// How often it is looked whether the mirror follows.
const LOOK: Duration = Duration::from_secs(1);
/// Differences that are told in full.
const SHOWN: usize = 100;

/// What checks of all keys have said.
#[derive(Debug, Default)]
pub struct Checks {
    last: Mutex<Option<Last>>,
    pub consistent: AtomicU64,
    pub inconsistent: AtomicU64,
    pub failed: AtomicU64,
}

/// What the last check has said.
#[derive(Clone, Debug)]
pub struct Last {
    pub at: SystemTime,
    /// Of the last one that did not fail.
    pub totals: Option<Totals>,
    summary: Value,
}

impl Checks {
    pub fn last(&self) -> Option<Last> {
        self.last.lock().clone()
    }

    /// As the status shows it.
    pub fn describe(&self) -> Value {
        let Some(last) = self.last() else { return Value::Null };
        let mut shown = last.summary;
        shown["checkedAt"] = json!(humantime::format_rfc3339_millis(last.at).to_string());
        shown
    }

    pub fn record(&self, totals: Totals) {
        let counter = if totals.consistent { &self.consistent } else { &self.inconsistent };
        counter.fetch_add(1, Ordering::Relaxed);
        let summary = json!(totals);
        *self.last.lock() = Some(Last { at: SystemTime::now(), totals: Some(totals), summary });
    }

    pub fn record_failure(&self, error: &SyncError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let summary =
            json!({ "status": "failed", "error": error.word(), "message": error.to_string() });
        let mut last = self.last.lock();
        // What was wrong before is not known to be right now.
        let totals = last.take().and_then(|last| last.totals);
        *last = Some(Last { at: SystemTime::now(), totals, summary });
    }
}

/// Runs until it is dropped.
pub async fn serve(syncer: Arc<Syncer>) {
    let sync = syncer.config.sync.clone();
    if sync.on_startup {
        while syncer.status.mirror.state() != MirrorState::Streaming {
            tokio::time::sleep(LOOK).await;
        }
        check(&syncer).await;
    }
    if sync.interval_ms == 0 {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(sync.interval_ms)).await;
        check(&syncer).await;
    }
}

async fn check(syncer: &Arc<Syncer>) {
    // The proxy that leads does it.
    if let Err(SyncError::StandingBy(_)) = syncer.ready() {
        return;
    }
    if syncer.ready().is_err() && !syncer.status.strategy().has_mirror() {
        return;
    }
    let sync = &syncer.config.sync;
    let options = CheckOptions {
        scope: Scope { pattern: None, rate: sync.keys_per_second },
        tolerance_ms: sync.ttl_tolerance_ms,
        limit: SHOWN,
        considerate: true,
    };
    let arguments = json!({ "background": true });
    let work = {
        let syncer = Arc::clone(syncer);
        move |job: Arc<super::Job>| async move { syncer.check(options, &job).await }
    };
    // Somebody else's check says the same.
    let Ok(job) = syncer.jobs.start("consistency-check", Class::Check, arguments, work) else {
        return;
    };
    if let Outcome::Done(report) = job.end().await
        && report["consistent"] != true
    {
        tracing::warn!(
            missing_in_redis = %report["missing_in_redis"],
            missing_in_postgres = %report["missing_in_postgres"],
            different = %report["different"],
            unsettled = %report["unsettled"],
            job = job.id,
            "Redis and PostgreSQL are not consistent; GET /admin/jobs/<job> tells the differences"
        );
    }
}
