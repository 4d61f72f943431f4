//! The connection over which Redis is told.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bb8::ManageConnection;
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, Value};

use super::{Follower, Role, Run, weight};
use crate::strategy::{Condition, Witness};
use crate::upstream::{Backoff, SideError, SideManager};

/// Sent at once.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// How often a Redis to which nothing is to be said is looked at.
const IDLE: Duration = Duration::from_secs(1);

impl Follower {
    /// Tells Redis what it lacks, until it is dropped.
    pub async fn run(self: Rc<Self>, manager: SideManager) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut said = false;
        loop {
            let ended = match self.connect(&manager).await {
                Ok(mut connection) => {
                    backoff.reset();
                    if std::mem::take(&mut said) {
                        tracing::info!("Redis is back");
                    }
                    self.follow(&mut connection, None).await
                }
                Err(error) => error,
            };
            self.status.redis.note(Witness::Work, Condition::from(&ended), ended.to_string());
            self.connected.set(false);
            self.status.redis_up.store(false, Ordering::Relaxed);
            self.progress.notify_waiters();
            self.report();
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(error = %ended, "Redis is away: it will be brought up to PostgreSQL");
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Connects, and finds out which Redis that is.
    pub async fn connect(&self, manager: &SideManager) -> Result<MultiplexedConnection, SideError> {
        let mut connection = manager.connect().await?;
        let run_id = look(&mut connection, "server", "run_id").await?;
        let known = self.run_id.replace(run_id.clone());
        if self.role == Role::Copy && !known.is_empty() && known != run_id {
            tracing::warn!("Redis was restarted: it is filled anew from PostgreSQL");
            self.start_over();
        }
        self.evicted.set(has_evicted(&mut connection).await?);
        self.connected.set(true);
        self.status.redis.well(Witness::Work);
        self.status.redis_up.store(true, Ordering::Relaxed);
        self.progress.notify_waiters();
        self.report();
        Ok(connection)
    }

    /// Tells Redis what it lacks, until that fails.
    /// What is sent begins with the publication of a `mark`, if there is one.
    pub async fn follow(
        &self,
        connection: &mut MultiplexedConnection,
        mark: Option<&str>,
    ) -> SideError {
        loop {
            // What another proxy has told Redis since is newer.
            self.tenure.unopposed().await;
            let batch = self.take();
            if batch.is_empty() {
                self.report();
                if tokio::time::timeout(IDLE, self.work.notified()).await.is_err() {
                    match has_evicted(connection).await {
                        Ok(evicted) => self.evicted.set(evicted),
                        Err(error) => return error,
                    }
                }
                continue;
            }
            self.in_flight.set(batch.len());
            let sent = send(connection, &batch, mark).await;
            self.in_flight.set(0);
            match sent {
                Ok(refused) if refused.is_empty() => {}
                Ok(refused) => {
                    self.refused();
                    let queue = self.queue.borrow();
                    for at in refused {
                        self.owe_for(&batch[at], batch[at + 1..].iter().chain(queue.iter()));
                    }
                }
                Err(error) => {
                    let queue = self.queue.borrow();
                    batch.iter().for_each(|run| self.owe_for(run, queue.iter()));
                    return error;
                }
            }
            self.progress.notify_waiters();
        }
    }

    fn take(&self) -> Vec<Run> {
        let mut queue = self.queue.borrow_mut();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(run) = queue.front() {
            bytes += weight(run);
            if !batch.is_empty() && (batch.len() >= BATCH || bytes > BATCH_BYTES) {
                break;
            }
            batch.extend(queue.pop_front());
        }
        let taken: usize = batch.iter().map(weight).sum();
        self.queued_bytes.set(self.queued_bytes.get().saturating_sub(taken));
        batch
    }
}

/// Sends the commands; the places of those that Redis has refused. With a `mark` they are one transaction that begins
/// with its publication.
async fn send(
    connection: &mut MultiplexedConnection,
    batch: &[Run],
    mark: Option<&str>,
) -> Result<Vec<usize>, SideError> {
    let mut pipe = redis::pipe();
    pipe.ignore_errors();
    let mut places = Vec::with_capacity(batch.len() + 2);
    if let Some(mark) = mark {
        pipe.cmd("MULTI").cmd("PUBLISH").arg(mark).arg(OWN);
        places.push(None);
    }
    let mut selected = None;
    for (at, run) in batch.iter().enumerate() {
        if selected != Some(run.db) {
            pipe.cmd("SELECT").arg(run.db);
            places.push(None);
            selected = Some(run.db);
        }
        pipe.add_command(run.command.clone());
        places.push(Some(at));
    }
    if mark.is_some() {
        pipe.cmd("EXEC");
    }
    let mut answers: Vec<Value> = pipe.query_async(connection).await?;
    if mark.is_some() {
        answers = match answers.pop() {
            Some(Value::Array(answers)) => answers,
            Some(Value::ServerError(error)) => {
                tracing::warn!(%error, "Redis did not take changes: the whole values are sent again");
                return Ok((0..batch.len()).collect());
            }
            _ => return Ok((0..batch.len()).collect()),
        };
    }
    let mut refused = Vec::new();
    for (answer, place) in answers.iter().zip(places) {
        let Value::ServerError(error) = answer else { continue };
        if let Some(at) = place
            && !batch[at].may_fail
        {
            if refused.is_empty() {
                tracing::warn!(%error, "Redis did not take a change: the whole value is sent again");
            }
            refused.push(at);
        }
    }
    Ok(refused)
}

/// The message that begins a transaction of the follower's own.
pub const OWN: &str = "own";

/// A field of a section of `INFO`.
async fn look(
    connection: &mut MultiplexedConnection,
    section: &str,
    field: &str,
) -> Result<String, SideError> {
    let text: String = redis::cmd("INFO").arg(section).query_async(connection).await?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.unwrap_or_default().trim().to_owned())
}

async fn has_evicted(connection: &mut MultiplexedConnection) -> Result<bool, SideError> {
    let evicted = look(connection, "stats", "evicted_keys").await?;
    Ok(!matches!(evicted.as_str(), "" | "0"))
}
