//! Who answers where PostgreSQL leads by configuration: the server within the process, or the proxy that has the lease.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use super::{OUTSET, peer_of};
use crate::strategy::{CommitGate, Lead, Status};
use crate::tenure::{Standing, Tenure};
use crate::upstream::{Leave, Local, Route, To};

/// Leads clients to whoever has the lease.
pub struct Serving {
    pub route: Arc<Route>,
    pub tenure: Arc<Tenure>,
    pub gate: Arc<CommitGate>,
    pub status: Arc<Status>,
    /// The way to the server within the process.
    pub local: Local,
}

/// The thread that does.
pub struct RunningServing {
    thread: JoinHandle<()>,
    over: CancellationToken,
}

impl RunningServing {
    pub fn stop(self) {
        self.over.cancel();
        // A thread that panicked has been logged.
        let _ = self.thread.join();
    }
}

impl Serving {
    pub fn start(self) -> std::io::Result<RunningServing> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let over = CancellationToken::new();
        let end = over.clone();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = self.run() => {}
                    () = end.cancelled() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("serving".into()).spawn(work)?;
        Ok(RunningServing { thread, over })
    }

    async fn run(self) {
        let mut standing = self.tenure.watch();
        let known = standing.wait_for(|standing| *standing != Standing::Starting);
        let _ = tokio::time::timeout(OUTSET, known).await;
        loop {
            let now = standing.borrow_and_update().clone();
            match (peer_of(&now), &now) {
                (Some(peer), _) => {
                    if self.route.peer().as_ref() != Some(&peer) {
                        self.leave().await;
                        // The one that leads waits for PostgreSQL.
                        self.gate.open();
                        // Should it be gone, somebody else comes to lead within moments.
                        self.route.set_patient(true);
                        self.status.set_lead(Lead::Leader, &super::who_leads(&now));
                        self.route.turn(To::Peer(peer));
                    }
                }
                // It may still serve; if it is gone too, clients are told.
                (None, Standing::Away(_)) if self.route.peer().is_some() => {}
                (None, _) if !self.route.is_local() => {
                    self.leave().await;
                    self.gate.close();
                    self.route.set_patient(false);
                    self.status.set_lead(Lead::Redis, "");
                    self.route.turn(To::Local(self.local.clone()));
                }
                (None, _) => {}
            }
            if standing.changed().await.is_err() {
                return;
            }
        }
    }

    async fn leave(&self) {
        self.route.turn(To::Nobody(Leave::Cut));
        self.route.left().await;
    }
}
