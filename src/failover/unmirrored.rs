//! Keys of `mirror = false` families, which the mirror leaves in Redis: a switch takes them along to PostgreSQL, which has
//! everything while it leads, and out of it when Redis leads again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bb8::ManageConnection;
use bb8_redis::redis::{self, Value};

use super::{Failover, Local};
use crate::store::{Store, StoreError};
use crate::strategy::Families;
use crate::upstream::{ConnectError, Connector, Route, SideError, SideManager, To};

/// Clients wait meanwhile.
const CARRYING: Duration = Duration::from_secs(2);
/// Nobody waits.
const FORGETTING: Duration = Duration::from_secs(30);
/// Names asked for, and looked at, at once.
const NAMES: usize = 2000;

#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Side(#[from] SideError),
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("it takes longer than {CARRYING:?}")]
    Late,
}

impl Failover {
    fn families(&self) -> Families {
        Families::new(self.config.family.clone())
    }

    /// Nobody leads, and PostgreSQL has everything but these keys: it gets them from Redis.
    pub(super) async fn carry_unmirrored(&self, local: &Local) {
        let families = self.families();
        if families.mirrors_everything() {
            return;
        }
        let carried = tokio::time::timeout(CARRYING, self.carry(&families, local)).await;
        match carried.unwrap_or(Err(CarryError::Late)) {
            Ok(keys) => tracing::debug!(keys, "PostgreSQL has the keys that lived in Redis alone"),
            Err(error) => {
                tracing::warn!(%error, "keys of families with mirror = false start empty");
            }
        }
    }

    async fn carry(&self, families: &Families, local: &Local) -> Result<usize, CarryError> {
        let mut redis = SideManager::new(self.redis.clone()).connect().await?;
        let route = Route::new(To::Local(local.sender.clone()));
        let own = Connector::routed(&self.config.redis, route)?;
        let mut server = SideManager::new(own).connect().await?;
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("keyspace").query_async(&mut redis).await?;
        let number = |line: &str| line.strip_prefix("db")?.split(':').next()?.parse().ok();
        let mut carried = 0;
        for db in text.lines().filter_map(number) {
            let db: u32 = db;
            redis::cmd("SELECT").arg(db).exec_async(&mut redis).await?;
            redis::cmd("SELECT").arg(db).exec_async(&mut server).await?;
            let mut cursor = 0u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("COUNT").arg(NAMES);
                let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(&mut redis).await?;
                let names: Vec<_> =
                    names.into_iter().filter(|name| !families.mirrors(name)).collect();
                carried += names.len();
                copy(&mut redis, &mut server, &names).await?;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(carried)
    }

    /// Redis leads again: PostgreSQL keeps nothing of these keys.
    pub(super) async fn forget_unmirrored(&self) {
        let families = self.families();
        let postgres = self.status.postgres_up.load(Ordering::Relaxed);
        if families.mirrors_everything() || !postgres {
            return;
        }
        let forgotten = tokio::time::timeout(FORGETTING, self.forget(&families)).await;
        match forgotten {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "PostgreSQL keeps keys of families with mirror = false")
            }
            Err(_) => tracing::warn!("PostgreSQL keeps keys of families with mirror = false"),
        }
    }

    async fn forget(&self, families: &Families) -> Result<(), StoreError> {
        let store = Store::connect(&self.config.postgres).await?;
        let mut last = 0;
        loop {
            let keys = store.keys_after(last, NAMES).await?;
            let Some((id, ..)) = keys.last() else { return Ok(()) };
            last = *id;
            let gone: Vec<i64> = keys
                .iter()
                .filter(|(.., key)| !families.mirrors(key))
                .map(|(id, ..)| *id)
                .collect();
            if !gone.is_empty() {
                store.drop_keys(&gone).await?;
            }
        }
    }
}

/// Values with what is left of their time, from the selected database to that of the other server.
async fn copy(
    from: &mut redis::aio::MultiplexedConnection,
    to: &mut redis::aio::MultiplexedConnection,
    names: &[Vec<u8>],
) -> Result<(), CarryError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut ask = redis::pipe();
    for name in names {
        ask.cmd("DUMP").arg(name).cmd("PTTL").arg(name);
    }
    let answers: Vec<Value> = ask.query_async(from).await?;
    let mut tell = redis::pipe();
    for (name, answer) in names.iter().zip(answers.chunks_exact(2)) {
        // Its time may be over.
        let (Value::BulkString(dump), Value::Int(left_ms)) = (&answer[0], &answer[1]) else {
            continue;
        };
        let left_ms = if *left_ms < 0 { 0 } else { (*left_ms).max(1) };
        tell.cmd("RESTORE").arg(name).arg(left_ms).arg(&dump[..]).arg("REPLACE").ignore();
    }
    Ok(tell.exec_async(to).await?)
}
