use crate::mirror::spool::SpoolError;
use crate::store::StoreError;
use crate::strategy::Condition;
use crate::upstream::SideError;

/// Why applying stopped. All of them lead to the same: spool, reconnect, go on from what
/// PostgreSQL has.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Side(#[from] SideError),
    #[error("the snapshot was cut off")]
    SnapshotCut,
    /// Another proxy has the lease.
    #[error("another proxy leads")]
    StandingBy,
    #[error("PostgreSQL has taken over from Redis")]
    Led,
    #[error("a commit task panicked")]
    Panicked,
}

impl ApplyError {
    /// What it says of PostgreSQL; `None`: nothing.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            ApplyError::Store(error) => error.condition(),
            _ => None,
        }
    }
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> ApplyError {
        match error {
            StoreError::Fenced | StoreError::Held { .. } => ApplyError::StandingBy,
            other => ApplyError::Store(other),
        }
    }
}
