//! The lease: which of several proxies may write.
//!
//! It ends by PostgreSQL's clock when it is not renewed, and at once when the session that took it
//! ends, because that session holds an advisory lock under the lease's number. The lock answers for a
//! process that died, the time for one that is paused or cut off.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::connect::{Connector, Role};
use super::session::Session;
use super::{Store, StoreError};
use crate::config;

/// A lease that this process holds.
pub struct Lease {
    session: Session,
    /// Its number, greater than that of any earlier lease.
    token: i64,
    time: String,
}

/// First half of the advisory lock's key: locks are shared by all schemas of a database.
const SPACE: &str = "hashtext('tandem lease ' || current_schema())";

impl Store {
    /// Takes the lease for `time`, or fails with [`StoreError::Held`]. The schema has to be there.
    pub async fn lease(
        postgres: &config::Postgres,
        holder: &str,
        time: Duration,
    ) -> Result<Lease, StoreError> {
        let session = Connector::new(postgres)?.open(Role::Rows).await?;
        // A renewal says something to other sessions of this server only; it need not outlive it.
        session.run(session.client().batch_execute("SET synchronous_commit = off")).await?;
        let mut lease = Lease { session, token: 0, time: format!("{} ms", time.as_millis()) };
        lease.take(holder).await?;
        Ok(lease)
    }
}

impl Lease {
    async fn take(&mut self, holder: &str) -> Result<(), StoreError> {
        let session = &self.session;
        let client = session.client();
        let row = "INSERT INTO lease (name, holder, token, expires_at)
                   VALUES ('writer', '', 0, '-infinity') ON CONFLICT DO NOTHING";
        session.run(client.execute(row, &[])).await?;
        session.run(client.batch_execute("BEGIN")).await?;
        let look = "SELECT holder, token, expires_at < clock_timestamp() FROM lease
                    WHERE name = 'writer' FOR UPDATE";
        let row = session.run(client.query_one(look, &[])).await?;
        let (other, token): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let over: bool = row.try_get(2)?;
        if !over && !self.lock(token).await? {
            // The transaction ends with the session.
            return Err(StoreError::Held { holder: other });
        }
        self.token = token + 1;
        if !self.lock(self.token).await? {
            return Err(StoreError::Held { holder: other });
        }
        let take = "UPDATE lease SET holder = $1, token = $2,
                           expires_at = clock_timestamp() + $3::text::interval
                    WHERE name = 'writer'";
        let client = self.session.client();
        let values: [&(dyn ToSql + Sync); 3] = [&holder, &self.token, &self.time];
        self.session.run(client.execute(take, &values)).await?;
        self.session.run(client.batch_execute("COMMIT")).await
    }

    /// Whether nobody else has the lock of this number; now this session has it.
    async fn lock(&self, token: i64) -> Result<bool, StoreError> {
        let query =
            format!("SELECT pg_try_advisory_lock({SPACE}, ($1::bigint % 2147483647)::integer)");
        let client = self.session.client();
        let row = self.session.run(client.query_one(&query, &[&token])).await?;
        Ok(row.try_get(0)?)
    }

    /// The number of the lease; it fences whoever had an earlier one.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Extends the lease by its full time; [`StoreError::Fenced`] when somebody else has it.
    pub async fn renew(&self, limit: Duration) -> Result<(), StoreError> {
        let renew = "UPDATE lease SET expires_at = clock_timestamp() + $2::text::interval
                     WHERE name = 'writer' AND token = $1";
        let client = self.session.client();
        let values: [&(dyn ToSql + Sync); 2] = [&self.token, &self.time];
        let renewed = client.execute(renew, &values);
        match self.session.within(limit, renewed).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }
}
