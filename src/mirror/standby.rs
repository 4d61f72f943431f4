//! The mirror of a proxy that stands by: another one writes to PostgreSQL, and says over Redis how far the barriers of this one
//! are committed ([`super::others`]).
//!
//! Twice a second a barrier is published that nobody waits for. Its answer tells that the leader follows the history
//! of the very Redis that is connected to, which history that is, and why it may lack keys. Keys that are missed are read
//! from PostgreSQL here, behind a barrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use bb8_redis::redis;
use bb8_redis::redis::aio::MultiplexedConnection;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::others::Told;
use super::recall::{self, Name, State};
use super::{Mirror, Shared, Stop, evictions, others, watch};
use crate::engine::{Loaded, Need, Part};
use crate::store::{Store, StoreError};
use crate::strategy::{Gap, RecallError};
use crate::tenure::Standing;
use crate::upstream::{Backoff, SideError, SideManager};

/// Between two barriers that ask how the leader is.
const QUESTION: Duration = Duration::from_millis(500);
/// A leader that has not answered for so long is not there.
const SILENCE: Duration = Duration::from_millis(1500);
/// After such a silence the leader may have had copies leave Redis: it waits for longer before it does.
const DEAF: Duration = Duration::from_secs(3);

/// What a proxy that stands by has besides.
#[derive(Default)]
pub struct Standby {
    on: AtomicBool,
    /// A session for keys that are missed.
    store: tokio::sync::Mutex<Option<Store>>,
}

impl Standby {
    /// True while another proxy mirrors.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

#[derive(Debug, thiserror::Error)]
enum HearError {
    #[error(transparent)]
    Side(#[from] SideError),
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("Redis has closed the connection on which the proxy that leads is heard")]
    Closed,
}

impl Mirror {
    /// As [`Mirror::run`], while another proxy mirrors.
    pub async fn stand_by(self, stop: Stop) -> bool {
        let Mirror { shared, side, missing } = self;
        shared.standby.on.store(true, Ordering::Relaxed);
        let mut tasks = JoinSet::new();
        tasks.spawn(evictions::keep(Arc::clone(&shared), side.clone()));
        tasks.spawn(recall::serve(Arc::clone(&shared), side.clone(), missing));
        tasks.spawn(watch::watch(Arc::clone(&shared)));
        tasks.spawn(watch_postgres(Arc::clone(&shared)));
        tasks.spawn(hear(Arc::clone(&shared), side));
        let Stop { gently, received, yields } = stop;
        tokio::select! {
            () = gently.cancelled() => {}
            () = received.cancelled() => {}
            () = yields.cancelled() => return false,
        }
        drop(tasks);
        shared.gate.refuse(false);
        shared.gate.open();
        shared.over();
        true
    }
}

/// Whether PostgreSQL is there, as who asks for the lease has found.
async fn watch_postgres(shared: Arc<Shared>) {
    let mut standing = shared.tenure.watch();
    loop {
        match standing.borrow_and_update().clone() {
            Standing::Away(condition, why) => shared.postgres_gone(Some(condition), &why),
            Standing::Standby(_) | Standing::Leader(_) => shared.postgres_proven(),
            Standing::Starting => {}
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// Hears the leader, over one connection after the other.
async fn hear(shared: Arc<Shared>, manager: SideManager) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    let mut history = None;
    loop {
        let mut heard = false;
        let Err(error) = listen(&shared, &manager, &mut history, &mut heard).await;
        if heard {
            backoff.reset();
        }
        // Whoever answers at that address next may be empty.
        shared.presence.set(Gap::Unknown, shared.status.postgres_up.load(Ordering::Relaxed));
        shared.set_link(false, &error.to_string());
        shared.pause(backoff.next_delay()).await;
    }
}

async fn listen(
    shared: &Shared,
    manager: &SideManager,
    history: &mut Option<String>,
    heard: &mut bool,
) -> Result<std::convert::Infallible, HearError> {
    let mut subscriber = manager.subscriber().await?;
    subscriber.connection.subscribe(others::done_channel(shared.gate.channel())).await?;
    let mut connection = manager.connect().await?;
    let source = shared.gate.source();
    let mut messages = subscriber.connection.on_message();
    let mut questions = tokio::time::interval(QUESTION);
    let (mut first, mut heard_at) = (None, Instant::now());
    loop {
        tokio::select! {
            _ = questions.tick() => {
                let (number, message) = source.issue_numbered();
                first.get_or_insert(number);
                publish(shared, &mut connection, &message).await?;
                if heard_at.elapsed() > SILENCE {
                    shared.set_link(false, "the proxy that leads is not heard");
                }
                if heard_at.elapsed() > DEAF && shared.status.postgres_up.load(Ordering::Relaxed) {
                    shared.presence.set(Gap::Unknown, true);
                }
            }
            message = messages.next() => {
                let Some(message) = message else { return Err(HearError::Closed) };
                let Some(told) = Told::parse(message.get_payload_bytes()) else { continue };
                let Told { gaps, replid, barriers } = told;
                if let Some(replid) = replid
                    && history.replace(replid.clone()).is_some_and(|before| before != replid)
                {
                    shared.gate.leave_history();
                }
                shared.gate.commit(&barriers);
                if first.is_some_and(|number| source.reached(number)) {
                    // This proxy sees for itself whether Redis is near its limit.
                    shared.presence.adopt(gaps, &[Gap::Evicting, Gap::Unknown]);
                    shared.presence.set(Gap::Unknown, gaps & Gap::Unknown as u8 != 0);
                    shared.status.mirror.synced.store(true, Ordering::Relaxed);
                    heard_at = Instant::now();
                    *heard = true;
                    shared.set_link(true, "");
                }
            }
        }
    }
}

async fn publish(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    message: &str,
) -> Result<(), redis::RedisError> {
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(shared.gate.channel()).arg(message).query_async(connection).await
}

/// What PostgreSQL has of keys, with everything that came before a barrier on `connection`.
pub async fn states(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    names: &[Name],
) -> Result<Vec<State>, RecallError> {
    let source = shared.gate.source();
    let mut watcher = source.watcher();
    let (number, message) = source.issue_numbered();
    publish(shared, connection, &message).await.map_err(recall::refused)?;
    let committed = async {
        while !source.reached(number) {
            if !watcher.changed().await {
                return;
            }
        }
    };
    let loaded = async {
        committed.await;
        load(shared, names).await
    };
    match tokio::time::timeout(recall::PATIENCE, loaded).await {
        Ok(Ok(loaded)) => Ok(loaded.into_iter().map(state).collect()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "keys that Redis lacks cannot be read from PostgreSQL");
            Err(RecallError::Postgres)
        }
        Err(_) => Err(RecallError::Postgres),
    }
}

async fn load(shared: &Shared, names: &[Name]) -> Result<Vec<Loaded>, StoreError> {
    let need = |(db, key): &Name| Need { db: *db, key: key.clone(), part: Part::All };
    let needs: Vec<Need> = names.iter().map(need).collect();
    let mut session = shared.standby.store.lock().await;
    if let Some(store) = session.take() {
        match store.load(&needs).await {
            Ok(loaded) => {
                *session = Some(store);
                return Ok(loaded);
            }
            Err(error) if error.is_connection() => {}
            Err(error) => return Err(error),
        }
    }
    let store = Store::connect(&shared.config.postgres).await?;
    let loaded = store.load(&needs).await?;
    *session = Some(store);
    Ok(loaded)
}

fn state(loaded: Loaded) -> State {
    let Some(found) = loaded.found else { return State::Absent };
    if found.expires_at_ms.is_some_and(|at_ms| at_ms <= super::apply::now_ms()) {
        return State::Absent;
    }
    State::of(&found.value, found.expires_at_ms)
}
