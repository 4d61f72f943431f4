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

/// Stands for the replication id where no stream was applied: PostgreSQL led.
const POSTGRES: &str = "postgres";

impl Position {
    /// PostgreSQL leads, and the Redis with this `run_id` has everything that it has.
    pub fn led_by_postgres(run_id: Option<&str>) -> Position {
        let replid = match run_id {
            Some(run_id) => format!("{POSTGRES}:{run_id}"),
            None => POSTGRES.to_owned(),
        };
        Position { replid, ..Position::default() }
    }

    /// Outer `None`: Redis led. Otherwise the `run_id` of the Redis that has everything, if one has.
    pub fn follower(&self) -> Option<Option<&str>> {
        match self.replid.strip_prefix(POSTGRES)? {
            "" => Some(None),
            rest => Some(rest.strip_prefix(':')),
        }
    }
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
    /// Keys that Redis, which is gone, lacks from now on.
    pub redis_lacks: Vec<(Db, Bytes)>,
    /// Redis lacks more than single keys.
    pub redis_lacks_all: bool,
    /// Redis was flushed and the rows stay: it lacks them now.
    pub flushed: Vec<Flushed>,
}

/// What was flushed in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    All,
    Db(Db),
}
