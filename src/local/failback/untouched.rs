//! What Redis has done is taken over only where no client has changed the key since PostgreSQL took over: a change
//! that is not committed yet is no debt yet, and must not be overwritten either.

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, Value};

use super::{Failback, FailbackError};
use crate::local::follower::Name;

/// Keys changed together.
const KEYS: usize = 200;

/// What becomes of a key.
pub(super) enum Change {
    Restore {
        dump: Vec<u8>,
        /// Unix time in ms; 0: never.
        expires_at_ms: i64,
        /// Also where PostgreSQL has a value.
        replace: bool,
    },
    Delete,
}

impl Failback {
    /// Has the engine make these changes, as a client's commands; the keys that clients have changed, which are left alone.
    pub(super) async fn change_untouched(
        &self,
        changes: Vec<(Name, Change)>,
    ) -> Result<Vec<Name>, FailbackError> {
        let mut touched = Vec::new();
        let mut local = self.local().await?;
        for some in changes.chunks(KEYS) {
            if self.change_some(&mut local, some, &mut touched).await? {
                continue;
            }
            for one in some.chunks(1) {
                if !self.change_some(&mut local, one, &mut touched).await? {
                    touched.push(one[0].0.clone());
                }
            }
        }
        Ok(touched)
    }

    /// False: somebody changes one of the keys at this moment, and nothing was done.
    async fn change_some(
        &self,
        local: &mut MultiplexedConnection,
        changes: &[(Name, Change)],
        touched: &mut Vec<Name>,
    ) -> Result<bool, FailbackError> {
        let source = self.gate.source();
        let mut watcher = source.watcher();
        let (number, message) = source.issue_numbered();
        let mut pipe = redis::pipe();
        for ((db, key), _) in changes {
            pipe.cmd("SELECT").arg(*db).ignore().cmd("WATCH").arg(&key[..]).ignore();
        }
        pipe.cmd("PUBLISH").arg(self.gate.channel()).arg(message).ignore();
        pipe.exec_async(local).await?;
        // Changes from before the keys are watched are committed, and so are debts.
        while !source.reached(number) {
            if !watcher.changed().await {
                return Err(FailbackError::Late);
            }
        }
        let is_touched =
            |name: &Name| self.follower.debts.has(name) && !self.taken.borrow().contains(name);
        let (left, rest): (Vec<_>, Vec<_>) = changes.iter().partition(|(name, _)| is_touched(name));
        if rest.is_empty() {
            redis::cmd("UNWATCH").exec_async(local).await?;
            touched.extend(left.into_iter().map(|(name, _)| name.clone()));
            return Ok(true);
        }
        let mut pipe = redis::pipe();
        pipe.atomic().ignore_errors();
        for ((db, key), change) in &rest {
            pipe.cmd("SELECT").arg(*db).ignore();
            match change {
                Change::Delete => drop(pipe.cmd("UNLINK").arg(&key[..])),
                Change::Restore { dump, expires_at_ms, replace } => {
                    let restore = pipe.cmd("RESTORE").arg(&key[..]).arg(*expires_at_ms);
                    restore.arg(&dump[..]).arg("ABSTTL");
                    if *replace {
                        restore.arg("REPLACE");
                    }
                }
            }
        }
        // Said before: its commit makes them debts.
        let mut new = Vec::new();
        for (name, _) in &rest {
            if self.taken.borrow_mut().insert(name.clone()) {
                new.push(name);
            }
        }
        let answer: Value = pipe.query_async(local).await?;
        if answer == Value::Nil {
            let mut taken = self.taken.borrow_mut();
            for name in new {
                taken.remove(name);
            }
            return Ok(false);
        }
        if let Value::Array(answers) = answer {
            for answer in answers {
                if let Value::ServerError(error) = answer
                    && error.code() != "BUSYKEY"
                {
                    tracing::warn!(%error, "a key of Redis could not be taken over");
                }
            }
        }
        touched.extend(left.into_iter().map(|(name, _)| name.clone()));
        Ok(true)
    }
}
