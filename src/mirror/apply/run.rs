//! Runs batches in the engine, loading what they need.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::plan::{Batch, Mark, Work};
use super::route::{KeyUse, Route, keys_of, route, swapped};
use super::{Applier, ApplyError};
use crate::engine::{self, Call, Db, Need, Stop};
use crate::resp::Protocol;

/// A command may stop for a need this many times; every load brings what was asked for, so only a
/// defect gets here.
const MAX_LOADS: usize = 64;

impl Applier {
    /// Runs a batch in the engine.
    pub(super) async fn run_batch(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        if let Some(at_ms) = batch.oldest_at_ms() {
            // Expiry follows the stream; only times of seeing a consumer are taken from this clock.
            self.keyspace.now_ms = at_ms;
        }
        self.load_ahead(batch).await?;
        for work in &batch.work {
            match *work {
                Work::Command { db, index } => {
                    self.run_command(db, &batch.received[index].args).await?;
                }
                Work::Reread(mark) => self.take_reread(mark).await?,
                Work::Doubtful { db, index } => {
                    self.run_doubtful(db, &batch.received[index].args).await?;
                }
                Work::Recall(number) => self.answer_recall(number).await?,
                Work::Flush { db, index } => {
                    self.run_flush(db, &batch.received[index].args).await?;
                }
            }
        }
        Ok(())
    }

    /// Loads what the batch will probably need in one round trip.
    async fn load_ahead(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        let mut needs: Vec<Need> = Vec::new();
        let mut missing: hashbrown::HashSet<Need> = hashbrown::HashSet::new();
        for work in &batch.work {
            let Work::Command { db, index } = *work else { continue };
            needs.clear();
            engine::needs(db, &batch.received[index].args, &mut needs);
            let families = &self.shared.families;
            missing.extend(
                needs
                    .iter()
                    .filter(|need| families.mirrors(&need.key))
                    .filter_map(|n| self.keyspace.lacks(n)),
            );
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.load(&missing.into_iter().collect::<Vec<_>>()).await
    }

    /// Loads from PostgreSQL. A load never overtakes a commit.
    pub(super) async fn load(&mut self, needs: &[Need]) -> Result<(), ApplyError> {
        self.settle().await?;
        for loaded in self.store.load(needs).await? {
            self.keyspace.load(loaded);
        }
        Ok(())
    }

    pub(super) async fn run_command(&mut self, db: Db, args: &[Bytes]) -> Result<(), ApplyError> {
        let families = &self.shared.families;
        if families.mirrors_everything() && self.rereads.is_idle() {
            return self.execute(db, args).await;
        }
        if let Some((a, b)) = swapped(args) {
            self.rereads.swap(a, b);
        }
        let keys = keys_of(db, args);
        match route(args, &keys, families, &self.rereads) {
            Route::Run => self.execute(db, args).await,
            Route::Skip => Ok(()),
            Route::RunWith(args) => self.execute(db, &args).await,
            Route::Reread(keys) => {
                keys.iter().for_each(|(db, key)| self.reread(*db, key));
                Ok(())
            }
        }
    }

    async fn execute(&mut self, db: Db, args: &[Bytes]) -> Result<(), ApplyError> {
        for _ in 0..MAX_LOADS {
            let call = Call { db, protocol: Protocol::Resp2, args, from_log: true };
            match engine::execute(&mut self.keyspace, &call) {
                Ok(_) => return Ok(()),
                Err(Stop::NotLoaded(needs)) => self.load(&needs).await?,
                Err(Stop::Error(error)) => return self.not_understood(db, args, &error).await,
            }
        }
        self.not_understood(db, args, "it asks for more and more").await
    }

    /// The engine does not know the command, or sees another state than Redis did: the keys are
    /// read again from Redis.
    async fn not_understood(
        &mut self,
        db: Db,
        args: &[Bytes],
        why: &str,
    ) -> Result<(), ApplyError> {
        let mirror = &self.shared.status.mirror;
        mirror.unknown_commands.fetch_add(1, Ordering::Relaxed);
        let command = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        let mut keys: Vec<KeyUse> =
            keys_of(db, args).into_iter().filter(|(.., writes)| *writes).collect();
        if keys.is_empty() {
            keys =
                self.rereads.keys_of(args).await.into_iter().map(|key| (db, key, true)).collect();
        }
        tracing::warn!(
            command,
            why,
            keys = keys.len(),
            "a command of the stream is not understood; its keys are read again from Redis"
        );
        for (db, key, _) in keys {
            if self.shared.families.mirrors(&key) {
                self.reread(db, &key);
            }
        }
        Ok(())
    }

    pub(super) fn reread(&mut self, db: Db, key: &Bytes) {
        if self.rereads.start(db, key) {
            self.shared.status.mirror.rereads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The place of a re-read has come by.
    async fn take_reread(&mut self, mark: Mark) -> Result<(), ApplyError> {
        let Some((db, key, state)) = self.rereads.arrived(mark).await else { return Ok(()) };
        for _ in 0..MAX_LOADS {
            let need = Need { db, key: key.clone(), part: engine::Part::Meta };
            if let Some(need) = self.keyspace.lacks(&need) {
                self.load(&[need]).await?;
            }
            let result = match &state {
                None => self.keyspace.remove(db, &key).map(|_| ()),
                Some((object, expires_at_ms)) => {
                    let value = engine::Value::from(object.clone());
                    self.keyspace.put(db, &key, value, *expires_at_ms)
                }
            };
            if result.is_ok() {
                return Ok(());
            }
        }
        tracing::error!(db, key = %key.escape_ascii(), "a key that was read again cannot be taken over; it is read once more");
        self.reread(db, &key);
        Ok(())
    }
}
