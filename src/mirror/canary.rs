//! `SWAPDB`, `FLUSHDB` and `FLUSHALL` under `WATCH`: Redis takes a watched key for touched only where one of the
//! databases has it (7.0, `touchAllWatchedKeysInDb`), and a key that is missed is in none. So a key that is there is
//! watched beside it.

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, Pipeline, RedisResult};
use bytes::Bytes;
use hashbrown::HashMap;

use super::recall::{Name, select};
use crate::engine::Db;

/// A key of each database, as far as they are known to have one.
#[derive(Debug, Default)]
pub struct Canaries {
    known: HashMap<Db, Bytes>,
}

/// What is watched.
#[derive(Debug)]
pub struct Watched {
    /// The keys that Redis lacks.
    pub lacking: Vec<Name>,
    /// How often databases had been swapped or flushed before, when one without any key is among them: nothing
    /// there shows that.
    pub swaps: Option<Swaps>,
}

/// Databases swapped or flushed, and commands run in all, since Redis was started or its counts were reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swaps {
    swaps: u64,
    commands: u64,
}

impl Swaps {
    pub async fn read(connection: &mut MultiplexedConnection) -> RedisResult<Swaps> {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("commandstats").cmd("INFO").arg("stats");
        let (commands, stats): (String, String) = pipe.query_async(connection).await?;
        let number = |text: &str, before: &str| -> Option<u64> {
            let rest = text.lines().find_map(|line| line.strip_prefix(before))?;
            rest.split(',').next()?.trim().parse().ok()
        };
        let calls = ["swapdb", "flushdb", "flushall"]
            .map(|name| number(&commands, &format!("cmdstat_{name}:calls=")).unwrap_or(0));
        let swaps = calls.iter().sum();
        let commands = number(&stats, "total_commands_processed:").unwrap_or(0);
        Ok(Swaps { swaps, commands })
    }

    /// True when no database was swapped or flushed after `before`.
    pub fn none_since(&self, before: &Swaps) -> bool {
        self.swaps == before.swaps && self.commands > before.commands
    }
}

impl Canaries {
    /// Somebody touched a watched key; it may have been one of these.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Watches those of the keys that Redis lacks, and a key of each of their databases. `behind` adds what is
    /// to be sent behind each try to watch, which the last one was for just those keys.
    pub async fn watch_lacking(
        &mut self,
        connection: &mut MultiplexedConnection,
        names: Vec<Name>,
        behind: impl FnMut(&[Name], &mut Pipeline),
    ) -> RedisResult<Watched> {
        self.watch(connection, databases(&names), names, behind).await
    }

    /// Watches a key of each database; see [`Watched::swaps`].
    pub async fn watch_databases(
        &mut self,
        connection: &mut MultiplexedConnection,
        names: &[Name],
    ) -> RedisResult<Option<Swaps>> {
        Ok(self.watch(connection, databases(names), Vec::new(), |_, _| ()).await?.swaps)
    }

    async fn watch(
        &mut self,
        connection: &mut MultiplexedConnection,
        dbs: Vec<Db>,
        mut names: Vec<Name>,
        mut behind: impl FnMut(&[Name], &mut Pipeline),
    ) -> RedisResult<Watched> {
        let mut swaps = None;
        loop {
            self.find(connection, &dbs).await?;
            let canaries: Vec<Name> =
                dbs.iter().filter_map(|db| Some((*db, self.known.get(db)?.clone()))).collect();
            if canaries.len() < dbs.len() {
                swaps = Some(Swaps::read(connection).await?);
            }
            let all: Vec<&Name> = canaries.iter().chain(&names).collect();
            let there = watch(connection, &all, |pipe| behind(&names, pipe)).await?;
            let (canaries_there, there) = there.split_at(canaries.len().min(there.len()));
            let gone = canaries.iter().zip(canaries_there).filter(|(_, there)| !**there);
            let gone: Vec<Db> = gone.map(|((db, _), _)| *db).collect();
            let lacking: Vec<Name> = names
                .iter()
                .zip(there)
                .filter(|(_, there)| !**there)
                .map(|(n, _)| n.clone())
                .collect();
            if gone.is_empty() && lacking.len() == names.len() {
                return Ok(Watched { lacking, swaps });
            }
            // What is there is not to be watched: it may be touched all the time.
            redis::cmd("UNWATCH").query_async::<()>(connection).await?;
            gone.iter().for_each(|db| drop(self.known.remove(db)));
            if lacking.is_empty() && !names.is_empty() {
                return Ok(Watched { lacking, swaps: None });
            }
            names = lacking;
        }
    }

    /// Looks for a key in each of the databases where none is known.
    async fn find(
        &mut self,
        connection: &mut MultiplexedConnection,
        dbs: &[Db],
    ) -> RedisResult<()> {
        let unknown: Vec<Db> =
            dbs.iter().copied().filter(|db| !self.known.contains_key(db)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for db in &unknown {
            pipe.cmd("SELECT").arg(db).ignore().cmd("RANDOMKEY");
        }
        let keys: Vec<Option<Vec<u8>>> = pipe.query_async(connection).await?;
        let found = unknown.into_iter().zip(keys);
        self.known.extend(found.filter_map(|(db, key)| Some((db, Bytes::from(key?)))));
        Ok(())
    }
}

fn databases(names: &[Name]) -> Vec<Db> {
    let mut dbs: Vec<Db> = names.iter().map(|(db, _)| *db).collect();
    dbs.sort_unstable();
    dbs.dedup();
    dbs
}

/// Watches the keys; which of them are there.
async fn watch(
    connection: &mut MultiplexedConnection,
    names: &[&Name],
    behind: impl FnOnce(&mut Pipeline),
) -> RedisResult<Vec<bool>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipe = redis::pipe();
    let mut selected = None;
    for (db, key) in names {
        select(&mut pipe, &mut selected, *db);
        pipe.cmd("WATCH").arg(&key[..]).ignore();
        pipe.cmd("EXISTS").arg(&key[..]);
    }
    behind(&mut pipe);
    pipe.query_async(connection).await
}
