use bytes::Bytes;
use smallvec::SmallVec;

use crate::rdb;

/// The words of one command.
pub type Args = SmallVec<[Bytes; 5]>;

/// A position in the history of a data set.
///
/// After a partial resync Redis does not repeat `SELECT`: who resumes must also know the database
/// that was selected at this offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Replication id: 40 hex digits.
    pub replid: String,
    /// Bytes of the stream that have been applied.
    pub offset: i64,
}

/// A command of the replication stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Never empty. Slices of the read buffer: copy what is kept for long.
    pub args: Args,
    /// Replication offset behind the last byte of the command.
    pub end_offset: i64,
}

/// What the replication client yields, in the order of the link:
/// `FullResync`, `Rdb` items up to [`rdb::Item::End`], then `Command` and `KeepAlive`;
/// or `Continue`, then `Command` and `KeepAlive`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A snapshot follows, taken at `offset` of history `replid`.
    FullResync {
        replid: String,
        offset: i64,
    },
    /// One item of the snapshot.
    Rdb(rdb::Item),
    /// The stream goes on behind the offset asked for. `replid` is the one asked for, or the new one after a failover.
    Continue {
        replid: String,
        offset: i64,
    },
    Command(Command),
    /// `PING` or `REPLCONF GETACK`: no effect, but the offset moves. Never inside a transaction.
    KeepAlive {
        end_offset: i64,
    },
}
