//! Whole values for Redis: of keys that it has otherwise, or of all there are.

use std::time::{Duration, Instant};

use bb8_redis::redis::Cmd;
use bytes::Bytes;

use super::translate::{Plan, words};
use super::{Follower, Name, Refill, Run};
use crate::commands::MEANT_FLUSH_ALL;
use crate::engine::{Need, Part, to_object};
use crate::rdb;
use crate::store::{Store, StoreError};

/// Keys loaded at once, so that clients who wait for PostgreSQL wait for few.
const KEYS: usize = 200;
/// When a Redis that refuses what it is sent is asked again.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

impl Follower {
    /// Sends a part of what Redis lacks; false when there is nothing, or no room for it. Not while a
    /// commit is under way: what is read here must be older than what is queued later.
    pub async fn catch_up(&self, store: &Store) -> Result<bool, StoreError> {
        if !self.connected.get()
            || self.reserved.get()
            || self.is_full()
            || Instant::now() < self.not_before.get()
        {
            return Ok(false);
        }
        match self.refill.get() {
            Refill::Due => {
                tracing::info!("Redis is emptied and filled from PostgreSQL");
                self.refill.set(Refill::Until(0));
                self.refilled.set(0);
                let mut plan = Plan::default();
                plan.whole(0, words(&[MEANT_FLUSH_ALL]));
                plan.whole(0, words(&["FUNCTION", "FLUSH"]));
                for (_, source) in store.functions().await? {
                    let mut load = words(&["FUNCTION", "LOAD"]);
                    load.arg(&source[..]);
                    plan.whole(0, load);
                }
                self.enqueue(plan.runs);
            }
            Refill::Until(id) => {
                let keys = store.keys_after(id, KEYS).await?;
                let Some((last, ..)) = keys.last() else {
                    self.refill.set(Refill::None);
                    tracing::info!(keys = self.refilled.get(), "Redis is filled");
                    self.report();
                    return Ok(true);
                };
                let last = *last;
                self.refilled.set(self.refilled.get() + keys.len() as u64);
                let names = keys.into_iter().map(|(_, db, key)| (db, key)).collect();
                self.send_whole(store, names).await?;
                // A command that was refused meanwhile may have begun it anew.
                if self.refill.get() == Refill::Until(id) {
                    self.refill.set(Refill::Until(last));
                }
            }
            Refill::None => {
                let names: Vec<Name> = self.owed.borrow().iter().take(KEYS).cloned().collect();
                if names.is_empty() {
                    return Ok(false);
                }
                // They are owed until they are queued, so that Redis never seems to have everything meanwhile.
                self.send_whole(store, names).await?;
            }
        }
        self.report();
        Ok(true)
    }

    /// Redis has refused something: it is not to be asked again and again.
    pub(super) fn refused(&self) {
        self.not_before.set(Instant::now() + AFTER_REFUSAL);
    }

    async fn send_whole(&self, store: &Store, names: Vec<Name>) -> Result<(), StoreError> {
        let needs: Vec<Need> = names
            .iter()
            .map(|(db, key)| Need { db: *db, key: key.clone(), part: Part::All })
            .collect();
        let loaded = store.load(&needs).await?;
        let runs = loaded.into_iter().map(|loaded| {
            let found = loaded.found.and_then(|found| {
                let object = to_object(&found.value)?;
                Some(restore(&loaded.key, &rdb::encode_dump(&object), found.expires_at_ms))
            });
            let unlink = || words(&["UNLINK"]).arg(&loaded.key[..]).to_owned();
            let command = found.unwrap_or_else(unlink);
            Run { db: loaded.db, key: Some(loaded.key), command, may_fail: false, swaps: None }
        });
        self.enqueue(runs.collect());
        let mut owed = self.owed.borrow_mut();
        for name in &names {
            owed.remove(name);
        }
        Ok(())
    }
}

fn restore(key: &Bytes, dump: &Bytes, expires_at_ms: Option<i64>) -> Cmd {
    let mut command = words(&["RESTORE"]);
    command.arg(&key[..]).arg(expires_at_ms.unwrap_or(0)).arg(&dump[..]);
    command.arg("ABSTTL").arg("REPLACE");
    command
}
