//! Watches Redis's memory, and keeps the subscription while keys may be evicted.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{self, RedisError};

use super::{declare, subscription};
use crate::mirror::Shared;
use crate::mirror::info::field;
use crate::strategy::Gap;
use crate::upstream::{SideError, SideManager, SidePool};

/// So far below `maxmemory` Redis cannot begin to evict before the next look: one command can make a
/// value of 512 MB (`proto-max-bulk-len`), and the rest is two looks' worth of writes.
const HEADROOM: u64 = 768 << 20;
/// Between two looks while there is a `maxmemory`.
const NEAR: Duration = Duration::from_millis(100);
/// Between two looks while there is none, or Redis is away.
const FAR: Duration = Duration::from_secs(1);

/// What Redis says of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    used: u64,
    /// Bytes; 0: no limit.
    limit: u64,
    evicts: bool,
    /// Keys evicted since Redis was started.
    evicted: u64,
}

impl Memory {
    fn parse(info: &str) -> Memory {
        let number = |name| field(info, name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
        Memory {
            used: number("used_memory"),
            limit: number("maxmemory"),
            evicts: policy != "noeviction",
            evicted: number("evicted_keys"),
        }
    }

    fn may_evict(&self) -> bool {
        self.evicts && self.limit > 0 && self.used.saturating_add(HEADROOM) > self.limit
    }
}

/// Runs until it is dropped.
pub async fn keep(shared: Arc<Shared>, manager: SideManager) {
    let side = SidePool::new(manager.clone(), &shared.config.redis);
    let mut listener: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let memory = match look(&side).await {
            Ok(memory) => memory,
            Err(error) => {
                tracing::debug!(%error, "Redis's memory cannot be looked at");
                tokio::time::sleep(NEAR).await;
                continue;
            }
        };
        if memory.may_evict() {
            declare(&shared.config, &shared.presence, Gap::Evicting);
            if shared.standby.is_on() {
                // Who mirrors tells evictions from deletes.
                tokio::time::sleep(NEAR).await;
                continue;
            }
            shared.evictions.activate();
            if listener.as_ref().is_none_or(|task| task.is_finished()) {
                let task = listen(Arc::clone(&shared), manager.clone(), side.clone());
                listener = Some(tokio::spawn(task));
            }
        }
        if memory.evicted > 0 {
            declare(&shared.config, &shared.presence, Gap::Lacking);
        }
        tokio::time::sleep(if memory.limit > 0 && memory.evicts { NEAR } else { FAR }).await;
    }
}

async fn look(side: &SidePool) -> Result<Memory, SideError> {
    let mut connection = side.get().await?;
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("memory").cmd("INFO").arg("stats");
    let (memory, stats): (String, String) = pipe.query_async(&mut *connection).await?;
    Ok(Memory::parse(&(memory + &stats)))
}

/// One subscription after the other. What happens between them is doubtful.
async fn listen(shared: Arc<Shared>, manager: SideManager, side: SidePool) {
    let mut said = false;
    loop {
        let notifies = notify_evictions(&side).await;
        if let Err(error) = notifies
            && !std::mem::replace(&mut said, true)
        {
            tracing::warn!(
                %error,
                "Redis does not let notify-keyspace-events be set: evictions cannot be told from deletes that bypass the proxy, and such deletes leave PostgreSQL alone; give the proxy's user CONFIG, or set notify-keyspace-events to Ee"
            );
        }
        if !said {
            if let Err(error) = subscription::listen(&shared, &manager, &side).await {
                tracing::debug!(%error, "no subscription to evictions");
            }
            shared.evictions.end();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if said {
            tokio::time::sleep(FAR).await;
        }
    }
}

/// Has Redis announce evictions, beside whatever it announces already.
async fn notify_evictions(side: &SidePool) -> Result<(), SideError> {
    const NAME: &str = "notify-keyspace-events";
    let mut connection = side.get().await?;
    let mut get = redis::cmd("CONFIG");
    let pairs: Result<Vec<String>, RedisError> =
        get.arg("GET").arg(NAME).query_async(&mut *connection).await;
    let before = pairs?.into_iter().nth(1).unwrap_or_default();
    let missing = |flag: char| !(before.contains(flag) || flag == 'e' && before.contains('A'));
    let more: String = "Ee".chars().filter(|flag| missing(*flag)).collect();
    if more.is_empty() {
        return Ok(());
    }
    let after = format!("{before}{more}");
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg(NAME).arg(&after).query_async::<()>(&mut *connection).await?;
    tracing::info!(before, after, "notify-keyspace-events extended, so that evictions are seen");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evictions_are_expected_near_the_limit_only() {
        let info = |limit: u64, policy: &str| {
            Memory::parse(&format!(
                "# Memory\r\nused_memory:1000000\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\nevicted_keys:3\r\n"
            ))
        };
        assert!(info(2_000_000, "allkeys-lru").may_evict());
        assert!(info(HEADROOM, "volatile-ttl").may_evict());
        assert!(!info(HEADROOM + 2_000_000, "allkeys-lru").may_evict());
        assert!(!info(2_000_000, "noeviction").may_evict());
        assert!(!info(0, "allkeys-lru").may_evict());
        assert_eq!(info(0, "noeviction").evicted, 3);
    }
}
