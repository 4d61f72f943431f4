//! What the tables hold of some keys at a place in the stream, and what they are to hold.

use std::time::Duration;

use super::{Applier, ApplyError};
use crate::engine::{Loaded, Need, Value};
use crate::store::StoreError;
use crate::strategy::{Inspected, Question, RedisState};

/// How long the answer of a transaction may be behind its place in the stream.
const PATIENCE: Duration = Duration::from_secs(10);

impl Applier {
    /// The place of a question has come by: all before it is committed, and the tables are read, not
    /// the memory.
    pub(super) async fn inspect(&mut self, number: u64) -> Result<(), ApplyError> {
        let Some(question) = self.shared.presence.inspections.take(number) else { return Ok(()) };
        let Question { needs, take, answer } = question;
        self.settle().await?;
        self.commit(true).await?;
        self.settle().await?;
        let mut seen: Inspected = Vec::with_capacity(needs.len());
        for loaded in self.load_tables(needs).await? {
            // The tables lack what Redis had when it was seen that the key has to be read again.
            let known = loaded.filter(|loaded| !self.rereads.is_suspended(loaded.db, &loaded.key));
            if let Some(loaded) = &known {
                self.keyspace.reload(loaded.clone());
            }
            seen.push(known);
        }
        if let Some(take) = take {
            // Whoever asked may have failed to read Redis; its answer says so.
            let Ok(Ok(states)) = tokio::time::timeout(PATIENCE, take).await else { return Ok(()) };
            for (loaded, state) in seen.iter().zip(states) {
                if let (Some(loaded), Some(state)) = (loaded, state) {
                    self.take_state(loaded, state);
                }
            }
            self.commit(true).await?;
            self.settle().await?;
        }
        // Whoever asked may have given up.
        let _ = answer.send(seen);
        Ok(())
    }

    /// What the tables hold; `None` for a key whose rows contradict each other.
    async fn load_tables(&self, needs: Vec<Need>) -> Result<Inspected, ApplyError> {
        match self.store.load(&needs).await {
            Err(StoreError::Corrupt(_)) => {}
            loaded => return Ok(loaded?.into_iter().map(Some).collect()),
        }
        let mut all = Vec::with_capacity(needs.len());
        for need in needs {
            all.push(match self.store.load(&[need]).await {
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(why, "the rows of a key in PostgreSQL contradict each other");
                    None
                }
                loaded => loaded?.pop(),
            });
        }
        Ok(all)
    }

    /// PostgreSQL gets what Redis has of a key.
    fn take_state(&mut self, loaded: &Loaded, state: RedisState) {
        let (db, key) = (loaded.db, &loaded.key);
        let taken = match state {
            None => self.keyspace.remove(db, key).map(drop),
            Some((object, expires_at_ms)) => {
                self.keyspace.put(db, key, Value::from(object), expires_at_ms)
            }
        };
        if taken.is_err() {
            // It was loaded just before, so only a defect gets here; reading it again is always right.
            self.reread(db, key);
        }
    }
}
