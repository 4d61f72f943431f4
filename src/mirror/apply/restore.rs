//! Brings keys from PostgreSQL back to Redis, with type and absolute expiry.

use std::sync::atomic::Ordering;

use bb8_redis::redis::{self, Value};
use bytes::Bytes;

use super::{Applier, ApplyError};
use crate::engine::{Db, Need, Part, to_object};
use crate::rdb;
use crate::store::Behind;
use crate::strategy::Gap;
use crate::upstream::SideError;

/// Keys loaded and sent at once.
const CHUNK: usize = 256;
/// Keys taken from the list at once.
const BEHIND: u32 = 4096;

impl Applier {
    /// Brings to Redis what it has otherwise since PostgreSQL led a resync, and has brought to it what it
    /// lacks, while it is served with care. What is left of it after a crash is remembered in PostgreSQL.
    pub(super) async fn catch_redis_up(&mut self) -> Result<(), ApplyError> {
        let mut restored = 0;
        loop {
            let keys = self.store.redis_behind(Behind::Differing, BEHIND).await?;
            if keys.is_empty() {
                break;
            }
            self.restore(&keys).await?;
            self.store.redis_caught_up(&keys).await?;
            restored += keys.len();
        }
        if restored > 0 {
            tracing::info!(keys = restored, "Redis has PostgreSQL's value where it had another");
        }
        if self.store.redis_lacks().await? > 0 {
            self.shared.presence.set(Gap::Warming, true);
            self.shared.warm.notify_one();
        }
        self.shared.presence.set(Gap::Unknown, false);
        Ok(())
    }

    async fn restore(&mut self, keys: &[(Db, Bytes)]) -> Result<(), ApplyError> {
        let mut restored = 0;
        for chunk in keys.chunks(CHUNK) {
            let needs: Vec<Need> = chunk
                .iter()
                .map(|(db, key)| Need { db: *db, key: key.clone(), part: Part::All })
                .collect();
            let mut pipe = redis::pipe();
            // One refused key must not hide the others' answers.
            pipe.ignore_errors();
            let mut selected = None;
            for loaded in self.store.load(&needs).await? {
                let Some(found) = loaded.found else { continue };
                let Some(object) = to_object(&found.value) else { continue };
                if selected != Some(loaded.db) {
                    pipe.cmd("SELECT").arg(loaded.db);
                    selected = Some(loaded.db);
                }
                let dump = rdb::encode_dump(&object);
                let at_ms = found.expires_at_ms.unwrap_or(0);
                let command = pipe.cmd("RESTORE").arg(&loaded.key[..]).arg(at_ms).arg(&dump[..]);
                command.arg("ABSTTL").arg("REPLACE");
                restored += 1;
            }
            if selected.is_some() {
                pipe.cmd("SELECT").arg(0);
                let mut connection = self.side.get().await?;
                // Whoever leads instead has clients write newer values.
                self.shared.tenure.lasting().await;
                let answers: Vec<Value> =
                    pipe.query_async(&mut *connection).await.map_err(SideError::from)?;
                report(&answers);
            }
        }
        self.shared.status.mirror.restored.fetch_add(restored, Ordering::Relaxed);
        Ok(())
    }
}

/// Says what Redis refused.
fn report(answers: &[Value]) {
    for answer in answers {
        if let Value::ServerError(error) = answer {
            tracing::warn!(%error, "Redis did not take a key from PostgreSQL");
        }
    }
}
