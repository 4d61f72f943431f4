//! Where Redis's stream is, told when nobody writes: the position from which a mirror can go on.

use std::time::Duration;

use bb8::ManageConnection;
use bb8_redis::redis;

use super::Failover;
use crate::mirror::head;
use crate::mirror::replica::{Event, Replica, ReplicaError, Resume};
use crate::store::Position;
use crate::upstream::{SideError, SideManager};

/// How long Redis may take to tell.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(transparent)]
    Side(#[from] SideError),
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error("the replication link says something unexpected")]
    Link,
    #[error("Redis did not answer within {PATIENCE:?}")]
    Late,
}

impl Failover {
    /// Behind everything that Redis has been told. No database but the first is selected there.
    pub(super) async fn place(&self) -> Result<Position, PlaceError> {
        tokio::time::timeout(PATIENCE, self.look_for_place()).await.unwrap_or(Err(PlaceError::Late))
    }

    async fn look_for_place(&self) -> Result<Position, PlaceError> {
        let mut connection = SideManager::new(self.redis.clone()).connect().await?;
        let (replid, offset) = head(&mut connection).await?;
        let mut replica = Replica::attach(&self.redis, Some(Resume { replid, offset })).await?;
        match replica.next().await? {
            // The stream goes on behind its snapshot with a SELECT.
            Event::FullResync { replid, offset } => Ok(Position { replid, offset, db: 0 }),
            Event::Continue { replid, .. } => {
                // What is published by a connection to the first database has that selected before.
                let channel = format!("__tandem:place:{:016x}", rand::random::<u64>());
                redis::cmd("PUBLISH").arg(&channel).arg("").exec_async(&mut connection).await?;
                loop {
                    if let Event::Command(command) = replica.next().await?
                        && command.args.get(1).is_some_and(|word| *word == channel.as_bytes())
                    {
                        return Ok(Position { replid, offset: command.end_offset, db: 0 });
                    }
                }
            }
            _ => Err(PlaceError::Link),
        }
    }

    /// How far Redis is, as an offset of its stream.
    pub(super) async fn offset(&self) -> Result<i64, PlaceError> {
        let ask = async {
            let mut connection = SideManager::new(self.redis.clone()).connect().await?;
            Ok(head(&mut connection).await?.1)
        };
        tokio::time::timeout(PATIENCE, ask).await.unwrap_or(Err(PlaceError::Late))
    }
}
