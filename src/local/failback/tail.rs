//! Redis went on from where it was left: what its stream has touched since is taken over.

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, Value};
use hashbrown::HashSet;

use super::untouched::Change;
use super::{Failback, FailbackError};
use crate::local::follower::Name;
use crate::mirror::replica::Replica;
use crate::store::Store;

/// Keys read from Redis at once.
const KEYS: usize = 200;

impl Failback {
    /// Reads the stream up to now, and takes over the keys of its commands.
    pub(super) async fn take_tail(
        &self,
        replica: &mut Replica,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), FailbackError> {
        self.read_to_mark(replica, connection).await?;
        let touched = self.stream.take_foreign();
        if !touched.is_empty() {
            tracing::info!(
                keys = touched.len(),
                "Redis has changed keys since PostgreSQL took over"
            );
        }
        let store = Store::connect(&self.config.postgres).await?;
        self.take_names(touched, connection, &store).await
    }

    /// Reads the stream up to now.
    pub(super) async fn read_to_mark(
        &self,
        replica: &mut Replica,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), FailbackError> {
        let wanted = self.put_mark(connection).await?;
        while self.stream.mark() < wanted {
            let event = replica.next().await?;
            self.pass(&event);
        }
        Ok(())
    }

    /// Takes over Redis's present values of these keys, except for those that PostgreSQL has changed too.
    pub(super) async fn take_names(
        &self,
        names: HashSet<Name>,
        connection: &mut MultiplexedConnection,
        store: &Store,
    ) -> Result<(), FailbackError> {
        if names.is_empty() {
            return Ok(());
        }
        let evicts = evicts(connection).await?;
        let names: Vec<Name> = names.into_iter().collect();
        for names in names.chunks(KEYS) {
            self.take_some(names, connection, store, evicts).await?;
        }
        Ok(())
    }

    async fn take_some(
        &self,
        names: &[Name],
        connection: &mut MultiplexedConnection,
        store: &Store,
        evicts: bool,
    ) -> Result<(), FailbackError> {
        let mut pipe = redis::pipe();
        // Redis before 7 knows no PEXPIRETIME.
        pipe.ignore_errors();
        for (db, key) in names {
            pipe.cmd("SELECT").arg(*db).ignore();
            for command in ["DUMP", "PEXPIRETIME", "PTTL"] {
                pipe.cmd(command).arg(&key[..]);
            }
        }
        pipe.cmd("SELECT").arg(0).ignore();
        let answers: Vec<Value> = pipe.query_async(connection).await?;
        let now_ms = crate::local::run::now_ms();
        let mut changes = Vec::new();
        for (name, answer) in names.iter().zip(answers.chunks_exact(3)) {
            let dump: Option<Vec<u8>> = redis::from_redis_value(answer[0].clone()).unwrap_or(None);
            let number = |answer: &Value| match answer {
                Value::Int(number) => Some(*number),
                _ => None,
            };
            let at_ms = number(&answer[1]).unwrap_or_else(|| match number(&answer[2]) {
                Some(left_ms) if left_ms >= 0 => now_ms + left_ms,
                _ => 0,
            });
            let change = match dump {
                None if evicts => continue,
                None => Change::Delete,
                Some(dump) => Change::Restore { dump, expires_at_ms: at_ms.max(0), replace: true },
            };
            changes.push((name.clone(), change));
        }
        // That its time is over is no news.
        let deleted: HashSet<Name> = changes
            .iter()
            .filter(|(_, change)| matches!(change, Change::Delete))
            .map(|(name, _)| name.clone())
            .collect();
        for name in self.change_untouched(changes).await? {
            self.follower.tell_again(&name);
            if !deleted.contains(&name) {
                self.count_conflict(store, &name).await?;
            }
        }
        Ok(())
    }
}

/// True when keys may be missing in Redis because it has evicted them.
pub(super) async fn evicts(connection: &mut MultiplexedConnection) -> Result<bool, FailbackError> {
    let mut info = redis::cmd("INFO");
    let text: String = info.arg("stats").query_async(connection).await?;
    let evicted = text.lines().find_map(|line| line.strip_prefix("evicted_keys:"));
    Ok(!matches!(evicted.map(str::trim), None | Some("0")))
}
