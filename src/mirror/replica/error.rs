use std::time::Duration;

use crate::rdb::RdbError;
use crate::upstream::ConnectError;

/// Why the replication link could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("Redis refused the user or password in redis.url: {0}")]
    Auth(String),
    #[error(
        "Redis does not let this user replicate ({0}); grant it: ACL SETUSER <user> +psync +replconf +ping"
    )]
    NotPermitted(String),
    /// `LOADING`, `MASTERDOWN`, `NOMASTERLINK` and the like: it passes.
    #[error("Redis is not ready to feed a replica: {0}")]
    NotReady(String),
    #[error("this server cannot feed a replica: {0}")]
    Unsupported(String),
    #[error("Redis closed the replication link")]
    Closed,
    #[error("replication link: {0}")]
    Io(#[from] std::io::Error),
    #[error("nothing came over the replication link for {0:?}")]
    Timeout(Duration),
    #[error("replication stream at offset {offset}: {problem}")]
    Protocol { offset: i64, problem: String },
    #[error("snapshot of Redis, {0}")]
    Rdb(#[from] RdbError),
}

impl ReplicaError {
    /// True when Redis, or the way to it, has gone, or it is about to begin.
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            ReplicaError::Connect(_)
                | ReplicaError::NotReady(_)
                | ReplicaError::Closed
                | ReplicaError::Io(_)
        )
    }

    /// True when trying again may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            ReplicaError::Connect(error) => error.is_transient(),
            ReplicaError::Auth(_)
            | ReplicaError::NotPermitted(_)
            | ReplicaError::Unsupported(_)
            | ReplicaError::Rdb(_) => false,
            ReplicaError::NotReady(_)
            | ReplicaError::Closed
            | ReplicaError::Io(_)
            | ReplicaError::Timeout(_)
            | ReplicaError::Protocol { .. } => true,
        }
    }
}
