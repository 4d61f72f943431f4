//! Taking over a snapshot.

use super::{Applier, ApplyError, Session};
use crate::engine::{self, Db};
use crate::mirror::snapshot::{Lineage, Snapshot};
use crate::rdb::Item;
use crate::store::{BulkLoader, BulkOutcome, Merge, Position};

/// Loads a snapshot, then goes on from its position. On an error nothing of it stays, and the link
/// attaches anew.
pub(super) async fn load(applier: &mut Applier, snapshot: Snapshot) -> Result<(), ApplyError> {
    let shared = std::sync::Arc::clone(&applier.shared);
    let shutdown = applier.shutdown.clone();
    let result = tokio::select! {
        result = take_over(applier, snapshot) => result,
        () = shutdown.cancelled() => Err(ApplyError::SnapshotCut),
    };
    shared.end_snapshot();
    if result.is_err() {
        // What follows the snapshot in the log hangs in the air.
        let stored =
            shared.stored().map(|position| (position.replid.as_str().into(), position.offset));
        shared.log.restart(stored)?;
        shared.relink.notify_one();
    }
    match result {
        // The link says why; PostgreSQL is well.
        Err(ApplyError::SnapshotCut) => Ok(()),
        other => other,
    }
}

async fn take_over(applier: &mut Applier, snapshot: Snapshot) -> Result<(), ApplyError> {
    let Snapshot { replid, offset, lineage, mut items } = snapshot;
    let mut loader = applier.store.bulk_load().await?;
    let mut db: Db = 0;
    loop {
        match items.recv().await {
            None => return Err(ApplyError::SnapshotCut),
            Some(Item::End { .. }) => break,
            Some(item) => push(applier, &mut loader, &mut db, item).await?,
        }
    }
    let position = Position { replid: replid.clone(), offset, db: 0 };
    let merge =
        if lineage == Lineage::Foreign { Merge::PostgresLeads } else { Merge::Authoritative };
    let outcome = loader.finish(&position, merge).await?;
    report(applier, lineage, &outcome);
    applier.keyspace = Applier::fresh_keyspace(outcome.next_id, false);
    applier.committed_seq = 0;
    applier.lineage = replid.as_str().into();
    applier.reached = offset;
    applier.session = Session::new(0, applier.shared.gate.channel());
    applier.rereads.restart(Vec::new());
    applier.shared.set_stored(Some(position.clone()));
    applier.position = Some(position);
    applier.applied(offset);
    if lineage == Lineage::Foreign {
        applier.catch_redis_up().await?;
    }
    Ok(())
}

async fn push(
    applier: &Applier,
    loader: &mut BulkLoader,
    db: &mut Db,
    item: Item,
) -> Result<(), ApplyError> {
    match item {
        Item::SelectDb(selected) => *db = selected,
        Item::Key { key, expire_at_ms, value } if applier.shared.families.mirrors(&key) => {
            loader.push(*db, &key, expire_at_ms, &value).await?;
        }
        Item::Function(source) => {
            if let Ok(name) = engine::library_name(&source) {
                loader.push_function(&name, &source).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn report(applier: &Applier, lineage: Lineage, outcome: &BulkOutcome) {
    let BulkOutcome { keys, added, replaced, removed, conflicts, missing_in_redis, .. } = *outcome;
    tracing::info!(keys, added, replaced, removed, "snapshot taken over");
    if lineage == Lineage::Foreign {
        tracing::warn!(
            conflicts,
            missing_in_redis,
            "this Redis lost something or has another history: PostgreSQL leads, and Redis is brought up to it"
        );
        applier
            .shared
            .status
            .mirror
            .conflicts
            .fetch_add(conflicts, std::sync::atomic::Ordering::Relaxed);
    }
}
