//! Tandem: a sidecar that speaks the Redis protocol, forwards to a real Redis and keeps PostgreSQL
//! the durable, queryable copy. `docs/design.md` is the map of these rooms.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::dbg_macro, clippy::todo)]

pub mod admin;
pub mod cli;
pub mod commands;
pub mod config;
pub mod engine;
pub mod failover;
pub mod local;
pub mod log;
pub mod mirror;
mod open_files;
mod process;
pub mod proxy;
pub mod rdb;
pub mod resp;
pub mod server;
pub mod store;
pub mod strategy;
pub mod sync;
pub mod tenure;
mod tls;
pub mod traces;
pub mod upstream;
