//! Connections to Redis: the lanes that clients of a worker share, the connections that one client
//! has for itself, and what the replication link is built on. Replies of lanes go to the outbox of
//! the client that asked, in order.
//!
//! Lanes and what belongs to them live on one worker's thread, so they share by `Rc` and `Cell`.

mod backoff;
mod barrier;
mod chunks;
mod condition;
mod conn;
mod connect;
mod deliver;
mod driver;
mod handshake;
mod lost;
mod outbox;
mod pace;
mod peer;
mod pending;
mod pool;
mod pubsub;
mod route;
mod secure;
mod sentinel;
mod side;
mod sides;
mod stopwatch;
mod stream;
mod traced;

pub use backoff::Backoff;
pub use barrier::{Hold, Source};
pub use conn::Conn;
pub use connect::{ConnectError, Connector, connect};
pub use handshake::{Credentials, OpenError, ServerFacts};
pub use lost::Lost;
pub use outbox::{ClientWriter, Outbox};
pub use pace::Pace;
pub use peer::{Keying, Peer, SECURE, proof};
pub use pending::{Captured, Target};
pub use pool::{Context, Key, Pool};
pub use pubsub::{Confirmation, Subscriptions, Watching};
pub use route::{Leave, Local, Route, To, Turn};
pub use secure::Secure;
pub use side::{SideError, SideManager, SidePool, Subscriber};
pub use sides::Sides;
pub use stream::Stream;
