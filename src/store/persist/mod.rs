//! Commits: everything that a delta changed and the position that it reaches, in one transaction.
//! Ordinary changes go out as one statement, larger ones as one pipeline from BEGIN to COMMIT; both
//! take one round trip.

mod at_once;
mod batch;
mod changes;
mod flush;
mod statements;
mod streams;

use std::time::Duration;

use self::at_once::AtOnce;
use super::session::{Param, Pipeline, Session};
use super::{Commit, StoreError, db_column};
use crate::engine::Db;
use crate::engine::delta::Step;
use batch::{Batch, Call};
use bytes::Bytes;
pub(super) use flush::drop_keys;
use statements::Statements;

/// PostgreSQL is given this much longer for each megabyte that is written.
const PER_MEGABYTE: Duration = Duration::from_millis(100);
/// Flushes and swaps touch as many rows as there are.
const WHOLE_TABLES: Duration = Duration::from_secs(3600);

/// What a session needs to commit, prepared once.
pub struct Prepared {
    statements: Statements,
    at_once: Option<AtOnce>,
}

impl Prepared {
    pub async fn new(session: &Session) -> Result<Prepared, StoreError> {
        let statements = session.run(Statements::prepare(session.client())).await?;
        let at_once = session.run(AtOnce::prepare(session, &statements)).await?;
        Ok(Prepared { statements, at_once })
    }
}

pub async fn persist(
    session: &Session,
    prepared: &Prepared,
    epoch: i64,
    commit: &Commit,
) -> Result<(), StoreError> {
    let statements = &prepared.statements;
    let changes = match &commit.delta.steps[..] {
        _ if !commit.flushed.is_empty() => {
            return in_steps(session, statements, epoch, commit).await;
        }
        [] => Vec::new(),
        [Step::Changes(changes)] => changes::calls(statements, changes)?,
        _ => return in_steps(session, statements, epoch, commit).await,
    };
    let mut calls = vec![position(statements, epoch, commit)];
    calls.extend(changes);
    calls.extend(rereads(statements, commit)?);
    let bytes = calls.iter().map(|call| call.bytes).sum();
    let calls = match &prepared.at_once {
        None => calls,
        Some(at_once) => match at_once::parameters(statements, calls) {
            Ok(params) => {
                let answered = session.client().execute_raw(at_once.statement(), params);
                let answered = session.within(limit(session, bytes), answered).await;
                return answered.map(drop).map_err(StoreError::during_commit);
            }
            Err(calls) => calls,
        },
    };
    let mut pipeline = session.pipeline();
    pipeline.send(&statements.begin, vec![]);
    send(&mut pipeline, calls);
    pipeline.send(&statements.commit, vec![]);
    let answered = session.within(limit(session, bytes), pipeline.finish()).await;
    answered.map_err(StoreError::during_commit)
}

/// Changes between which whole databases are flushed or swapped, or functions change.
async fn in_steps(
    session: &Session,
    statements: &Statements,
    epoch: i64,
    commit: &Commit,
) -> Result<(), StoreError> {
    let mut pipeline = session.pipeline();
    pipeline.send(&statements.begin, vec![]);
    let mut bytes = send(&mut pipeline, vec![position(statements, epoch, commit)]);
    for step in &commit.delta.steps {
        match step {
            Step::Changes(changes) => {
                // Nothing has been committed yet: an error here rolls everything back.
                let calls = changes::calls(statements, changes);
                match calls {
                    Ok(calls) => bytes += send(&mut pipeline, calls),
                    Err(error) => {
                        pipeline.send(&statements.rollback, vec![]);
                        session.run(pipeline.finish()).await?;
                        return Err(error);
                    }
                }
            }
            Step::Function(name, Some(source)) => {
                let params: Vec<Param<'_>> = vec![Box::new(&name[..]), Box::new(&source[..])];
                pipeline.send(&statements.function_put, params);
            }
            Step::Function(name, None) => {
                pipeline.send(&statements.function_delete, vec![Box::new(&name[..])]);
            }
            Step::FlushFunctions => pipeline.send(&statements.functions_flush, vec![]),
            Step::FlushDb(_) | Step::FlushAll | Step::SwapDb(..) => {
                let sent = std::mem::replace(&mut pipeline, session.pipeline());
                let done = async {
                    session.within(limit(session, bytes), sent.finish()).await?;
                    session.within(WHOLE_TABLES, flush::run(session, statements, step)).await
                };
                if let Err(error) = done.await {
                    pipeline.send(&statements.rollback, vec![]);
                    // The first error says more than what follows from it.
                    let _ = session.run(pipeline.finish()).await;
                    return Err(error);
                }
                bytes = 0;
            }
        }
    }
    if !commit.flushed.is_empty() {
        let sent = std::mem::replace(&mut pipeline, session.pipeline());
        let done = async {
            session.within(limit(session, bytes), sent.finish()).await?;
            session.within(WHOLE_TABLES, flush::redis_lacks(session, &commit.flushed)).await
        };
        if let Err(error) = done.await {
            pipeline.send(&statements.rollback, vec![]);
            let _ = session.run(pipeline.finish()).await;
            return Err(error);
        }
        bytes = 0;
    }
    send(&mut pipeline, rereads(statements, commit)?);
    pipeline.send(&statements.commit, vec![]);
    let answered = session.within(limit(session, bytes), pipeline.finish()).await;
    answered.map_err(StoreError::during_commit)
}

fn limit(session: &Session, bytes: usize) -> Duration {
    session.timeout() + PER_MEGABYTE * u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

fn send<'a>(pipeline: &mut Pipeline<'a>, calls: Vec<Call<'a>>) -> usize {
    let mut bytes = 0;
    for call in calls {
        bytes += call.bytes;
        pipeline.send(call.statement, call.params);
    }
    bytes
}

/// The position goes first: it is what tells an earlier writer that it is not the writer any more.
fn position<'a>(statements: &'a Statements, epoch: i64, commit: &'a Commit) -> Call<'a> {
    let Some(position) = &commit.position else {
        return Call { statement: &statements.fence, params: vec![Box::new(epoch)], bytes: 0 };
    };
    let params: Vec<Param<'_>> = vec![
        Box::new(epoch),
        Box::new(&position.replid),
        Box::new(position.offset),
        Box::new(db_column(position.db)),
    ];
    Call { statement: &statements.position, params, bytes: 0 }
}

fn rereads<'a>(
    statements: &'a Statements,
    commit: &'a Commit,
) -> Result<Vec<Call<'a>>, StoreError> {
    let mut calls = Vec::new();
    // Done first: a key that is done and added again has to be read again.
    let lists = [
        (&commit.rereads_done, &statements.rereads_remove),
        (&commit.rereads_added, &statements.rereads_add),
        (&commit.redis_lacks, &statements.redis_lacks),
    ];
    for (keys, statement) in lists {
        let mut batch = Batch::new(statement);
        for (db, key) in keys as &[(Db, Bytes)] {
            batch.add(key.len(), (db_column(*db), &key[..]));
        }
        batch.finish(&mut calls)?;
    }
    if commit.redis_lacks_all {
        calls.push(Call { statement: &statements.redis_lacks_all, params: Vec::new(), bytes: 0 });
    }
    Ok(calls)
}
