//! Brings keys that Redis lacks back from PostgreSQL, when somebody misses them.
//!
//! One task serves all clients in batches, so a key that many miss at once is loaded once. Per batch:
//! `WATCH` the keys that Redis really lacks and publish a mark, in one round trip; where the mark comes by in the
//! stream the applier says what PostgreSQL has; a transaction restores that, unless somebody
//! touched one of the keys since they are watched. So nothing that was deleted or replaced meanwhile
//! comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, Pipeline};
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::Shared;
use super::apply::{PASS_OVER, now_ms, recall_message};
use super::canary::{Canaries, Swaps, Watched};
use super::standby;
use crate::engine::{Db, Value, to_object};
use crate::rdb;
use crate::strategy::{Gap, MirrorState, Missing, RecallError, Recalled};
use crate::traces;
use crate::upstream::{SideError, SideManager};

/// Keys looked for at once.
const BATCH: usize = 512;
/// How long the mirror may take to reach a mark, unless it takes over a snapshot.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A key that expires sooner, by this clock, Redis may take for expired by its own.
const LASTS_MS: i64 = 1000;
/// How often it is looked whether there is anything to wait for.
const LOOK: Duration = Duration::from_millis(10);

/// What PostgreSQL has of a key, with everything that came before the mark.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Absent,
    Found {
        dump: Bytes,
        /// Unix time in ms.
        expires_at_ms: Option<i64>,
        /// The content of a string.
        content: Option<Bytes>,
    },
    /// Not to be had now; asking again may help.
    Unknown,
}

impl State {
    /// Of a complete value that is there.
    pub fn of(value: &Value, expires_at_ms: Option<i64>) -> State {
        let content = match value {
            Value::String(content) => content.clone(),
            _ => None,
        };
        match to_object(value) {
            Some(object) => {
                State::Found { dump: rdb::encode_dump(&object), expires_at_ms, content }
            }
            None => State::Unknown,
        }
    }

    /// What a client may be told that Redis has, when it has been restored there: not what it may already
    /// take for expired.
    fn told(&self, now_ms: i64) -> Option<Recalled> {
        match self {
            State::Found { content: Some(content), expires_at_ms, .. }
                if expires_at_ms.is_none_or(|at_ms| at_ms > now_ms + LASTS_MS) =>
            {
                Some(Recalled::Back(content.clone()))
            }
            _ => None,
        }
    }
}

/// A key and the database it is in.
pub type Name = (Db, Bytes);
type Question = (Vec<Name>, oneshot::Sender<Vec<State>>);

/// Questions that wait for their mark, for the applier.
#[derive(Debug, Default)]
pub struct Recalls {
    waiting: Mutex<(u64, HashMap<u64, Question>)>,
}

/// A question whose mark is on its way. Dropping it takes the question back.
struct Asked<'a> {
    shared: &'a Shared,
    number: u64,
    states: oneshot::Receiver<Vec<State>>,
    /// Snapshots that had begun before it was asked.
    syncs: u64,
}

impl<'a> Asked<'a> {
    fn new(shared: &'a Shared, names: &[Name]) -> Asked<'a> {
        let syncs = full_syncs(shared);
        let (sender, states) = oneshot::channel();
        let mut waiting = shared.recalls.waiting.lock();
        waiting.0 += 1;
        let number = waiting.0;
        waiting.1.insert(number, (names.to_vec(), sender));
        drop(waiting);
        Asked { shared, number, states, syncs }
    }

    /// Sends the mark.
    fn publish(&self, pipe: &mut Pipeline) {
        let channel = self.shared.gate.channel();
        pipe.cmd("PUBLISH").arg(channel).arg(recall_message(self.number)).ignore();
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        drop(self.shared.recalls.take(self.number));
    }
}

impl Recalls {
    /// The question whose mark has come by.
    pub fn take(&self, number: u64) -> Option<Question> {
        self.waiting.lock().1.remove(&number)
    }
}

/// What is kept from one batch to the next.
#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    canaries: Canaries,
}

/// Runs until it is dropped.
pub async fn serve(
    shared: Arc<Shared>,
    manager: SideManager,
    mut missing: UnboundedReceiver<Missing>,
) {
    let mut link = Link::default();
    while let Some(first) = missing.recv().await {
        let mut batch = vec![first];
        let mut keys = batch[0].keys.len();
        while keys < BATCH
            && let Ok(more) = missing.try_recv()
        {
            keys += more.keys.len();
            batch.push(more);
        }
        let began = Instant::now();
        let result = bring_back(&shared, &manager, &mut link, &batch).await;
        traces::record("recall", began.elapsed(), result.is_ok(), || {
            [("tandem.keys", (keys as i64).into())]
        });
        if result.is_err() {
            // It may be watching keys, or stand in another database.
            link.connection = None;
        }
        for missing in batch {
            let answer = match &result {
                Ok(known) => missing
                    .keys
                    .iter()
                    .map(|key| {
                        let name = (missing.db, key.clone());
                        known.get(&name).cloned().unwrap_or(Ok(Recalled::Again))
                    })
                    .collect(),
                Err(error) => Err(error.clone()),
            };
            // The client may be gone.
            let _ = missing.answer.send(answer);
        }
    }
}

async fn bring_back(
    shared: &Shared,
    manager: &SideManager,
    link: &mut Link,
    batch: &[Missing],
) -> Result<HashMap<Name, Result<Recalled, RecallError>>, RecallError> {
    if !postgres_is_there(shared).await {
        if shared.presence.partial() {
            return Err(RecallError::Postgres);
        }
        // Redis alone serves, with what it has.
        let names = batch.iter().flat_map(|missing| {
            missing.keys.iter().map(|key| ((missing.db, key.clone()), Ok(Recalled::Absent)))
        });
        return Ok(names.collect());
    }
    let connection = match &mut link.connection {
        Some(connection) => connection,
        none => none.insert(manager.connect().await.map_err(from_redis)?),
    };
    let mut names: Vec<Name> = batch
        .iter()
        .flat_map(|missing| missing.keys.iter().map(|key| (missing.db, key.clone())))
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut known = HashMap::new();
    let mut asked = None;
    let ask = |names: &[Name], pipe: &mut Pipeline| {
        if !shared.standby.is_on() {
            asked.insert(Asked::new(shared, names)).publish(pipe);
        }
    };
    // Watched from here on.
    let Watched { lacking: watched, swaps } =
        link.canaries.watch_lacking(connection, names, ask).await.map_err(refused)?;
    if watched.is_empty() {
        return Ok(known);
    }
    shared.presence.counters.misses.fetch_add(watched.len() as u64, Ordering::Relaxed);
    let states = loop {
        if shared.standby.is_on() {
            break standby::states(shared, connection, &watched).await?;
        }
        let mut question = match asked.take() {
            Some(question) => question,
            None => {
                let (question, mut pipe) = (Asked::new(shared, &watched), redis::pipe());
                question.publish(&mut pipe);
                pipe.query_async::<()>(connection).await.map_err(refused)?;
                question
            }
        };
        if let Some(states) = states_at_mark(&mut question).await? {
            break states;
        }
    };
    let found: Vec<(&Name, &Bytes, i64)> = watched
        .iter()
        .zip(&states)
        .filter_map(|(name, state)| match state {
            State::Found { dump, expires_at_ms, .. } => {
                Some((name, dump, expires_at_ms.unwrap_or(0)))
            }
            _ => None,
        })
        .collect();
    let restored = restore(shared, connection, &found).await;
    for (name, state) in watched.iter().zip(&states) {
        match (state, &restored) {
            (State::Absent, _) => drop(known.insert(name.clone(), Ok(Recalled::Absent))),
            (_, Err(error)) => drop(known.insert(name.clone(), Err(error.clone()))),
            _ => {}
        }
    }
    let in_place = match (restored, swaps) {
        (Ok(true), Some(before)) => {
            let after = Swaps::read(connection).await.map_err(refused)?;
            let in_place = after.none_since(&before);
            if !in_place {
                let names: Vec<Name> = found.iter().map(|(name, ..)| (*name).clone()).collect();
                drop_copies(shared, connection, &names).await?;
            }
            in_place
        }
        (Ok(true), None) => true,
        (Ok(false), _) => {
            link.canaries.forget();
            false
        }
        // Whatever the connection is in the middle of ends with it.
        (Err(_), _) => {
            link.connection = None;
            false
        }
    };
    if in_place {
        let now_ms = now_ms();
        let told = watched.into_iter().zip(&states);
        known.extend(told.filter_map(|(name, state)| Some((name, Ok(state.told(now_ms)?)))));
    }
    Ok(known)
}

/// At the start it takes a moment until anybody knows.
async fn postgres_is_there(shared: &Shared) -> bool {
    let mut waited = Duration::ZERO;
    loop {
        let there = shared.status.postgres_up.load(Ordering::Relaxed);
        if there || !shared.presence.has(Gap::Unknown) || waited >= PATIENCE {
            return there;
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
}

/// Those of the keys that Redis lacks.
pub async fn lacking(
    connection: &mut MultiplexedConnection,
    names: Vec<Name>,
) -> Result<Vec<Name>, RecallError> {
    if names.is_empty() {
        return Ok(names);
    }
    let mut pipe = redis::pipe();
    let mut selected = None;
    for (db, key) in &names {
        select(&mut pipe, &mut selected, *db);
        pipe.cmd("EXISTS").arg(&key[..]);
    }
    let there: Vec<i64> = pipe.query_async(connection).await.map_err(refused)?;
    let missing = names.into_iter().zip(there).filter(|(_, there)| *there == 0);
    Ok(missing.map(|(name, _)| name).collect())
}

/// Deletes the keys from Redis in a way that leaves PostgreSQL alone: they are brought back from there.
pub async fn drop_copies(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    names: &[Name],
) -> Result<(), RecallError> {
    for some in names.chunk_by(|(a, _), (b, _)| a == b) {
        let mut pipe = redis::pipe();
        select(&mut pipe, &mut None, some[0].0);
        pipe.cmd("MULTI").ignore();
        pipe.cmd("PUBLISH").arg(shared.gate.channel()).arg(PASS_OVER).ignore();
        let unlink = pipe.cmd("UNLINK");
        some.iter().for_each(|(_, key)| {
            unlink.arg(&key[..]);
        });
        unlink.ignore();
        pipe.cmd("EXEC").ignore();
        pipe.query_async::<()>(connection).await.map_err(refused)?;
    }
    Ok(())
}

pub fn select(pipe: &mut Pipeline, selected: &mut Option<Db>, db: Db) {
    if *selected != Some(db) {
        pipe.cmd("SELECT").arg(db).ignore();
        *selected = Some(db);
    }
}

fn full_syncs(shared: &Shared) -> u64 {
    shared.status.mirror.full_syncs.load(Ordering::Relaxed)
}

/// What the applier says when the mark comes by; `None`: a snapshot has begun since it was sent, the mark may be
/// part of what that stands for and never come by.
async fn states_at_mark(asked: &mut Asked<'_>) -> Result<Option<Vec<State>>, RecallError> {
    let Asked { shared, states, syncs, .. } = asked;
    let mut waited = Duration::ZERO;
    loop {
        match tokio::time::timeout(LOOK, &mut *states).await {
            Ok(Ok(states)) => return Ok(Some(states)),
            Ok(Err(_)) => return Err(RecallError::Postgres),
            Err(_) if !shared.status.postgres_up.load(Ordering::Relaxed) => {
                return Err(RecallError::Postgres);
            }
            Err(_) => match shared.status.mirror.state() {
                MirrorState::Syncing => {}
                MirrorState::Streaming if full_syncs(shared) != *syncs => return Ok(None),
                _ if waited >= PATIENCE => return Err(RecallError::Postgres),
                _ => waited += LOOK,
            },
        }
    }
}

/// Restores what PostgreSQL has, unless somebody was there first: false. Either way nothing is watched any more.
async fn restore(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    found: &[(&Name, &Bytes, i64)],
) -> Result<bool, RecallError> {
    if found.is_empty() {
        redis::cmd("UNWATCH").query_async::<()>(connection).await.map_err(refused)?;
        return Ok(true);
    }
    let mut pipe = redis::pipe();
    pipe.atomic();
    pipe.cmd("PUBLISH").arg(shared.gate.channel()).arg(PASS_OVER).ignore();
    let mut selected = None;
    for ((db, key), dump, at_ms) in found {
        select(&mut pipe, &mut selected, *db);
        pipe.cmd("RESTORE").arg(&key[..]).arg(*at_ms).arg(&dump[..]).arg("ABSTTL").ignore();
    }
    let done: redis::Value = pipe.query_async(connection).await.map_err(refused)?;
    let done = done != redis::Value::Nil;
    if done {
        let count = found.len() as u64;
        shared.presence.counters.recalled.fetch_add(count, Ordering::Relaxed);
        shared.status.mirror.restored.fetch_add(count, Ordering::Relaxed);
    }
    Ok(done)
}

pub fn refused(error: redis::RedisError) -> RecallError {
    from_redis(error.into())
}

fn from_redis(error: SideError) -> RecallError {
    RecallError::Redis(error.to_string().replace(['\r', '\n'], " "))
}
