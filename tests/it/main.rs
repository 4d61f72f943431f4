//! Integration tests: real Redis, real PostgreSQL, the built binary. One file per subject, one binary
//! for all (linking is the slow part). The guards and the client come from `tests/support`.
#![allow(clippy::disallowed_methods, reason = "tests block their own thread only")]

mod acknowledge;
mod admin;
mod cache;
mod chaos;
mod clients;
mod comparer;
mod converge;
mod crash;
mod database_first;
mod drain;
mod engine;
mod engine_like_redis;
mod evict;
mod failover;
mod flush;
mod guarded;
mod harness;
mod hostile;
mod lease;
mod lockstep;
mod mirror;
mod monitoring;
mod on_unavailable;
mod plane;
mod process;
mod rdb;
mod rdb_values;
mod relay;
mod replica;
mod scanner;
mod sentinel;
mod served;
mod served_events;
mod served_server;
mod several;
mod store;
mod sync;
mod tls;
mod tls_clients;
mod unknown;
mod users;
mod views;
mod walks;
mod warming;
