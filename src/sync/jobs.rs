//! Long work of the operator: it starts, shows its progress, can be cancelled, and has a result. One
//! that changes data excludes any other that does.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::SyncError;
use crate::traces;

/// Jobs that are remembered when they have ended.
const REMEMBERED: usize = 20;

/// What a job may not run beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It only reads: one of this class at a time.
    Check,
    /// It changes data: one of this class at a time.
    Change,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    Done(Value),
    Failed(SyncError),
}

/// Another job of the class is running.
#[derive(Clone, Debug)]
pub struct Busy {
    pub id: u64,
    pub kind: &'static str,
}

/// How far a job has come, for another one to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The process of Redis that the cursor belongs to.
    pub run_id: String,
    /// Database and cursor of `SCAN`.
    pub db: u32,
    pub cursor: u64,
    /// Redis has been gone through; the last key's id in PostgreSQL.
    pub id: Option<i64>,
}

#[derive(Debug)]
pub struct Job {
    pub id: u64,
    pub kind: &'static str,
    class: Class,
    /// What was asked for.
    pub arguments: Value,
    started_at: SystemTime,
    started: Instant,
    cancel: CancellationToken,
    progress: Mutex<Progress>,
    place: Mutex<Option<Place>>,
    ended: watch::Sender<Option<(Outcome, SystemTime)>>,
}

#[derive(Debug, Default)]
struct Progress {
    phase: &'static str,
    done: u64,
    /// Estimated; 0: not known.
    total: u64,
    /// What has come out so far.
    counts: Value,
}

impl Job {
    /// A new phase begins, with so much to do (0: not known).
    pub fn begin(&self, phase: &'static str, total: u64) {
        let mut progress = self.progress.lock();
        (progress.phase, progress.done, progress.total) = (phase, 0, total);
    }

    /// So much more of the phase is done.
    pub fn advance(&self, done: u64) {
        let mut progress = self.progress.lock();
        progress.done += done;
        // There may be more than was estimated.
        if progress.total > 0 {
            progress.total = progress.total.max(progress.done);
        }
    }

    /// What has come out so far.
    pub fn note(&self, counts: Value) {
        self.progress.lock().counts = counts;
    }

    /// Everything before this place is done.
    pub fn reached(&self, place: Place) {
        *self.place.lock() = Some(place);
    }

    /// Where it was interrupted; `None`: it has not come far, or was done.
    pub fn place(&self) -> Option<Place> {
        match self.outcome() {
            Some(Outcome::Failed(_)) => self.place.lock().clone(),
            _ => None,
        }
    }

    /// How it ended; `None` while it runs.
    pub fn outcome(&self) -> Option<Outcome> {
        self.ended.borrow().as_ref().map(|(outcome, _)| outcome.clone())
    }

    /// Waits for its end.
    pub async fn end(&self) -> Outcome {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some((outcome, _))) => outcome.clone(),
            // The sender is in this job.
            _ => Outcome::Failed(SyncError::Cancelled),
        }
    }

    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    fn state(&self) -> &'static str {
        match &*self.ended.borrow() {
            None if self.cancel.is_cancelled() => "cancelling",
            None => "running",
            Some((Outcome::Done(_), _)) => "done",
            Some((Outcome::Failed(SyncError::Cancelled), _)) => "cancelled",
            Some((Outcome::Failed(_), _)) => "failed",
        }
    }

    /// As the interface shows it.
    pub fn describe(&self) -> Value {
        let ended = self.ended.borrow().clone();
        let time = |at: SystemTime| humantime::format_rfc3339_millis(at).to_string();
        let seconds = match &ended {
            Some((_, at)) => at.duration_since(self.started_at).unwrap_or_default(),
            None => self.started.elapsed(),
        };
        let progress = self.progress.lock();
        let mut shown = json!({
            "id": self.id,
            "kind": self.kind,
            "state": self.state(),
            "arguments": self.arguments,
            "startedAt": time(self.started_at),
            "endedAt": ended.as_ref().map(|(_, at)| time(*at)),
            "seconds": (seconds.as_secs_f64() * 1e3).round() / 1e3,
            "progress": {
                "phase": progress.phase,
                "done": progress.done,
                "total": (progress.total > 0).then_some(progress.total),
                "counts": progress.counts,
            },
        });
        match ended {
            Some((Outcome::Done(result), _)) => shown["result"] = result,
            Some((Outcome::Failed(error), _)) => {
                shown["error"] = json!({ "error": error.word(), "message": error.to_string() });
            }
            None => {}
        }
        shown
    }
}

/// The jobs of this process.
#[derive(Debug, Default)]
pub struct Jobs {
    numbers: AtomicU64,
    /// The newest last.
    all: Mutex<VecDeque<Arc<Job>>>,
}

impl Jobs {
    /// Starts a job on the current runtime, unless another one of its class runs. Cancelled, its work
    /// is dropped where it waits.
    pub fn start<F>(
        &self,
        kind: &'static str,
        class: Class,
        arguments: Value,
        work: impl FnOnce(Arc<Job>) -> F,
    ) -> Result<Arc<Job>, Busy>
    where
        F: Future<Output = Result<Value, SyncError>> + Send + 'static,
    {
        let mut all = self.all.lock();
        let running = |job: &&Arc<Job>| job.class == class && job.outcome().is_none();
        if let Some(other) = all.iter().find(running) {
            return Err(Busy { id: other.id, kind: other.kind });
        }
        let job = Arc::new(Job {
            id: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            kind,
            class,
            arguments,
            started_at: SystemTime::now(),
            started: Instant::now(),
            cancel: CancellationToken::new(),
            progress: Mutex::default(),
            place: Mutex::default(),
            ended: watch::Sender::new(None),
        });
        all.push_back(Arc::clone(&job));
        if all.len() > REMEMBERED {
            forget(&mut all);
        }
        let work = tokio::spawn(work(Arc::clone(&job)));
        let guard = Arc::clone(&job);
        tokio::spawn(async move {
            let abort = work.abort_handle();
            let outcome = tokio::select! {
                result = work => match result {
                    Ok(Ok(result)) => Outcome::Done(result),
                    Ok(Err(error)) => Outcome::Failed(error),
                    Err(_) => Outcome::Failed(SyncError::Refused("a defect ended the job; the log has more".into())),
                },
                () = guard.cancel.cancelled() => Outcome::Failed(SyncError::Cancelled),
            };
            abort.abort();
            let done = matches!(outcome, Outcome::Done(_));
            traces::record("job", guard.started.elapsed(), done, || {
                let outcome = match &outcome {
                    Outcome::Done(_) => "done",
                    Outcome::Failed(error) => error.word(),
                };
                [("tandem.kind", kind.into()), ("tandem.outcome", outcome.into())]
            });
            match &outcome {
                Outcome::Done(_) => tracing::info!(job = guard.id, kind, "job done"),
                Outcome::Failed(error) => {
                    tracing::info!(job = guard.id, kind, %error, "job failed")
                }
            }
            guard.ended.send_replace(Some((outcome, SystemTime::now())));
        });
        Ok(job)
    }

    pub fn get(&self, id: u64) -> Option<Arc<Job>> {
        self.all.lock().iter().find(|job| job.id == id).cloned()
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Arc<Job>> {
        self.all.lock().iter().rev().cloned().collect()
    }
}

/// Drops a job that has ended, if there is one. Those that can be taken up again stay longest, and of those at the same
/// place the one that came there first, which is the one that somebody knows.
fn forget(jobs: &mut VecDeque<Arc<Job>>) {
    let dispensable = |job: &Arc<Job>| match job.place() {
        None => job.outcome().is_some(),
        Some(place) => jobs.iter().any(|other| {
            other.id < job.id && other.kind == job.kind && other.place().as_ref() == Some(&place)
        }),
    };
    let found = jobs.iter().position(dispensable);
    if let Some(at) = found.or_else(|| jobs.iter().position(|job| job.outcome().is_some())) {
        jobs.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn forever() -> Result<Value, SyncError> {
        std::future::pending().await
    }

    #[tokio::test]
    async fn one_of_a_class_at_a_time_and_cancelled_ones_end() {
        let jobs = Jobs::default();
        let change = jobs.start("a", Class::Change, Value::Null, |_| forever()).expect("starts");
        let busy = jobs.start("b", Class::Change, Value::Null, |_| forever()).expect_err("busy");
        assert_eq!((busy.id, busy.kind), (change.id, "a"));
        let check = jobs.start("c", Class::Check, Value::Null, |_| async { Ok(json!(7)) });
        let check = check.expect("another class");
        assert!(matches!(check.end().await, Outcome::Done(result) if result == 7));
        change.cancel();
        assert!(matches!(change.end().await, Outcome::Failed(SyncError::Cancelled)));
        assert_eq!(change.describe()["state"], "cancelled");
        jobs.start("b", Class::Change, Value::Null, |_| forever()).expect("free again");
        assert_eq!(jobs.list().len(), 3);
    }

    #[tokio::test]
    async fn ended_jobs_are_forgotten_after_a_while() {
        let jobs = Jobs::default();
        for _ in 0..REMEMBERED + 10 {
            let job = jobs.start("a", Class::Check, Value::Null, |_| async { Ok(Value::Null) });
            job.expect("starts").end().await;
        }
        assert_eq!(jobs.list().len(), REMEMBERED);
        assert!(jobs.get(1).is_none());
    }

    #[tokio::test]
    async fn tries_that_come_no_further_do_not_push_the_first_one_out() {
        let jobs = Jobs::default();
        let place = |cursor| Place { run_id: "r".into(), db: 0, cursor, id: None };
        let fail = async |place: Place| {
            let job = jobs.start("a", Class::Change, Value::Null, |job| async move {
                job.reached(place);
                Err(SyncError::Refused("away".into()))
            });
            job.expect("starts").end().await;
        };
        fail(place(1)).await;
        fail(place(2)).await;
        for _ in 0..REMEMBERED * 2 {
            fail(place(2)).await;
        }
        let remembered: Vec<u64> = jobs.list().iter().rev().map(|job| job.id).take(2).collect();
        assert_eq!(remembered, [1, 2]);
        assert_eq!(jobs.list().len(), REMEMBERED);
    }
}
