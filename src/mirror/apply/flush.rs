//! Flushes: what clients send through a proxy counts; of others the configuration says what they do.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Applier, ApplyError};
use crate::commands::is_meant_flush;
use crate::config::Flush;
use crate::engine::Db;
use crate::store::Flushed;
use crate::strategy::Gap;

impl Applier {
    pub(super) async fn run_flush(&mut self, db: Db, args: &[Bytes]) -> Result<(), ApplyError> {
        let Some(name) = args.first() else { return Ok(()) };
        if is_meant_flush(name) {
            return self.run_command(db, args).await;
        }
        let shared = &self.shared;
        let command = name.to_ascii_uppercase();
        let all = command == b"FLUSHALL";
        shared.status.mirror.foreign_flushes.fetch_add(1, Ordering::Relaxed);
        let command = command.escape_ascii();
        match shared.config.mirror.flush {
            Flush::Apply => {
                tracing::warn!(%command, db, "Redis was flushed past the proxies; PostgreSQL is flushed too");
                self.run_command(db, args).await
            }
            Flush::Ignore => {
                tracing::warn!(
                    %command, db,
                    "Redis was flushed past the proxies; PostgreSQL keeps its rows, and Redis is filled from them again"
                );
                // From here on clients are served with care; the rest follows the commit.
                shared.presence.set(Gap::Warming, true);
                self.flushed.push(if all { Flushed::All } else { Flushed::Db(db) });
                Ok(())
            }
        }
    }
}
