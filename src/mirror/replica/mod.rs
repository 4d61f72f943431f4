//! The replication client: attaches to Redis as a replica and yields what Redis sends.
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>, `replication.c` of Redis 7.

mod error;
mod event;

pub use error::ReplicaError;
pub use event::{Args, Command, Event, Resume};
