//! Evictions: when they can happen, and how they are told from deletes.
//!
//! With a `maxmemory` Redis deletes keys of its own accord and sends that as `DEL key` or
//! `UNLINK key`: bare, in capitals, outside of a transaction (`evict.c` of Redis 7.0; so do 6 and 7.2).
//! Such a delete is a *suspect*. [`judge::Judge`] holds the suspects of the stream against the
//! notifications of a subscribed connection, between two marks that both have seen, and renames
//! them before they enter the log: [`EVICTED`], [`DOUBTFUL`], or they stay what they are. PostgreSQL
//! keeps what was evicted.

mod judge;
mod subscription;
mod watch;
mod windows;

use std::path::PathBuf;

pub use judge::Judge;
pub use watch::keep;
pub use windows::Evictions;

use super::Shared;
use crate::config::Config;
use crate::strategy::{Gap, Presence};

/// An eviction, in the log: the key is still there for PostgreSQL.
pub const EVICTED: &[u8] = b"TANDEM.EVICTED";
/// A delete of which nobody can tell whether it was an eviction.
pub const DOUBTFUL: &[u8] = b"TANDEM.DOUBTFUL";

/// Tells the next process, before its first command, that Redis may lack keys.
fn reminder(config: &Config) -> PathBuf {
    config.mirror.spool_dir.join("redis-is-partial")
}

/// Takes up what a former process knew.
pub fn remember(shared: &Shared) {
    if reminder(&shared.config).exists() {
        shared.presence.set(Gap::Lacking, true);
    }
}

/// Redis may lack keys from now on: clients are served with care, also after a restart.
/// True when that is news.
pub fn declare(config: &Config, presence: &Presence, gap: Gap) -> bool {
    if !presence.set(gap, true) {
        return false;
    }
    tracing::info!(
        why = presence.describe(),
        "Redis may lack keys that PostgreSQL has: missing ones are brought back"
    );
    let path = reminder(config);
    if let Err(error) = std::fs::write(&path, presence.describe()) {
        tracing::warn!(%error, path = %path.display(), "a restarted proxy will not know at once that Redis may lack keys");
    }
    true
}

/// Copies that Redis lacked have been brought back to it; so says who has looked at all of them.
pub fn declare_whole(config: &Config, presence: &Presence) {
    if let Err(error) = std::fs::remove_file(reminder(config))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "Redis has everything again, which would be forgotten at the next start");
        return;
    }
    if presence.set(Gap::Lacking, false) {
        tracing::info!(keys = presence.describe(), "Redis has every key that PostgreSQL has");
    }
}
