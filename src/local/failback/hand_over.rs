//! The moment in which Redis gets the lead: nobody writes, and Redis has everything.

use std::time::Duration;

use bb8::ManageConnection;

use super::compare::drop_from;
use super::{Failback, FailbackError};
use crate::local::follower::Name;
use crate::store::{Position, Store};
use crate::upstream::SideManager;

/// How long Redis may take for the last changes.
const PATIENCE: Duration = Duration::from_secs(2);

impl Failback {
    /// Keys of families that live in Redis alone go: they start empty there. Nobody else may write meanwhile.
    pub async fn forget_unmirrored(&self) -> Result<(), FailbackError> {
        self.closing.set(true);
        if self.taking.get() {
            return Err(FailbackError::Late);
        }
        let names = self.follower.debts.names();
        let gone: Vec<Name> =
            names.into_iter().filter(|(_, key)| !self.families.mirrors(key)).collect();
        drop_from(&mut self.local().await?, &gone).await
    }

    /// Gives Redis the lead, when everything is committed and nobody writes any more.
    pub async fn give_back(&self, store: &Store) -> Result<(), FailbackError> {
        let given = async {
            self.follower.drained().await;
            if !self.follower.is_level() {
                return Err(FailbackError::Late);
            }
            let position = self.place().await?;
            tracing::info!(
                replid = position.replid,
                offset = position.offset,
                "Redis has everything that PostgreSQL has, and leads again"
            );
            Ok(store.give_back(&position).await?)
        };
        tokio::time::timeout(PATIENCE, given).await.unwrap_or(Err(FailbackError::Late))
    }

    /// Where Redis's stream is, behind everything that Redis has been told.
    async fn place(&self) -> Result<Position, FailbackError> {
        let mut connection = SideManager::new(self.redis.clone()).connect().await?;
        let wanted = self.put_mark(&mut connection).await?;
        while self.stream.mark() < wanted {
            self.stream.touched().await;
        }
        self.stream.place().ok_or(FailbackError::Late)
    }
}
