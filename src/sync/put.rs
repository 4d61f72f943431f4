//! Putting keys right where both sides are seen at one moment, so that nothing that clients write
//! meanwhile is lost: in PostgreSQL by the mirror itself, at a place in the stream; in Redis by a transaction
//! that is refused when anybody has touched one of the keys.

use bytes::Bytes;
use hashbrown::HashSet;
use tokio::sync::oneshot;

use super::check::{ATTEMPTS, now_ms};
use super::compare::difference;
use super::copy::{Action, Target};
use super::mark::needs;
use super::redis_side::Change;
use super::report::Verdict;
use super::walk::{COPIED, Suspect, Walk};
use super::{Name, SyncError};
use crate::engine::{Found, Loaded, Part, to_object};
use crate::rdb::{self, Object};
use crate::strategy::{Inspections, RedisState, Takeover};

impl Walk<'_> {
    pub async fn act(&mut self, action: Action, keys: Vec<Suspect>) -> Result<(), SyncError> {
        match action.target {
            Target::Postgres => self.copy_to_postgres(action, keys).await,
            Target::Redis => self.copy_to_redis(action, keys).await,
        }
    }

    async fn copy_to_postgres(
        &mut self,
        action: Action,
        keys: Vec<Suspect>,
    ) -> Result<(), SyncError> {
        let names = names_of(&keys);
        let syncs = self.syncer.full_syncs();
        let (hand_over, take) = oneshot::channel::<Takeover>();
        let wanted = needs(&names, Part::All);
        let (number, answered) = self.syncer.presence.inspections.ask(wanted, Some(take));
        let message = Inspections::message(number);
        let states = self.redis.read_at(&names, (self.syncer.gate.channel(), &message)).await?;
        // Evicted is not deleted.
        let delete = action.delete && !self.syncer.presence.partial();
        let wanted = |state: &RedisState| (delete || state.is_some()).then(|| state.clone());
        // The mirror may have given it up; then there is no answer.
        let _ = hand_over.send(states.iter().map(wanted).collect());
        let Some(seen) = self.syncer.answered(answered, syncs).await? else {
            self.suspects.extend(keys);
            return Ok(());
        };
        for ((key, state), loaded) in keys.into_iter().zip(states).zip(seen) {
            let Some(Loaded { found, .. }) = loaded else {
                self.once_more(key);
                continue;
            };
            match (state, found) {
                (None, None) => {}
                (Some(_), None) => {
                    self.missing_in_postgres(&key.name);
                    self.report.done.synced += 1;
                }
                (Some((object, at)), Some(found)) => {
                    if self.differs(&key.name, &object, at, &found) {
                        self.report.done.synced += 1;
                    }
                }
                (None, Some(found)) => {
                    self.missing_in_redis(&key.name, found.kind().as_str(), found.expires_at_ms);
                    self.report.done.deleted += u64::from(delete);
                }
            }
        }
        Ok(())
    }

    /// Reports a key that is in both sides; false when it is the same.
    fn differs(
        &mut self,
        name: &Name,
        object: &Object,
        expires_at_ms: Option<i64>,
        found: &Found,
    ) -> bool {
        let Some(aspect) = difference(object, expires_at_ms, found, self.tolerance_ms) else {
            return false;
        };
        let families = &self.syncer.families;
        let (what, detail) = (Some(aspect.what), aspect.detail);
        self.report.wrong(families, name, Verdict::Different, what, detail);
        true
    }

    /// What brings a key to Redis; `None`: its time is over, or its rows contradict each other.
    fn restore(&mut self, (db, key): &Name, found: &Found, replace: bool) -> Option<Change> {
        let expires_at_ms = found.expires_at_ms;
        if is_past(found) {
            return None;
        }
        match to_object(&found.value).filter(is_sound) {
            Some(object) => {
                let dump = rdb::encode_dump(&object);
                Some(Change::Restore { dump, expires_at_ms, replace })
            }
            None => {
                tracing::warn!(db, key = %key.escape_ascii(), "the rows of a key in PostgreSQL contradict each other; it is not copied to Redis");
                self.report.done.errors += 1;
                None
            }
        }
    }

    async fn copy_to_redis(&mut self, action: Action, keys: Vec<Suspect>) -> Result<(), SyncError> {
        let names = names_of(&keys);
        let syncs = self.syncer.full_syncs();
        let wanted = needs(&names, Part::All);
        let (number, answered) = self.syncer.presence.inspections.ask(wanted, None);
        let message = Inspections::message(number);
        let mark = (self.syncer.gate.channel(), message.as_str());
        // Values are only looked at where they may be replaced.
        let states: Vec<Option<RedisState>> = match action.overwrite {
            true => self.redis.watch_at(&names, mark).await?.into_iter().map(Some).collect(),
            false => {
                let there = self.redis.watch_presence_at(&names, mark).await?;
                there.into_iter().map(|there| (!there).then_some(None)).collect()
            }
        };
        let Some(seen) = self.syncer.answered(answered, syncs).await? else {
            self.redis.unwatch().await?;
            self.suspects.extend(keys);
            return Ok(());
        };
        let over = seen.iter().flatten().filter(|loaded| is_over(loaded));
        let over: Vec<Name> = over.map(|loaded| (loaded.db, loaded.key.clone())).collect();
        let mut changes: Vec<(Name, Change)> = Vec::new();
        let (mut changed, mut deleted) = (Vec::new(), 0);
        for ((key, state), loaded) in keys.into_iter().zip(states).zip(seen) {
            let Some(Loaded { found, .. }) = loaded else {
                self.once_more(key);
                continue;
            };
            let change = match (state, found) {
                // Redis has it, and what PostgreSQL has is not to replace it.
                (None, Some(_)) => None,
                (Some(None), None) => None,
                (Some(None), Some(found)) => {
                    self.missing_in_redis(&key.name, found.kind().as_str(), found.expires_at_ms);
                    self.restore(&key.name, &found, false)
                }
                (Some(Some((object, at))), Some(found)) => {
                    match self.differs(&key.name, &object, at, &found) {
                        true => self.restore(&key.name, &found, true),
                        false => None,
                    }
                }
                (None | Some(Some(_)), None) => {
                    self.missing_in_postgres(&key.name);
                    action.delete.then_some(Change::Delete)
                }
            };
            if let Some(change) = change {
                deleted += u64::from(matches!(change, Change::Delete));
                changes.push((key.name.clone(), change));
                changed.push(key);
            }
        }
        if changes.is_empty() {
            self.redis.unwatch().await?;
        } else {
            self.change(&changes, changed, deleted).await?;
        }
        self.syncer.forget_expired(over).await
    }

    /// Changes Redis, unless somebody has touched one of the `keys`; then they are tried again.
    async fn change(
        &mut self,
        changes: &[(Name, Change)],
        keys: Vec<Suspect>,
        deleted: u64,
    ) -> Result<(), SyncError> {
        match self.redis.change(self.syncer.gate.channel(), changes).await? {
            Some(errors) => {
                let done = &mut self.report.done;
                done.errors += errors;
                done.deleted += deleted;
                done.synced += (changes.len() as u64).saturating_sub(deleted + errors);
                self.syncer.restored(changes.len() as u64 - deleted);
                self.at_once = (self.at_once * 2).min(COPIED);
            }
            None => {
                // Somebody writes one of them; fewer at once keep the others out of its way.
                self.at_once = (self.at_once / 4).max(1);
                for key in keys {
                    match key.attempts < ATTEMPTS * 2 {
                        true => {
                            let attempts = key.attempts + 1;
                            self.suspects.push_back(Suspect { attempts, ..key });
                        }
                        false => self.report.done.busy += 1,
                    }
                }
            }
        }
        Ok(())
    }
}

fn names_of(keys: &[Suspect]) -> Vec<Name> {
    keys.iter().map(|key| key.name.clone()).collect()
}

fn is_past(found: &Found) -> bool {
    found.expires_at_ms.is_some_and(|at| at <= now_ms())
}

fn is_over(loaded: &Loaded) -> bool {
    loaded.found.as_ref().is_some_and(is_past)
}

/// False for what Redis would take and could not work with: rows that were changed by hand.
fn is_sound(object: &Object) -> bool {
    let Object::Stream(stream) = object else { return true };
    stream.groups.iter().all(|group| {
        let consumers: HashSet<&Bytes> = group.consumers.iter().map(|one| &one.name).collect();
        group.pending.iter().all(|pending| consumers.contains(&pending.consumer))
    })
}
