use crate::mirror::SweepError;
use crate::store::StoreError;
use crate::upstream::SideError;

/// Why a job could not do its work. A backend that fails makes the job fail: nothing is concluded from
/// silence.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SyncError {
    /// The strategy leaves nothing to do.
    #[error("{0}")]
    NotApplicable(String),
    #[error("{0}")]
    BadInput(String),
    /// Another proxy leads, and does this.
    #[error("{0}")]
    StandingBy(String),
    /// Something has to be settled first.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Redis(String),
    #[error("{0}")]
    Postgres(String),
    /// The mirror does not follow the stream, so nobody can say what PostgreSQL should have.
    #[error("{0}")]
    Mirror(String),
    #[error("the job was cancelled")]
    Cancelled,
}

impl SyncError {
    /// For programs.
    pub fn word(&self) -> &'static str {
        match self {
            SyncError::NotApplicable(_) => "not_applicable",
            SyncError::StandingBy(_) => "standing_by",
            SyncError::BadInput(_) => "bad_request",
            SyncError::Refused(_) => "refused",
            SyncError::Redis(_) => "redis_unavailable",
            SyncError::Postgres(_) => "postgres_unavailable",
            SyncError::Mirror(_) => "mirror_unavailable",
            SyncError::Cancelled => "cancelled",
        }
    }
}

impl From<SideError> for SyncError {
    fn from(error: SideError) -> SyncError {
        SyncError::Redis(error.to_string())
    }
}

impl From<bb8_redis::redis::RedisError> for SyncError {
    fn from(error: bb8_redis::redis::RedisError) -> SyncError {
        SideError::from(error).into()
    }
}

impl From<SweepError> for SyncError {
    fn from(error: SweepError) -> SyncError {
        match error {
            SweepError::Store(error) => error.into(),
            SweepError::Recall(error) => SyncError::Mirror(error.to_string()),
        }
    }
}

impl From<StoreError> for SyncError {
    fn from(error: StoreError) -> SyncError {
        SyncError::Postgres(error.to_string())
    }
}
