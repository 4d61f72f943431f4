//! A connection of a job to Redis: names page by page, values, and both at a place in the stream.

use bb8::ManageConnection;
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, Pipeline, Value};
use bytes::Bytes;

use super::{Name, SyncError};
use crate::engine::Db;
use crate::mirror::{Canaries, PASS_OVER, Swaps};
use crate::rdb::{self, Object};
use crate::strategy::RedisState;
use crate::upstream::SideManager;

pub struct RedisSide {
    pub connection: MultiplexedConnection,
    /// What is looked at does not count as used.
    pub leaves_no_mark: bool,
    /// Redis 7 tells the absolute expiry; before, it follows from the time left and its clock.
    absolute: bool,
    canaries: Canaries,
    /// How often databases had been swapped or flushed before keys were watched, if `WATCH` would not show it.
    swaps: Option<Swaps>,
}

impl RedisSide {
    /// A connection of its own, so that it may watch keys.
    pub async fn connect(manager: &SideManager) -> Result<RedisSide, SyncError> {
        let mut connection = manager.connect().await?;
        // From Redis 7.2 on.
        let quiet: Result<Value, _> =
            redis::cmd("CLIENT").arg("NO-TOUCH").arg("ON").query_async(&mut connection).await;
        let probe: Result<i64, _> =
            redis::cmd("PEXPIRETIME").arg("").query_async(&mut connection).await;
        let absolute = match probe {
            Ok(_) => true,
            Err(error) if error.code().is_some() => false,
            Err(error) => return Err(error.into()),
        };
        let (leaves_no_mark, canaries) = (quiet.is_ok(), Canaries::default());
        Ok(RedisSide { connection, leaves_no_mark, absolute, canaries, swaps: None })
    }

    /// Databases that have keys, and how many.
    pub async fn databases(&mut self) -> Result<Vec<(Db, u64)>, SyncError> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("keyspace").query_async(&mut self.connection).await?;
        let line = |line: &str| {
            let (db, facts) = line.strip_prefix("db")?.split_once(':')?;
            let keys = facts.split(',').find_map(|fact| fact.strip_prefix("keys="))?;
            Some((db.parse().ok()?, keys.parse().ok()?))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// The next page of names, and where to go on; 0: that was all. A name may come twice.
    pub async fn scan(
        &mut self,
        db: Db,
        cursor: u64,
        pattern: Option<&[u8]>,
        count: usize,
    ) -> Result<(u64, Vec<Bytes>), SyncError> {
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT").arg(db).ignore();
        pipe.cmd("SCAN").arg(cursor).arg("COUNT").arg(count);
        if let Some(pattern) = pattern {
            pipe.arg("MATCH").arg(pattern);
        }
        let ((next, names),): ((u64, Vec<Vec<u8>>),) =
            pipe.query_async(&mut self.connection).await?;
        Ok((next, names.into_iter().map(Bytes::from).collect()))
    }

    /// Which of the keys are there.
    pub async fn exist(&mut self, names: &[Name]) -> Result<Vec<bool>, SyncError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        each(&mut pipe, names, |pipe, key| {
            pipe.cmd("EXISTS").arg(key);
        });
        let there: Vec<i64> = pipe.query_async(&mut self.connection).await?;
        Ok(there.into_iter().map(|there| there > 0).collect())
    }

    /// As [`RedisSide::exist`], where `message` goes by in the stream.
    pub async fn exist_at(
        &mut self,
        names: &[Name],
        (channel, message): (&str, &str),
    ) -> Result<Vec<bool>, SyncError> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        each(&mut pipe, names, |pipe, key| {
            pipe.cmd("EXISTS").arg(key);
        });
        pipe.cmd("PUBLISH").arg(channel).arg(message).ignore();
        let there: Vec<i64> = pipe.query_async(&mut self.connection).await?;
        Ok(there.into_iter().map(|there| there > 0).collect())
    }

    /// Values and expiry, each key at a moment of its own.
    pub async fn read(&mut self, names: &[Name]) -> Result<Vec<RedisState>, SyncError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        self.ask(&mut pipe, names);
        self.states(pipe, names.len()).await
    }

    /// Values and expiry of all keys where `message` goes by in the stream.
    pub async fn read_at(
        &mut self,
        names: &[Name],
        (channel, message): (&str, &str),
    ) -> Result<Vec<RedisState>, SyncError> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        self.ask(&mut pipe, names);
        pipe.cmd("PUBLISH").arg(channel).arg(message).ignore();
        self.states(pipe, names.len()).await
    }

    /// Values and expiry of keys that are watched from here on; then `message` goes by in the stream. While
    /// nobody touches the keys, this is what they are there.
    pub async fn watch_at(
        &mut self,
        names: &[Name],
        (channel, message): (&str, &str),
    ) -> Result<Vec<RedisState>, SyncError> {
        self.watch_databases(names).await?;
        let mut pipe = redis::pipe();
        watch(&mut pipe, names);
        self.ask(&mut pipe, names);
        pipe.cmd("PUBLISH").arg(channel).arg(message).ignore();
        self.states(pipe, names.len()).await
    }

    /// As [`RedisSide::watch_at`], without the values.
    pub async fn watch_presence_at(
        &mut self,
        names: &[Name],
        (channel, message): (&str, &str),
    ) -> Result<Vec<bool>, SyncError> {
        self.watch_databases(names).await?;
        let mut pipe = redis::pipe();
        watch(&mut pipe, names);
        each(&mut pipe, names, |pipe, key| {
            pipe.cmd("EXISTS").arg(key);
        });
        pipe.cmd("PUBLISH").arg(channel).arg(message).ignore();
        let there: Vec<i64> = pipe.query_async(&mut self.connection).await?;
        Ok(there.into_iter().map(|there| there > 0).collect())
    }

    async fn watch_databases(&mut self, names: &[Name]) -> Result<(), SyncError> {
        self.swaps = self.canaries.watch_databases(&mut self.connection, names).await?;
        Ok(())
    }

    pub async fn unwatch(&mut self) -> Result<(), SyncError> {
        Ok(redis::cmd("UNWATCH").query_async(&mut self.connection).await?)
    }

    /// Does what the proxy's own doing is to Redis alone: the mirror passes it over. False: somebody has
    /// touched one of the watched keys. Nothing is watched any more. Errors of single commands are counted.
    pub async fn change(
        &mut self,
        channel: &str,
        changes: &[(Name, Change)],
    ) -> Result<Option<u64>, SyncError> {
        let before = self.swaps.take();
        let done = self.change_watched(channel, changes).await?;
        match (done, before) {
            (None, _) => self.canaries.forget(),
            (Some(_), Some(before)) if !self.swaps().await?.none_since(&before) => {
                let added = changes.iter().filter_map(|(name, change)| match change {
                    Change::Restore { replace: false, .. } => Some((name.clone(), Change::Delete)),
                    _ => None,
                });
                self.change_watched(channel, &added.collect::<Vec<_>>()).await?;
                return Ok(None);
            }
            _ => {}
        }
        Ok(done)
    }

    async fn change_watched(
        &mut self,
        channel: &str,
        changes: &[(Name, Change)],
    ) -> Result<Option<u64>, SyncError> {
        let mut pipe = redis::pipe();
        pipe.atomic().ignore_errors();
        pipe.cmd("PUBLISH").arg(channel).arg(PASS_OVER);
        let mut selected = None;
        for ((db, key), change) in changes {
            if selected != Some(*db) {
                pipe.cmd("SELECT").arg(*db);
                selected = Some(*db);
            }
            match change {
                Change::Restore { dump, expires_at_ms, replace } => {
                    let at_ms = expires_at_ms.unwrap_or(0);
                    let restore = pipe.cmd("RESTORE").arg(&key[..]).arg(at_ms).arg(&dump[..]);
                    restore.arg("ABSTTL");
                    if *replace {
                        restore.arg("REPLACE");
                    }
                }
                Change::Delete => {
                    pipe.cmd("UNLINK").arg(&key[..]);
                }
            }
        }
        let done: Value = pipe.query_async(&mut self.connection).await?;
        let Value::Array(answers) = done else { return Ok(None) };
        let mut errors = 0;
        for answer in answers {
            if let Value::ServerError(error) = answer {
                tracing::warn!(%error, "Redis did not take a key");
                errors += 1;
            }
        }
        Ok(Some(errors))
    }

    /// Memory that the keys take, in bytes, roughly.
    pub async fn weigh(&mut self, names: &[Name]) -> Result<Vec<u64>, SyncError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for (db, key) in names {
            pipe.cmd("SELECT").arg(*db);
            pipe.cmd("MEMORY").arg("USAGE").arg(&key[..]).arg("SAMPLES").arg(1);
        }
        let answers: Vec<Value> = pipe.query_async(&mut self.connection).await?;
        let weight = |answer: &Value| match answer {
            Value::Int(bytes) => bytes.unsigned_abs(),
            // Gone, or not to be asked for.
            _ => 1024,
        };
        Ok(answers.iter().skip(1).step_by(2).map(weight).collect())
    }

    /// Type and expiry of a key that is watched from here on; then `message` goes by in the stream.
    pub async fn watch_kind_at(
        &mut self,
        name: &Name,
        (channel, message): (&str, &str),
    ) -> Result<(String, Option<i64>), SyncError> {
        self.watch_databases(std::slice::from_ref(name)).await?;
        let (db, key) = name;
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT").arg(*db).ignore().cmd("WATCH").arg(&key[..]).ignore();
        pipe.cmd("TIME").cmd("TYPE").arg(&key[..]);
        pipe.cmd(if self.absolute { "PEXPIRETIME" } else { "PTTL" }).arg(&key[..]);
        pipe.cmd("PUBLISH").arg(channel).arg(message).ignore();
        let ((seconds, micros), kind, left): ((i64, i64), String, i64) =
            pipe.query_async(&mut self.connection).await?;
        let now = if self.absolute { 0 } else { seconds * 1000 + micros / 1000 };
        Ok((kind, (left >= 0).then_some(now + left)))
    }

    /// True when nobody has touched what is watched. Nothing is watched any more.
    pub async fn untouched(&mut self) -> Result<bool, SyncError> {
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("TIME");
        let answer: Value = pipe.query_async(&mut self.connection).await?;
        Ok(answer != Value::Nil)
    }

    /// What a hash, set or sorted set has of these members, where `message` goes by in the stream.
    pub async fn members_at(
        &mut self,
        (db, key): &Name,
        members: &[Bytes],
        (channel, message): (&str, &str),
    ) -> Result<Vec<Value>, SyncError> {
        let mut kind = redis::pipe();
        kind.cmd("SELECT").arg(*db).ignore().cmd("TYPE").arg(&key[..]);
        let (kind,): (String,) = kind.query_async(&mut self.connection).await?;
        let read = match kind.as_str() {
            "hash" => "HMGET",
            "set" => "SMISMEMBER",
            "zset" => "ZMSCORE",
            _ => return Ok(Vec::new()),
        };
        let mut pipe = redis::pipe();
        pipe.atomic().cmd(read).arg(&key[..]);
        members.iter().for_each(|member| {
            pipe.arg(&member[..]);
        });
        pipe.cmd("PUBLISH").arg(channel).arg(message).ignore();
        let (values,): (Vec<Value>,) = pipe.query_async(&mut self.connection).await?;
        Ok(values)
    }

    /// Last id, greatest deleted id and entries added of a stream (Redis 7 tells them), and its groups: name,
    /// last id, number of pending entries.
    pub async fn stream_info(
        &mut self,
        (db, key): &Name,
    ) -> Result<(Option<Counters>, Vec<Group>), SyncError> {
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT").arg(*db).ignore();
        pipe.cmd("XINFO").arg("STREAM").arg(&key[..]);
        pipe.cmd("XINFO").arg("GROUPS").arg(&key[..]);
        type Facts = std::collections::HashMap<String, Value>;
        let (info, groups): (Facts, Vec<Facts>) = pipe.query_async(&mut self.connection).await?;
        let counters = || {
            let id = |name| -> Option<String> { redis::from_redis_value_ref(info.get(name)?).ok() };
            let added = redis::from_redis_value_ref(info.get("entries-added")?).ok()?;
            Some((id("last-generated-id")?, id("max-deleted-entry-id")?, added))
        };
        let group = |facts: &Facts| {
            let get = |name| facts.get(name);
            let name = redis::from_redis_value_ref(get("name")?).ok()?;
            let last = redis::from_redis_value_ref(get("last-delivered-id")?).ok()?;
            Some((name, last, redis::from_redis_value_ref(get("pending")?).ok()?))
        };
        Ok((counters(), groups.iter().filter_map(group).collect()))
    }

    /// Names of a group's consumers.
    pub async fn consumers(
        &mut self,
        (_, key): &Name,
        group: &[u8],
    ) -> Result<Vec<Vec<u8>>, SyncError> {
        let mut info = redis::cmd("XINFO");
        info.arg("CONSUMERS").arg(&key[..]).arg(group);
        type Facts = std::collections::HashMap<String, Value>;
        let all: Vec<Facts> = info.query_async(&mut self.connection).await?;
        let name = |facts: &Facts| redis::from_redis_value_ref(facts.get("name")?).ok();
        Ok(all.iter().filter_map(name).collect())
    }

    /// How often databases were swapped or flushed.
    pub async fn swaps(&mut self) -> Result<Swaps, SyncError> {
        Ok(Swaps::read(&mut self.connection).await?)
    }

    /// For how many seconds nobody has used the keys; `None`: gone. Does not count as a use.
    pub async fn idle_s(&mut self, names: &[Name]) -> Result<Vec<Option<u64>>, SyncError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        each(&mut pipe, names, |pipe, key| {
            pipe.cmd("OBJECT").arg("IDLETIME").arg(key);
        });
        Ok(pipe.query_async(&mut self.connection).await?)
    }

    /// Names the process, whose cursors mean nothing to another.
    pub async fn run_id(&mut self) -> Result<String, SyncError> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("server").query_async(&mut self.connection).await?;
        let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        Ok(id.unwrap_or_default().to_owned())
    }

    /// Keys that it has evicted since it was started.
    pub async fn evicted(&mut self) -> Result<u64, SyncError> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("stats").query_async(&mut self.connection).await?;
        let count = text.lines().find_map(|line| line.strip_prefix("evicted_keys:"));
        // Who does not say may have.
        Ok(count.and_then(|count| count.trim().parse().ok()).unwrap_or(u64::MAX))
    }

    fn ask(&self, pipe: &mut Pipeline, names: &[Name]) {
        let expiry = if self.absolute { "PEXPIRETIME" } else { "PTTL" };
        pipe.cmd("TIME");
        each(pipe, names, |pipe, key| {
            pipe.cmd("DUMP").arg(key).cmd(expiry).arg(key);
        });
    }

    async fn states(&mut self, pipe: Pipeline, count: usize) -> Result<Vec<RedisState>, SyncError> {
        let answers: Vec<Value> = pipe.query_async(&mut self.connection).await?;
        let mut answers = answers.into_iter();
        let (seconds, micros): (i64, i64) =
            redis::from_redis_value(answers.next().unwrap_or(Value::Nil)).map_err(unexpected)?;
        let now = if self.absolute { 0 } else { seconds * 1000 + micros / 1000 };
        let mut states = Vec::with_capacity(count);
        while let (Some(dump), Some(left)) = (answers.next(), answers.next()) {
            let left: i64 = redis::from_redis_value(left).map_err(unexpected)?;
            states.push(match dump {
                Value::BulkString(dump) => {
                    Some((decode(dump.into()), (left >= 0).then_some(now + left)))
                }
                _ => None,
            });
        }
        match states.len() == count {
            true => Ok(states),
            false => {
                Err(SyncError::Redis("Redis has answered something else than was asked".into()))
            }
        }
    }
}

/// Last id, greatest deleted id, entries ever added.
pub type Counters = (String, String, u64);
/// Name, last id delivered, number of pending entries.
pub type Group = (Vec<u8>, String, u64);

/// What is done to a key of Redis.
pub enum Change {
    Restore {
        dump: Bytes,
        /// Unix time in ms.
        expires_at_ms: Option<i64>,
        /// Whatever is there goes.
        replace: bool,
    },
    Delete,
}

fn watch(pipe: &mut Pipeline, names: &[Name]) {
    let mut selected = None;
    for (db, key) in names {
        if selected != Some(*db) {
            pipe.cmd("SELECT").arg(*db).ignore();
            selected = Some(*db);
        }
        pipe.cmd("WATCH").arg(&key[..]).ignore();
    }
}

/// One command per key, each in its database.
fn each(pipe: &mut Pipeline, names: &[Name], mut add: impl FnMut(&mut Pipeline, &[u8])) {
    let mut selected = None;
    for (db, key) in names {
        if selected != Some(*db) {
            pipe.cmd("SELECT").arg(*db).ignore();
            selected = Some(*db);
        }
        add(pipe, key);
    }
}

fn unexpected(error: impl std::fmt::Display) -> SyncError {
    SyncError::Redis(format!("Redis has answered something else than was asked: {error}"))
}

fn decode(dump: Bytes) -> Object {
    match rdb::decode_dump(&dump) {
        Ok(object) => object,
        // What cannot be decoded is kept as it is, as the mirror does.
        Err(_) => crate::engine::opaque(dump),
    }
}
