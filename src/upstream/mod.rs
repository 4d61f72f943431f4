//! Connections to Redis. The lanes, pinned connections and the replication link are built on these.

mod backoff;
mod connect;
mod side;
mod stream;

pub use backoff::Backoff;
pub use connect::{ConnectError, Connector, connect};
pub use side::{SideError, SidePool};
pub use stream::Stream;
