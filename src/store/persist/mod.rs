//! Commits: everything that a delta changed and the position that it reaches, in one transaction.
//! Ordinary changes go out as one pipeline from BEGIN to COMMIT, in one round trip.

mod batch;
mod changes;
mod flush;
mod statements;
mod streams;

use std::time::Duration;

pub use statements::Statements;

use super::session::{Param, Pipeline, Session};
use super::{Commit, StoreError, db_column};
use crate::engine::Db;
use crate::engine::delta::Step;
use batch::Batch;
use bytes::Bytes;

/// PostgreSQL is given this much longer for each megabyte that is written.
const PER_MEGABYTE: Duration = Duration::from_millis(100);
/// Flushes and swaps touch as many rows as there are.
const WHOLE_TABLES: Duration = Duration::from_secs(3600);

pub async fn persist(
    session: &Session,
    statements: &Statements,
    epoch: i64,
    commit: &Commit,
) -> Result<(), StoreError> {
    let mut pipeline = session.pipeline();
    pipeline.send(&statements.begin, vec![]);
    send_position(&mut pipeline, statements, epoch, commit);
    let mut bytes = 0;
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
    send_rereads(&mut pipeline, statements, commit)?;
    pipeline.send(&statements.commit, vec![]);
    let answered = session.within(limit(session, bytes), pipeline.finish()).await;
    answered.map_err(StoreError::during_commit)
}

fn limit(session: &Session, bytes: usize) -> Duration {
    session.timeout() + PER_MEGABYTE * u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

fn send<'a>(pipeline: &mut Pipeline<'a>, calls: Vec<batch::Call<'a>>) -> usize {
    let mut bytes = 0;
    for call in calls {
        bytes += call.bytes;
        pipeline.send(call.statement, call.params);
    }
    bytes
}

/// The position goes first: it is what tells an earlier writer that it is not the writer any more.
fn send_position<'a>(
    pipeline: &mut Pipeline<'a>,
    statements: &Statements,
    epoch: i64,
    commit: &'a Commit,
) {
    match &commit.position {
        None => pipeline.send(&statements.fence, vec![Box::new(epoch)]),
        Some(position) => {
            let params: Vec<Param<'_>> = vec![
                Box::new(epoch),
                Box::new(&position.replid),
                Box::new(position.offset),
                Box::new(db_column(position.db)),
            ];
            pipeline.send(&statements.position, params);
        }
    }
}

fn send_rereads<'a>(
    pipeline: &mut Pipeline<'a>,
    statements: &'a Statements,
    commit: &'a Commit,
) -> Result<(), StoreError> {
    let mut calls = Vec::new();
    // Done first: a key that is done and added again has to be read again.
    let lists = [
        (&commit.rereads_done, &statements.rereads_remove),
        (&commit.rereads_added, &statements.rereads_add),
    ];
    for (keys, statement) in lists {
        let mut batch = Batch::new(statement);
        for (db, key) in keys as &[(Db, Bytes)] {
            batch.add(key.len(), (db_column(*db), &key[..]));
        }
        batch.finish(&mut calls)?;
    }
    send(pipeline, calls);
    Ok(())
}
