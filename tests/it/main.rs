//! Integration tests: real Redis, real PostgreSQL, the built binary. One file per subject, one binary
//! for all (linking is the slow part). The guards and the client come from `tests/support`.
#![allow(clippy::disallowed_methods, reason = "tests block their own thread only")]

mod acknowledge;
mod admin;
mod cache;
mod clients;
mod comparer;
mod converge;
mod crash;
mod database_first;
mod drain;
mod engine;
mod engine_like_redis;
mod evict;
mod guarded;
mod harness;
mod hostile;
mod lease;
mod lockstep;
mod mirror;
mod plane;
mod rdb;
mod rdb_values;
mod relay;
mod replica;
mod scanner;
mod served;
mod served_events;
mod served_server;
mod store;
mod tls;
mod unknown;
mod users;
mod walks;
mod warming;
