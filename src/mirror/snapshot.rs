use tokio::sync::mpsc;

use crate::rdb;

/// What a snapshot may do to rows that PostgreSQL has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// Nothing was ever mirrored.
    First,
    /// It is at or past the stored position in the same history: rows that it lacks were deleted.
    Ahead,
    /// It comes from a Redis that lost or never had something: PostgreSQL leads.
    Foreign,
}

/// A snapshot that is being received.
#[derive(Debug)]
pub struct Snapshot {
    pub replid: String,
    /// Replication offset at which it was taken.
    pub offset: i64,
    pub lineage: Lineage,
    /// The items up to `rdb::Item::End`. When it closes before that, the snapshot is void.
    pub items: mpsc::Receiver<rdb::Item>,
}
