//! The way to PostgreSQL: loads, group commits and the removal of expired keys, one after the other
//! on one session, so that no load overtakes a commit.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashSet;
use tokio::sync::oneshot;

use super::follower::{Follower, Plan, Role};
use super::period::Period;
use crate::engine::{Db, Need, Part};
use crate::store::{Commit, Store, StoreError};
use crate::traces;

/// How often keys past their time are looked for.
const EXPIRY: Duration = Duration::from_millis(200);
/// Keys past their time that are removed at once.
const EXPIRED_KEYS: u32 = 500;
/// Keys of a database that are loaded at once when all of them are asked for.
const KEYS_AT_ONCE: usize = 10_000;

/// PostgreSQL has failed: whoever waits is told by the end of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone;

/// What is being committed. Nobody knows whether it was when this is dropped with the plan: PostgreSQL failed, or the
/// lease was lost and the period ended in the middle of it.
struct Undecided<'a> {
    follower: &'a Follower,
    plan: Plan,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        self.follower.doubt(std::mem::take(&mut self.plan));
    }
}

impl Period {
    /// Loads and commits until PostgreSQL fails, or until everything is committed at the end.
    pub async fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let mut expiry_due = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = self.work.notified() => {}
                () = self.room_in_redis() => {}
                () = tokio::time::sleep_until(expiry_due) => {}
            }
            // In turn, so that nobody waits for a moment without anything to commit.
            loop {
                if expiry_due.elapsed() > Duration::ZERO {
                    self.expire(store).await?;
                    expiry_due = tokio::time::Instant::now() + EXPIRY;
                }
                let loaded = self.load_wanted(store).await?;
                let committed = self.commit(store).await?;
                let answered = self.answer_questions(store).await?;
                let brought = self.bring_to_redis(store).await?;
                if !(loaded || committed || answered || brought) {
                    break;
                }
            }
            if self.finishing.get() {
                return Ok(());
            }
        }
    }

    /// Brings these into memory, as far as PostgreSQL has them.
    pub async fn load(&self, needs: Vec<Need>) -> Result<(), Gone> {
        let (done, waiting) = oneshot::channel();
        self.wanted.borrow_mut().push((needs, done));
        self.work.notify_one();
        waiting.await.map_err(|_| Gone)
    }

    /// Something has changed, or a barrier waits.
    pub fn changed(&self) {
        self.work.notify_one();
    }

    /// Loads what is waited for in one go; false when nothing is.
    async fn load_wanted(&self, store: &Store) -> Result<bool, StoreError> {
        let wanted = self.wanted.take();
        if wanted.is_empty() {
            return Ok(false);
        }
        let (needs, waiting): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        let needs: HashSet<Need> = needs.into_iter().flatten().collect();
        let (whole, needs): (Vec<Need>, Vec<Need>) =
            needs.into_iter().partition(|need| need.part == Part::Keys);
        // PostgreSQL answers these, so it has to know everything.
        if needs.iter().any(|need| matches!(need.part, Part::Window(_))) {
            self.commit(store).await?;
        }
        for loaded in store.load(&needs).await? {
            self.keyspace.borrow_mut().load(loaded);
        }
        for need in whole {
            self.load_keys(store, need.db).await?;
        }
        for done in waiting {
            // Who has left needs nothing any more.
            let _ = done.send(());
        }
        Ok(true)
    }

    /// Every key of a database, each with as little of its value as there can be.
    async fn load_keys(&self, store: &Store, db: Db) -> Result<(), StoreError> {
        let mut found = Vec::new();
        let names = store.key_names(db).await?;
        for names in names.chunks(KEYS_AT_ONCE) {
            let meta = |key: &Bytes| Need { db, key: key.clone(), part: Part::Meta };
            let needs: Vec<Need> = names.iter().map(meta).collect();
            let loaded = store.load(&needs).await?;
            found.extend(loaded.into_iter().filter_map(|one| Some((one.key, one.found?))));
        }
        self.keyspace.borrow_mut().load_keys(db, found);
        Ok(())
    }

    /// Commits everything that has been run; false when there is nothing.
    pub(super) async fn commit(&self, store: &Store) -> Result<bool, StoreError> {
        let (delta, seq) = self.keyspace.borrow_mut().take_delta();
        let barriers = self.barriers.take();
        if delta.is_empty() {
            self.gate.commit(&barriers);
            return Ok(false);
        }
        let follower = self.follower.as_deref();
        let mut undecided =
            follower.map(|follower| Undecided { follower, plan: Plan::new(&delta) });
        let mut commit = Commit { delta, ..Commit::default() };
        if let Some(Undecided { follower, plan }) = &undecided
            && follower.role == Role::Failover
        {
            (commit.redis_lacks, commit.redis_lacks_all) = follower.debts.news(plan);
        }
        let began = Instant::now();
        let persisted = store.persist(&commit).await;
        let took = began.elapsed();
        traces::record("server commit", took, persisted.is_ok(), || {
            [("tandem.barriers", (barriers.len() as i64).into())]
        });
        persisted?;
        if let Some(undecided) = &mut undecided {
            let plan = std::mem::take(&mut undecided.plan);
            undecided.follower.debts.known((commit.redis_lacks, commit.redis_lacks_all));
            undecided.follower.committed(plan);
        }
        self.status.mirror.commit_time.record_duration(took);
        self.gate.commit(&barriers);
        self.keyspace.borrow_mut().sweep(self.config.mirror.cache_bytes, seq);
        Ok(true)
    }

    /// A part of what Redis lacks; false when there is nothing to send.
    async fn bring_to_redis(&self, store: &Store) -> Result<bool, StoreError> {
        match &self.follower {
            Some(follower) if !self.finishing.get() => follower.catch_up(store).await,
            _ => Ok(false),
        }
    }

    async fn room_in_redis(&self) {
        match &self.follower {
            Some(follower) => follower.progress().await,
            None => std::future::pending().await,
        }
    }

    /// Removes keys past their time that nobody has looked at.
    async fn expire(&self, store: &Store) -> Result<(), StoreError> {
        if !self.settings.borrow().active_expire {
            return Ok(());
        }
        let now_ms = super::run::now_ms();
        let names = store.expired(now_ms, EXPIRED_KEYS).await?;
        let need = |(db, key): &(Db, Bytes)| Need { db: *db, key: key.clone(), part: Part::Meta };
        let needs: Vec<Need> = {
            let keyspace = self.keyspace.borrow();
            names.iter().map(need).filter_map(|need| keyspace.lacks(&need)).collect()
        };
        for loaded in store.load(&needs).await? {
            self.keyspace.borrow_mut().load(loaded);
        }
        let mut keyspace = self.keyspace.borrow_mut();
        keyspace.now_ms = now_ms;
        for (db, key) in &names {
            // The look removes it.
            let _ = keyspace.kind(*db, key);
        }
        drop(keyspace);
        self.deliver();
        Ok(())
    }
}
