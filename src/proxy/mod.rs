//! The listener and the clients: each session scans its client's requests, hands most of them
//! unparsed to a lane, keeps a connection of its own where the client has state in Redis, and answers
//! itself what concerns the client's connection.

mod access;
mod activation;
mod asked;
mod block;
mod care;
mod forward;
mod listener;
mod own;
mod pinned;
mod reader;
mod registry;
mod request;
mod rights;
mod session;
mod shared;
mod slow;
mod worker;

pub use access::Access;
pub use activation::Activated;
pub use listener::{BindError, Listeners};
pub use registry::{ClientInfo, Registry};
pub use shared::Shared;
pub use worker::run_worker;
