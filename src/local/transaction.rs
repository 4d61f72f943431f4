//! MULTI and EXEC. Source: <https://redis.io/docs/manual/transactions/>.

use bytes::Bytes;

use super::keeper::Gone;
use super::run::{patiently, too_small};
use super::session::Session;
use crate::engine::{Need, Stop};
use crate::resp::Reply;

/// Tries of a transaction that finds something missing each time.
const MAX_LOADS: usize = 1000;

/// A transaction that is being put together.
#[derive(Debug, Default)]
pub(super) struct Multi {
    pub queued: Vec<Vec<Bytes>>,
    /// A command was refused: EXEC will fail.
    pub broken: bool,
}

impl Session {
    pub fn begin(&mut self) {
        if self.multi.is_some() {
            return self.answer(&Reply::error("ERR MULTI calls can not be nested"));
        }
        self.multi = Some(Multi::default());
        self.answer(&Reply::OK);
    }

    pub fn discard(&mut self) {
        if self.multi.take().is_none() {
            return self.answer(&Reply::error("ERR DISCARD without MULTI"));
        }
        self.unwatch();
        self.answer(&Reply::OK);
    }

    pub async fn exec(&mut self) -> Result<(), Gone> {
        let Some(multi) = self.multi.take() else {
            self.answer(&Reply::error("ERR EXEC without MULTI"));
            return Ok(());
        };
        if multi.broken {
            self.unwatch();
            self.answer(&Reply::error(
                "EXECABORT Transaction discarded because of previous errors.",
            ));
            return Ok(());
        }
        let ended = self.run_queued(&multi.queued).await;
        self.unwatch();
        ended
    }

    async fn run_queued(&mut self, queued: &[Vec<Bytes>]) -> Result<(), Gone> {
        self.know(self.watched.iter().map(|watched| (watched.db, &watched.key))).await?;
        self.period.load_ahead(queued.iter().map(|args| (self.db, &args[..]))).await?;
        let db = self.db;
        for tries in 0..MAX_LOADS {
            // Both are looked at in the step in which the commands run.
            if self.is_disturbed() {
                self.answer(&Reply::NilArray);
                return Ok(());
            }
            match self.try_all(queued) {
                Ok(replies) => {
                    self.answer(&Reply::Array(replies));
                    return Ok(());
                }
                Err(mut needs) => {
                    self.db = db;
                    patiently(tries, &mut needs);
                    self.period.load(needs).await?;
                }
            }
        }
        self.answer(&too_small());
        Ok(())
    }

    /// Runs the commands one behind the other; when something is missing, none of them has run.
    fn try_all(&mut self, queued: &[Vec<Bytes>]) -> Result<Vec<Reply>, Vec<Need>> {
        let savepoint = self.period.keyspace.borrow_mut().savepoint();
        let mut replies = Vec::with_capacity(queued.len());
        for args in queued {
            match self.try_run(args) {
                Ok(reply) => replies.push(reply),
                Err(Stop::Error(text)) => replies.push(Reply::Error(text)),
                Err(Stop::NotLoaded(needs)) => {
                    self.period.keyspace.borrow_mut().rollback(savepoint);
                    return Err(needs);
                }
            }
        }
        self.period.keyspace.borrow_mut().release(savepoint);
        Ok(replies)
    }
}
