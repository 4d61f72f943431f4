//! The link: one replication connection after the other, from where the log ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bb8_redis::redis;
use tokio::sync::mpsc;

use super::apply::now_ms;
use super::evictions::Judge;
use super::log::Received;
use super::replica::{Event, Replica, ReplicaError, Resume};
use super::snapshot::{Lineage, Snapshot};
use super::spool::SpoolError;
use super::{Shared, info};
use crate::config::OnSpoolFull;
use crate::rdb;
use crate::store::Position;
use crate::strategy::Gap;
use crate::upstream::{Backoff, SidePool};

/// Commands handed to the log at once.
const CHUNK: usize = 4096;
/// Items of a snapshot between link and applier.
const SNAPSHOT_ITEMS: usize = 4096;
/// How often a full spool is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the snapshot could not be taken over")]
    SnapshotRefused,
    #[error("attaching anew")]
    Relink,
}

/// Keeps a link until it is dropped. Never gives up: what is wrong with Redis or with the
/// configuration is said in the log and in the status, and tried again.
pub async fn keep(shared: Arc<Shared>, side: SidePool) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let mut said = String::new();
    let mut judge = Judge::default();
    // How far the last link has come; of no history before the first one.
    let mut at = Resume { replid: String::new(), offset: 0 };
    loop {
        if shared.log.end().is_none() {
            // Without a stretch in the spool only PostgreSQL knows where to go on.
            let mut ready = shared.ready.subscribe();
            if ready.wait_for(|ready| *ready).await.is_err() {
                return;
            }
        }
        let mut up = false;
        let error = tokio::select! {
            result = follow(&shared, &side, &mut judge, &mut at, &mut up) => match result {
                Err(error) => error,
                Ok(never) => match never {},
            },
            () = shared.relink.notified() => LinkError::Relink,
        };
        let text = error.to_string();
        // Whoever answers at that address next may be empty. One that answers and cannot be followed
        // would never be known better.
        let lost = match &error {
            LinkError::Replica(error) => error.is_loss(),
            _ => false,
        };
        let whole_anyway = shared.presence.has(Gap::Unknown) && !lost;
        let unknown = lost && shared.status.postgres_up.load(Ordering::Relaxed);
        if unknown || whole_anyway {
            shared.presence.set(Gap::Unknown, unknown);
        }
        shared.set_link(false, &text);
        if up {
            backoff.reset();
            said.clear();
        }
        if said != text && !matches!(error, LinkError::Relink) {
            tracing::warn!(error = %text, "the replication link to Redis is down");
            said = text;
        }
        if let LinkError::Spool(error) = &error {
            shared.lose_log(error);
        }
        shared.pause(backoff.next_delay()).await;
    }
}

async fn follow(
    shared: &Arc<Shared>,
    side: &SidePool,
    judge: &mut Judge,
    at: &mut Resume,
    up: &mut bool,
) -> Result<std::convert::Infallible, LinkError> {
    let end = shared.log.end();
    let resume = end.map(|(replid, offset)| Resume { replid: replid.to_string(), offset });
    let mut replica = Replica::connect(&shared.config.redis, resume.clone()).await?;
    let mirror = &shared.status.mirror;
    judge.relinked();
    loop {
        let patient = shared.config.mirror.on_spool_full == OnSpoolFull::Backpressure;
        while patient && shared.log.is_full() {
            // Not reading is what holds Redis back; it drops the link when its buffer for us is full.
            tokio::time::sleep(FULL_PAUSE).await;
        }
        match replica.next().await? {
            Event::Continue { replid, offset } => {
                if !shared.log.rename(resume.as_ref(), &replid) {
                    return Err(LinkError::Relink);
                }
                *at = Resume { replid: replid.clone(), offset };
                *mirror.replid.write() = replid;
                mirror.received.store(offset, Ordering::Relaxed);
                mirror.partial_syncs.fetch_add(1, Ordering::Relaxed);
                shared.presence.set(Gap::Unknown, false);
                shared.set_link(true, "");
                *up = true;
                begin_window(shared, side).await;
            }
            Event::FullResync { replid, offset } => {
                mirror.full_syncs.fetch_add(1, Ordering::Relaxed);
                let same = at.replid == replid && at.offset <= offset;
                shared.begin_snapshot(at.replid.is_empty() || same);
                if let Some(Resume { replid, offset }) = &resume {
                    tracing::info!(replid, offset, "Redis cannot go on from where the log ends");
                }
                *at = Resume { replid: replid.clone(), offset };
                let result = transfer(shared, side, &mut replica, &replid, offset).await;
                if result.is_err() {
                    shared.end_snapshot();
                }
                result?;
                shared.set_link(true, "");
                *up = true;
                begin_window(shared, side).await;
            }
            event => {
                let mut chunk = Vec::new();
                let mut next = Some(event);
                while let Some(event) = next {
                    chunk.extend(received(event));
                    next = if chunk.len() < CHUNK { replica.try_next()? } else { None };
                }
                while !chunk.is_empty() {
                    let rest = match shared.evictions.active() {
                        true => settle(shared, side, judge, &mut replica, &mut chunk).await?,
                        false => Vec::new(),
                    };
                    let Some(last) = chunk.last() else {
                        chunk = rest;
                        continue;
                    };
                    mirror.received.store(last.end_offset, Ordering::Relaxed);
                    replica.set_applied(mirror.applied.load(Ordering::Relaxed));
                    let begin = std::mem::replace(&mut at.offset, last.end_offset);
                    if !shared.log.push(&at.replid, begin, chunk)? {
                        return Err(LinkError::Relink);
                    }
                    chunk = rest;
                    // The applier runs on this thread too: a busy stream must not starve it.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// A mark behind which the link and the subscription both see everything.
async fn begin_window(shared: &Shared, side: &SidePool) {
    if shared.evictions.active()
        && let Err(error) = shared.evictions.mark(side).await
    {
        tracing::debug!(%error, "no mark for evictions");
    }
}

/// Judges what may be evictions in the chunk, to which is added what arrives until a mark has come by
/// behind them. What cannot be judged by then is cut off and returned, with everything behind it.
async fn settle(
    shared: &Shared,
    side: &SidePool,
    judge: &mut Judge,
    replica: &mut Replica,
    chunk: &mut Vec<Received>,
) -> Result<Vec<Received>, LinkError> {
    if judge.look(shared, chunk).await {
        match shared.evictions.mark(side).await {
            Ok(mark) => {
                while judge.last_mark() < Some(mark) {
                    chunk.extend(received(replica.next().await?));
                    while let Some(event) = replica.try_next()? {
                        chunk.extend(received(event));
                    }
                    judge.look(shared, chunk).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no mark for evictions");
                judge.give_up(shared, chunk);
            }
        }
    }
    Ok(judge.hand_on(chunk))
}

fn received(event: Event) -> Option<Received> {
    match event {
        Event::Command(command) => {
            Some(Received::detached(&command.args, command.end_offset, now_ms()))
        }
        Event::KeepAlive { end_offset } => Some(Received::detached(&[], end_offset, now_ms())),
        _ => None,
    }
}

/// Hands a snapshot over to the applier, item by item.
async fn transfer(
    shared: &Arc<Shared>,
    side: &SidePool,
    replica: &mut Replica,
    replid: &str,
    offset: i64,
) -> Result<(), LinkError> {
    // A snapshot cannot be taken over while PostgreSQL is away.
    let mut ready = shared.ready.subscribe();
    if ready.wait_for(|ready| *ready).await.is_err() {
        return Err(LinkError::SnapshotRefused);
    }
    let lineage = lineage(shared.stored(), side, replid, offset).await;
    if lineage != Lineage::Foreign {
        shared.presence.set(Gap::Unknown, false);
    }
    tracing::info!(
        replid,
        offset,
        ?lineage,
        "full resync: Redis sends a snapshot; writes are acknowledged by Redis meanwhile"
    );
    let (sender, items) = mpsc::channel(SNAPSHOT_ITEMS);
    let snapshot = Snapshot { replid: replid.to_owned(), offset, lineage, items };
    *shared.status.mirror.replid.write() = replid.to_owned();
    shared.status.mirror.received.store(offset, Ordering::Relaxed);
    // Nothing of this history is applied yet; Redis must not be told otherwise.
    shared.status.mirror.applied.store(0, Ordering::Relaxed);
    shared.log.push_snapshot(snapshot)?;
    loop {
        match replica.next().await? {
            Event::Rdb(item) => {
                let end = matches!(item, rdb::Item::End { .. });
                sender.send(item).await.map_err(|_| LinkError::SnapshotRefused)?;
                if end {
                    break;
                }
            }
            _ => return Err(LinkError::SnapshotRefused),
        }
    }
    // From here on the stream is received while the applier finishes; should that fail, it asks
    // for a new link.
    Ok(())
}

/// Whether the snapshot is at or past the stored position in the same history.
async fn lineage(stored: Option<Position>, side: &SidePool, replid: &str, offset: i64) -> Lineage {
    let Some(stored) = stored else { return Lineage::First };
    if stored.replid == replid {
        return if offset >= stored.offset { Lineage::Ahead } else { Lineage::Foreign };
    }
    // After a restart or a failover the history goes on under a new id from a second one.
    let Ok(mut connection) = side.get().await else { return Lineage::Foreign };
    let mut ask = redis::cmd("INFO");
    ask.arg("replication");
    let Ok(text) = ask.query_async::<String>(&mut *connection).await else {
        return Lineage::Foreign;
    };
    let second = info::field(&text, "master_replid2");
    let covered =
        info::field(&text, "second_repl_offset").and_then(|offset| offset.parse::<i64>().ok());
    let same =
        second == Some(stored.replid.as_str()) && covered.is_some_and(|upto| stored.offset < upto);
    if same { Lineage::Ahead } else { Lineage::Foreign }
}
