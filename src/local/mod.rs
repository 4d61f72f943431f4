//! The local server: answers as Redis would, from PostgreSQL through the engine, for
//! `postgres_only` and `database_first`.
//!
//! It is a Redis within the process. The proxy's lanes and pinned connections reach it as they
//! reach Redis, over streams in memory, so there is one data plane: what a client may do with its connection,
//! how replies keep their order, and how a held write waits for its barrier is the same whoever answers.
//!
//! One thread owns the keyspace, as in Redis; commands are never interleaved. A command that needs
//! what is not in memory waits for [`keeper`], which talks to PostgreSQL: loads of all who wait
//! share a round trip, and everything that has changed meanwhile is one commit (group commit). The
//! barriers that come by in `PUBLISH` are committed with the changes before them; only then are
//! the replies to writes released.
//!
//! One proxy serves at a time, the one that has the lease ([`crate::tenure`]); others stand by.
//!
//! When it stands in for a Redis that is gone, Redis gets the lead back ([`failback`]).
//!
//! In `database_first` a Redis follows what is committed ([`follower`]), and answers reads when
//! PostgreSQL is gone ([`away`]).
//!
//! When PostgreSQL fails, the *period* ends: all connections are closed, so that every command in
//! flight gets an error that says that its fate is unknown, memory is forgotten, and connections are refused
//! until PostgreSQL is back.

mod acl;
mod admin;
mod away;
mod blocked;
mod busy;
mod caching;
mod channels;
mod command;
mod config;
mod failback;
mod follower;
mod greeting;
mod info;
mod keeper;
mod latency;
mod link;
mod members;
mod notify;
mod office;
mod parameters;
mod pause;
mod peer;
mod period;
mod redact;
mod run;
mod server;
mod session;
mod slowlog;
mod statistics;
mod tracking;
mod transaction;
mod users;
mod walk;
mod watched;
mod wire;

pub use server::{FailoverLink, LocalServer, LocalState, StartError};
