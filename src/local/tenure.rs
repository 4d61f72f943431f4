//! Serving under a lease: only the proxy that holds it answers. Commits are fenced by PostgreSQL; this
//! is for reads, which a proxy that was paused would otherwise answer from what it remembers.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::period::Period;
use crate::config;
use crate::store::{Lease, Store, StoreError};

/// How long a lease lasts: a proxy that is paused or cut off is replaced after this time.
const TIME: Duration = Duration::from_secs(4);
const RENEWAL: Duration = Duration::from_secs(1);

/// How long this proxy may answer.
pub(super) struct Tenure {
    until: Cell<Instant>,
    renewed: Notify,
}

impl Tenure {
    pub async fn begin(
        postgres: &config::Postgres,
        listen: &config::Listen,
    ) -> Result<(Tenure, Lease), StoreError> {
        let asked = Instant::now();
        let lease = Store::lease(postgres, &holder(&listen.address), TIME).await?;
        Ok((Tenure { until: Cell::new(asked + TIME), renewed: Notify::new() }, lease))
    }

    /// Renews the lease until that fails.
    pub async fn keep(&self, lease: &Lease) -> StoreError {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let asked = Instant::now();
            if let Err(error) = lease.renew(TIME).await {
                return error;
            }
            self.until.set(asked + TIME);
            self.renewed.notify_waiters();
        }
    }

    fn lasts(&self) -> bool {
        Instant::now() < self.until.get()
    }
}

/// Who we are, for the people at the other proxy.
fn holder(address: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("the proxy on {} that listens on {address} (pid {})", host.trim(), std::process::id())
}

impl Period {
    /// Returns when this proxy may answer: at once, unless it was paused for long.
    pub async fn while_in_office(&self) {
        while !self.tenure.lasts() {
            self.tenure.renewed.notified().await;
        }
    }
}
