//! TLS: the client's side towards Redis and PostgreSQL, the server's side for clients and operators.

mod client;
mod files;
mod server;

pub use client::{authorities, client_config};
pub use files::{TlsError, TlsFiles};
pub use server::ServerTls;
