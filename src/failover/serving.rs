//! Who answers where PostgreSQL leads by the strategy: the server within the process, or the proxy that has the lease.

use tokio_util::sync::CancellationToken;

use super::requests::Requests;
use super::{Failover, Local, Next, OUTSET, Stage, peer_of, who_leads};
use crate::strategy::Lead;
use crate::tenure::Standing;
use crate::upstream::{Leave, To};

impl Failover {
    /// Leads clients to whoever has the lease.
    pub(super) async fn served(
        &self,
        local: Local,
        requests: &mut Requests,
        over: &CancellationToken,
    ) -> Next {
        let mut standing = self.tenure.watch();
        if !self.route.is_local() {
            let known = standing.wait_for(|standing| *standing != Standing::Starting);
            tokio::select! {
                _ = tokio::time::timeout(OUTSET, known) => {}
                () = over.cancelled() => {}
            }
        }
        loop {
            let now = standing.borrow_and_update().clone();
            match (peer_of(&now), &now) {
                (Some(peer), _) => {
                    if self.route.peer().as_ref() != Some(&peer) {
                        self.leave(Leave::Cut).await;
                        // Should it be gone, somebody else comes to lead within moments.
                        self.route.set_patient(true);
                        self.status.set_lead(Lead::Leader, &who_leads(&now));
                        self.turn(To::Peer(peer));
                    }
                }
                // It may still serve; if it is gone too, clients are told.
                (None, Standing::Away(..)) if self.route.peer().is_some() => {}
                (None, _) if !self.route.is_local() => {
                    self.leave(Leave::Cut).await;
                    self.route.set_patient(false);
                    self.status.clear_lead();
                    self.turn(To::Local(local.sender.clone()));
                }
                (None, _) => {}
            }
            tokio::select! {
                () = over.cancelled() => {
                    local.server.stopped().await;
                    return Next::Over;
                }
                request = requests.next() => return Next::Asked(Stage::Served(local), request),
                _ = standing.changed() => {}
            }
        }
    }
}
