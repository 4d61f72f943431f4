//! The lease: which of several proxies writes to PostgreSQL.
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

/// A session that has the lease, or asks for it.
pub struct Lease {
    session: Session,
    /// The number of the lease that this session has had last, greater than that of any earlier one; 0: it has had none.
    token: i64,
    time: Duration,
    /// The number under which the lease was seen to be over.
    over: Option<i64>,
}

/// What others learn of who has the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// For people.
    pub name: String,
    /// Where it takes clients, `host:port`.
    pub address: String,
    /// By this it knows other proxies.
    pub secret: String,
}

/// How somebody else's lease was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub token: i64,
    pub holder: Holder,
    /// Who answers the holder's clients; see [`Lease::say_lead`].
    pub lead: String,
}

/// What has come of asking for the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Taken,
    Held(Held),
}

/// First half of the advisory lock's key: locks are shared by all schemas of a database.
const SPACE: &str = "hashtext('tandem lease ' || current_schema())";

impl Store {
    /// A session for a lease that lasts for `time` without a renewal. The schema has to be there.
    pub async fn lease(postgres: &config::Postgres, time: Duration) -> Result<Lease, StoreError> {
        let session = Connector::new(postgres)?.open(Role::Rows).await?;
        // A renewal says something to other sessions of this server only; it need not outlive it.
        session
            .within(time, session.client().batch_execute("SET synchronous_commit = off"))
            .await?;
        let lease = Lease { session, token: 0, time, over: None };
        let row = "INSERT INTO lease (name, holder, token, expires_at)
                   VALUES ('writer', '', 0, '-infinity') ON CONFLICT DO NOTHING";
        lease.within(lease.session.client().execute(row, &[])).await?;
        Ok(lease)
    }
}

impl Lease {
    /// Takes the lease if nobody has it; unless it `may`, only one that was given up. One that was not renewed in time is taken at the second look: after a
    /// pause of PostgreSQL itself the holder's renewal comes first.
    pub async fn ask(&mut self, me: &Holder, may: bool) -> Result<Asked, StoreError> {
        let (held, over) = self.look("").await?;
        if !may && !held.holder.name.is_empty() {
            return Ok(Asked::Held(held));
        }
        let free = held.holder.name.is_empty() || self.lock(held.token).await?;
        let before = std::mem::replace(&mut self.over, over.then_some(held.token));
        let over = over && before == Some(held.token);
        if !free && !over {
            return Ok(Asked::Held(held));
        }
        self.within(self.session.client().batch_execute("BEGIN")).await?;
        let (now, over) = self.look("FOR UPDATE").await?;
        let free = now.token == held.token && (free || over);
        if !free || !self.lock(now.token + 1).await? {
            self.within(self.session.client().batch_execute("ROLLBACK")).await?;
            return Ok(Asked::Held(now));
        }
        let token = now.token + 1;
        let take = "UPDATE lease SET token = $1, holder = $2, address = $3, secret = $4, lead = '',
                           expires_at = clock_timestamp() + $5::text::interval
                    WHERE name = 'writer'";
        let time = self.interval();
        let values: [&(dyn ToSql + Sync); 5] = [&token, &me.name, &me.address, &me.secret, &time];
        self.within(self.session.client().execute(take, &values)).await?;
        self.within(self.session.client().batch_execute("COMMIT")).await?;
        (self.token, self.over) = (token, None);
        Ok(Asked::Taken)
    }

    /// Who has the lease, and whether its time is over.
    async fn look(&self, how: &str) -> Result<(Held, bool), StoreError> {
        let look = format!(
            "SELECT token, holder, address, secret, lead, expires_at < clock_timestamp() FROM lease
             WHERE name = 'writer' {how}"
        );
        let row = self.within(self.session.client().query_one(&look, &[])).await?;
        let holder =
            Holder { name: row.try_get(1)?, address: row.try_get(2)?, secret: row.try_get(3)? };
        let held = Held { token: row.try_get(0)?, holder, lead: row.try_get(4)? };
        Ok((held, row.try_get(5)?))
    }

    /// Whether nobody else has the lock of this number; now this session has it.
    async fn lock(&self, token: i64) -> Result<bool, StoreError> {
        let query =
            format!("SELECT pg_try_advisory_lock({SPACE}, ($1::bigint % 2147483647)::integer)");
        let client = self.session.client();
        let row = self.within(client.query_one(&query, &[&token])).await?;
        Ok(row.try_get(0)?)
    }

    /// The number of the lease; it fences whoever had an earlier one.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Extends the lease by its full time; [`StoreError::Fenced`] when somebody else has it.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let renew = "UPDATE lease SET expires_at = clock_timestamp() + $2::text::interval
                     WHERE name = 'writer' AND token = $1";
        let time = self.interval();
        self.change(renew, &[&self.token, &time]).await
    }

    /// Resolves when the session has ended: somebody else may take the lease at once.
    pub async fn ended(&self) {
        self.session.ended().await;
    }

    /// Has the others know who answers the holder's clients.
    pub async fn say_lead(&self, lead: &str) -> Result<(), StoreError> {
        let say = "UPDATE lease SET lead = $2 WHERE name = 'writer' AND token = $1";
        self.change(say, &[&self.token, &lead]).await
    }

    /// Leaves the lease to whoever wants it.
    pub async fn give_up(self) -> Result<(), StoreError> {
        let end =
            "UPDATE lease SET holder = '', address = '', secret = '', expires_at = '-infinity'
                   WHERE name = 'writer' AND token = $1";
        self.change(end, &[&self.token]).await
    }

    async fn change(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Result<(), StoreError> {
        match self.within(self.session.client().execute(text, values)).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }

    fn interval(&self) -> String {
        format!("{} ms", self.time.as_millis())
    }

    /// A PostgreSQL that is silent for longer than the lease is of no use to it.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.session.within(self.time, work).await
    }
}
