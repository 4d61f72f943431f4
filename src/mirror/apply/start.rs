//! The way back to PostgreSQL: connect, find the position, go on from there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{Applier, ApplyError, Batch, Session, Withheld};
use crate::mirror::Shared;
use crate::mirror::apply::reread::Rereads;
use crate::store::{Position, Store};
use crate::tenure::Standing;
use crate::upstream::{Backoff, SidePool};

impl Applier {
    /// Connects to PostgreSQL for the first time, for as long as it takes.
    pub async fn start(
        shared: Arc<Shared>,
        side: SidePool,
        shutdown: CancellationToken,
    ) -> Applier {
        let mut backoff = Backoff::default();
        let (store, position) = loop {
            match open(&shared).await {
                Ok(opened) => break opened,
                Err(error) => {
                    missed(&shared, &error).await;
                    shared.pause(backoff.next_delay()).await;
                }
            }
        };
        let rereads = Rereads::new(side.clone(), shared.gate.channel());
        let session = Session::new(0, shared.gate.channel());
        let mut applier = Applier {
            keyspace: Applier::fresh_keyspace(1, false),
            shared,
            shutdown,
            store,
            side,
            session,
            rereads,
            lineage: "".into(),
            position: None,
            reached: 0,
            position_written: Instant::now(),
            taken: Default::default(),
            partial: Batch::default(),
            running_at_ms: None,
            open: Batch::default(),
            in_flight: None,
            flushed: Vec::new(),
            withheld: Withheld::default(),
            committed_seq: 0,
            backoff,
        };
        let stretch = applier.shared.log.stretch();
        let continues = match (&position, &stretch) {
            (Some(position), Some((replid, begin, end))) => {
                *replid == position.replid && (*begin..=*end).contains(&position.offset)
            }
            _ => false,
        };
        if let Err(error) = applier.resume(position, continues).await {
            applier.recover(error).await;
        }
        applier
    }

    /// Waits for PostgreSQL and goes on from what it has.
    pub(super) async fn recover(&mut self, error: ApplyError) {
        match &error {
            // What waits there cannot be had: Redis has it.
            ApplyError::Spool(error) => {
                self.spill();
                self.shared.lose_log(error);
            }
            error => {
                missed(&self.shared, error).await;
                self.spill();
            }
        }
        loop {
            self.shared.pause(self.backoff.next_delay()).await;
            let result = match open(&self.shared).await {
                Ok((store, position)) => {
                    self.store = store;
                    // A commit whose answer was lost may have arrived: then it is ahead of us.
                    let continues = match (&self.position, &position) {
                        (Some(ours), Some(stored)) => {
                            ours.replid == stored.replid && stored.offset >= ours.offset
                                || *self.lineage == *stored.replid
                        }
                        (None, None) => true,
                        _ => false,
                    };
                    self.resume(position, continues).await
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => return,
                Err(error) => missed(&self.shared, &error).await,
            }
        }
    }

    /// Takes up the position that PostgreSQL has. Unless the log `continues` from it, the log is void.
    async fn resume(
        &mut self,
        position: Option<Position>,
        continues: bool,
    ) -> Result<(), ApplyError> {
        // What the log holds from here on follows this position, whatever becomes of the rest.
        let db = position.as_ref().map_or(0, |position| position.db);
        self.session = Session::new(db, self.shared.gate.channel());
        self.reached = position.as_ref().map_or(0, |position| position.offset);
        self.lineage = position.as_ref().map_or("", |position| &position.replid).into();
        self.shared.status.mirror.applied.store(self.reached, Ordering::Relaxed);
        self.shared.set_stored(position.clone());
        self.position = position.clone();
        if !continues {
            self.shared.log.restart(position.map(|p| (p.replid.as_str().into(), p.offset)))?;
            self.shared.relink.notify_one();
        }
        let next_id = self.store.max_key_id().await? + 1;
        let empty = next_id == 1;
        self.keyspace = Applier::fresh_keyspace(next_id, empty);
        self.committed_seq = 0;
        let rereads = self.store.rereads().await?;
        self.rereads.restart(rereads);
        self.shared.postgres_back();
        self.shared.log.outage_over();
        match self.catch_redis_up().await {
            Err(ApplyError::Side(error)) => {
                tracing::warn!(%error, "Redis cannot be brought up to PostgreSQL yet");
                Ok(())
            }
            other => other,
        }?;
        self.shared.ready.send_replace(true);
        Ok(())
    }
}

/// PostgreSQL does not let us write. While another proxy has the lease, whoever started the mirror ends it.
async fn missed(shared: &Shared, error: &ApplyError) {
    if !matches!(error, ApplyError::StandingBy) {
        return shared.postgres_gone(error.condition(), error);
    }
    shared.tenure.doubt();
    let mut standing = shared.tenure.watch();
    // The sender lives as long as `shared`.
    let _ = standing.wait_for(|standing| !matches!(standing, Standing::Standby(_))).await;
}

async fn open(shared: &Shared) -> Result<(Arc<Store>, Option<Position>), ApplyError> {
    let token = shared.tenure.token().await?;
    let store = Store::connect(&shared.config.postgres).await?;
    store.under(token);
    store.prepare(&shared.config.family).await?;
    if store.has_taken_over().await? {
        shared.led.notify_one();
        return Err(ApplyError::Led);
    }
    let position = store.position().await?;
    Ok((Arc::new(store), position))
}
