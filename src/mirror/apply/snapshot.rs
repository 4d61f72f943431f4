//! Taking over a snapshot.

use super::{Applier, ApplyError};
use crate::engine::Value;
use crate::mirror::snapshot::Snapshot;
use crate::rdb::Item;
use crate::store::{Commit, Position};

pub(super) async fn load(applier: &mut Applier, mut snapshot: Snapshot) -> Result<(), ApplyError> {
    let mut db = 0;
    loop {
        let Some(item) = snapshot.items.recv().await else { return Err(ApplyError::SnapshotCut) };
        match item {
            Item::SelectDb(n) => db = n,
            Item::Key { key, expire_at_ms, value } if applier.shared.families.mirrors(&key) => {
                let _ = applier.keyspace.put(db, &key, Value::from(value), expire_at_ms);
            }
            Item::End { .. } => break,
            _ => {}
        }
    }
    let (delta, seq) = applier.keyspace.take_delta();
    let position = Position { replid: snapshot.replid.clone(), offset: snapshot.offset, db: 0 };
    applier
        .store
        .persist(&Commit { delta, position: Some(position.clone()), ..Commit::default() })
        .await?;
    applier.committed_seq = seq;
    applier.lineage = snapshot.replid.as_str().into();
    applier.reached = snapshot.offset;
    applier.session = super::Session::new(0, applier.shared.gate.channel());
    applier.shared.set_stored(Some(position.clone()));
    applier.position = Some(position);
    applier.shared.set_syncing(false);
    let _ = snapshot.done.send(true);
    Ok(())
}
