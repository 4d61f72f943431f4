//! Redis is back after PostgreSQL took over from it, and gets the lead when it has everything again.
//!
//! PostgreSQL serves until then. Redis's history since PostgreSQL took over is looked at first, over the
//! replication link:
//!
//! | Redis has | keys that changed in PostgreSQL | other keys |
//! | --- | --- | --- |
//! | gone on from where it was left | PostgreSQL's value | what the stream since then has touched is taken over |
//! | the same history, further on | PostgreSQL's value | Redis's value |
//! | the same history, from before | PostgreSQL's value | PostgreSQL's value; what only Redis has was deleted since, unless it was written to Redis since |
//! | another history, or is empty | PostgreSQL's value | PostgreSQL's value; what only Redis has is taken over |
//!
//! After a switch from `postgres_only` PostgreSQL has led for good: Redis gets exactly what PostgreSQL has.
//!
//! A key that both sides have changed is a conflict: counted, and listed in the table `conflicts`. Keys that live in Redis alone
//! start empty. What is taken over is run by the engine as a client's command, so it is never in the way of
//! what clients write.

mod compare;
mod hand_over;
mod stream;
mod tail;
mod untouched;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bb8::ManageConnection;
use bb8_redis::redis;
use bb8_redis::redis::aio::MultiplexedConnection;
use hashbrown::HashSet;
use tokio::sync::watch;

use super::follower::{Follower, Name};
use crate::config::Config;
use crate::mirror::replica::{Event, Replica, ReplicaError, Resume};
use crate::rdb::RdbError;
use crate::store::{Store, StoreError};
use crate::strategy::{CommitGate, Families, Status};
use crate::upstream::{Backoff, Connector, Route, SideError, SideManager, To};
use stream::Stream;

/// How often it is looked at least whether Redis has everything.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum FailbackError {
    #[error(transparent)]
    Side(#[from] SideError),
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis sends a value that cannot be read: {0}")]
    Value(#[from] RdbError),
    #[error("the replication link says something unexpected")]
    Link,
    #[error("Redis has not taken everything in time")]
    Late,
    #[error("keys were flushed meanwhile: Redis is looked at once more")]
    Upset,
}

/// What it takes.
pub struct Failback {
    config: Arc<Config>,
    families: Families,
    gate: Arc<CommitGate>,
    redis: Connector,
    follower: Rc<Follower>,
    status: Arc<Status>,
    /// Clients' way to the server within the process, which is ours too.
    own: SideManager,
    /// Redis can be reached, and is well.
    well: watch::Receiver<bool>,
    /// Redis has everything but what is on its way.
    ready: watch::Sender<bool>,
    stream: Stream,
    /// Keys that Redis has otherwise or lacks, besides those that have changed.
    owed: RefCell<Vec<Name>>,
    /// Keys whose value in PostgreSQL is one of Redis's.
    taken: RefCell<HashSet<Name>>,
    /// Keys that others have written to a Redis that came back with older data; `None`: it does not tell.
    fresh: RefCell<Option<HashSet<Name>>>,
    /// Keys are being taken over from Redis.
    taking: Cell<bool>,
    /// PostgreSQL has led for good.
    replaces: bool,
    /// Redis is being given the lead: what others write to it from here on comes by its stream.
    closing: Cell<bool>,
}

impl Failback {
    pub fn new(
        config: Arc<Config>,
        redis: Connector,
        follower: Rc<Follower>,
        status: Arc<Status>,
        (local, gate): (crate::upstream::Local, Arc<CommitGate>),
        (well, ready): (watch::Receiver<bool>, watch::Sender<bool>),
        replaces: bool,
    ) -> Result<Failback, crate::upstream::ConnectError> {
        let own = Connector::routed(&config.redis, Route::new(To::Local(local)))?;
        Ok(Failback {
            families: Families::new(config.family.clone()),
            config,
            gate,
            redis,
            follower,
            status,
            own: SideManager::new(own),
            well,
            ready,
            stream: Stream::new(),
            owed: RefCell::default(),
            taken: RefCell::default(),
            fresh: RefCell::default(),
            taking: Cell::new(false),
            replaces,
            closing: Cell::new(false),
        })
    }

    /// Brings Redis up to PostgreSQL, again and again until it is dropped.
    pub async fn run(self: Rc<Self>) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut well = self.well.clone();
        loop {
            if well.wait_for(|well| *well).await.is_err() {
                return;
            }
            let error = tokio::select! {
                result = self.attempt() => match result { Err(error) => error, Ok(never) => match never {} },
                _ = well.wait_for(|well| !*well) => FailbackError::Late,
            };
            self.ready.send_replace(false);
            self.follower.reserve();
            tracing::warn!(%error, "Redis cannot be brought up to PostgreSQL yet");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// True when Redis gets exactly what PostgreSQL has: PostgreSQL took over from it, and led for good.
    fn replaces(&self) -> bool {
        self.replaces && self.follower.debts.left().is_some()
    }

    async fn attempt(&self) -> Result<std::convert::Infallible, FailbackError> {
        // A former attempt may have ended anywhere.
        self.follower.reserve();
        self.taking.set(false);
        self.closing.set(false);
        let manager = SideManager::new(self.redis.clone());
        let mut connection = self.follower.connect(&manager).await?;
        let debts = &self.follower.debts;
        let resume = debts.left().map(|left| Resume { replid: left.replid, offset: left.offset });
        tracing::info!(
            redis = self.redis.address(),
            keys = debts.names().len(),
            "Redis is back: it is brought up to PostgreSQL"
        );
        let since_return = self.since_return(&mut connection).await?;
        let mut replica = Replica::attach(&self.redis, resume).await?;
        match replica.next().await? {
            Event::Continue { replid, offset } => {
                self.stream.begin(replid, offset);
                match self.replaces() {
                    true => self.read_to_mark(&mut replica, &mut connection).await?,
                    false => self.take_tail(&mut replica, &mut connection).await?,
                }
                self.stream.take_foreign();
                if debts.all() {
                    self.replace_all(&mut connection).await?;
                }
            }
            Event::FullResync { replid, offset } => {
                self.look_for_fresh(since_return, offset).await?;
                self.stream.begin(replid, offset);
                self.take_snapshot(&mut replica, &mut connection).await?;
            }
            _ => return Err(FailbackError::Link),
        }
        self.functions(&mut connection).await?;
        self.empty_unmirrored(&mut connection).await?;
        if self.follower.is_upset() {
            return Err(FailbackError::Upset);
        }
        let names = debts.names().into_iter().chain(self.owed.take());
        let names = names.filter(|(_, key)| self.families.mirrors(key));
        self.follower.release(names.collect::<Vec<_>>());
        tokio::select! {
            result = self.follow_stream(&mut replica) => match result? {},
            error = self.follower.follow(&mut connection, Some(self.stream.channel())) => Err(error.into()),
            result = self.watch_over(manager.connect().await?) => match result? {},
        }
    }

    /// Says when Redis has everything; takes over what others write to it meanwhile.
    async fn watch_over(
        &self,
        mut connection: MultiplexedConnection,
    ) -> Result<std::convert::Infallible, FailbackError> {
        let store = Store::connect(&self.config.postgres).await?;
        loop {
            if self.closing.get() {
                return std::future::pending().await;
            }
            if self.follower.is_upset() {
                return Err(FailbackError::Upset);
            }
            let (level, foreign) = (self.follower.is_level(), self.stream.take_foreign());
            self.ready.send_replace(level && foreign.is_empty());
            if !foreign.is_empty() {
                self.taking.set(true);
                self.take_names(foreign, &mut connection, &store).await?;
                self.taking.set(false);
            }
            tokio::select! {
                () = self.follower.progress() => {}
                () = self.stream.touched() => {}
                // What was said is not always heard.
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn follow_stream(
        &self,
        replica: &mut Replica,
    ) -> Result<std::convert::Infallible, FailbackError> {
        loop {
            let event = replica.next().await?;
            self.pass(&event);
        }
    }

    /// Has a mark put into Redis's stream; its number.
    async fn put_mark(&self, connection: &mut MultiplexedConnection) -> Result<u64, FailbackError> {
        let (channel, number) = (self.stream.channel(), self.stream.mark() + 1);
        redis::cmd("PUBLISH").arg(channel).arg(number).exec_async(connection).await?;
        Ok(number)
    }

    /// Function libraries as PostgreSQL has them.
    async fn functions(&self, connection: &mut MultiplexedConnection) -> Result<(), FailbackError> {
        let store = Store::connect(&self.config.postgres).await?;
        let wanted = store.functions().await?;
        let mut pipe = redis::pipe();
        pipe.cmd("FUNCTION").arg("FLUSH");
        for (_, source) in wanted {
            pipe.cmd("FUNCTION").arg("LOAD").arg(&source[..]);
        }
        if let Err(error) = pipe.exec_async(connection).await {
            // Redis before 7 has none.
            tracing::debug!(%error, "no functions for Redis");
        }
        Ok(())
    }

    /// Keys of families that live in Redis alone go: they were not watched over meanwhile.
    async fn empty_unmirrored(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), FailbackError> {
        if self.families.mirrors_everything() {
            return Ok(());
        }
        for db in self.databases(connection).await? {
            redis::cmd("SELECT").arg(db).exec_async(connection).await?;
            let mut cursor = 0u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("COUNT").arg(1000);
                let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
                let gone: Vec<_> =
                    names.into_iter().filter(|name| !self.families.mirrors(name)).collect();
                if !gone.is_empty() {
                    redis::cmd("UNLINK").arg(gone).exec_async(connection).await?;
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        redis::cmd("SELECT").arg(0).exec_async(connection).await?;
        Ok(())
    }

    async fn databases(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<u32>, FailbackError> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("keyspace").query_async(connection).await?;
        let number = |line: &str| line.strip_prefix("db")?.split(':').next()?.parse().ok();
        Ok(text.lines().filter_map(number).collect())
    }

    fn count_conflict(
        &self,
        store: &Store,
        (db, key): &Name,
    ) -> impl Future<Output = Result<(), StoreError>> {
        self.status.mirror.conflicts.fetch_add(1, Ordering::Relaxed);
        store.list_conflict(*db, key, "failover")
    }

    async fn local(&self) -> Result<MultiplexedConnection, FailbackError> {
        Ok(self.own.connect().await?)
    }
}
