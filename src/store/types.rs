use bytes::Bytes;

use crate::engine::Db;
use crate::engine::delta::Delta;

/// How far Redis's replication stream has been applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub replid: String,
    /// Replication offset in bytes of the stream.
    pub offset: i64,
    /// Database selected in the stream at that offset.
    pub db: Db,
}

/// What one transaction brings.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub delta: Delta,
    /// `None` leaves the position as it is.
    pub position: Option<Position>,
    /// Keys that have to be read again from Redis, from now on and no longer.
    pub rereads_added: Vec<(Db, Bytes)>,
    pub rereads_done: Vec<(Db, Bytes)>,
}
