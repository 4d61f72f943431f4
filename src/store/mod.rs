//! PostgreSQL: the tables of `schema/`, what is written to them and read from them.
//! The only place with SQL.
//!
//! [`Store`] is one session of one writer. It ends with the first error: whoever uses it connects
//! anew and goes on from the position that PostgreSQL has.

mod bulk;
mod connect;
mod debt;
mod error;
mod lease;
mod load;
mod migrate;
mod monitor;
mod numeric;
mod persist;
mod session;
mod survey;
mod types;
mod views;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;

pub use bulk::{Behind, BulkLoader, BulkOutcome, Merge};
pub use connect::Connector;
pub use debt::Debt;
pub use error::StoreError;
pub use lease::{Asked, Held, Holder, Lease};
pub use load::Content;
pub use monitor::{Monitor, ServerState};
pub use survey::Size;
pub use types::{Commit, Flushed, Position};

use crate::config;
use crate::engine::delta::KeyId;
use crate::engine::value::Kind;
use crate::engine::{Count, Db, Loaded, Need};
use connect::Role;
use session::Session;

/// The writer's session.
pub struct Store {
    connector: Connector,
    session: Session,
    loads: OnceLock<load::Statements>,
    persists: OnceLock<persist::Prepared>,
    /// The writer's number; 0 until [`Store::position`] has taken one.
    epoch: AtomicI64,
    /// The lease under which it may become the writer; 0: it needs none.
    lease: AtomicI64,
}

impl Store {
    /// Looks at the configuration only, certificate files included.
    pub fn check(postgres: &config::Postgres) -> Result<(), StoreError> {
        Connector::new(postgres).map(drop)
    }

    /// Connects; the schema may still be missing.
    pub async fn connect(postgres: &config::Postgres) -> Result<Store, StoreError> {
        let connector = Connector::new(postgres)?;
        let session = connector.open(Role::Rows).await?;
        Ok(Store {
            connector,
            session,
            loads: OnceLock::new(),
            persists: OnceLock::new(),
            epoch: AtomicI64::new(0),
            lease: AtomicI64::new(0),
        })
    }

    /// From now on [`Store::position`] fails with [`StoreError::Fenced`] unless the lease has this number.
    pub fn under(&self, lease: i64) {
        self.lease.store(lease, Ordering::Release);
    }

    /// Creates the schema or brings it up to date.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut session = self.connector.open(Role::Bulk).await?;
        migrate::migrate(&self.connector, &mut session).await
    }

    /// Gives the schema the views of the `[[family]]` rules, and drops those whose rules are gone. Returns
    /// what stood in the way of single views: it concerns nobody but their readers.
    pub async fn make_views(&self, families: &[config::Family]) -> Result<Vec<String>, StoreError> {
        let views: Vec<&config::View> = families.iter().filter_map(|f| f.view.as_ref()).collect();
        let mut session = self.connector.open(Role::Bulk).await?;
        views::apply(&self.connector, &mut session, &views).await
    }

    /// As [`Store::migrate`] and [`Store::make_views`]; views that cannot be had are only warned of.
    pub async fn prepare(&self, families: &[config::Family]) -> Result<(), StoreError> {
        self.migrate().await?;
        match self.make_views(families).await {
            Ok(problems) => problems.iter().for_each(|problem| tracing::warn!("{problem}")),
            Err(error) if error.is_connection() => return Err(error),
            Err(error) => tracing::warn!(%error, "the views of the families stay as they are"),
        }
        Ok(())
    }

    /// The number of the last migration that the schema has.
    pub async fn version(&self) -> Result<i32, StoreError> {
        let query = "SELECT coalesce(max(number), 0) FROM migrations";
        let row = self.session.run(self.session.client().query_one(query, &[])).await?;
        Ok(row.try_get(0)?)
    }

    /// Takes over as the writer and reads the position to go on from, `None` when nothing was ever
    /// mirrored. From here on every transaction of an earlier writer fails, also one that is still on
    /// its way; so the position stays what it is until this writer changes it.
    pub async fn position(&self) -> Result<Option<Position>, StoreError> {
        let claim = "UPDATE replication SET epoch = epoch + 1, updated_at = now()
                     WHERE $1 = 0::bigint OR $1 = (SELECT token FROM lease WHERE name = 'writer')
                     RETURNING epoch, replid, repl_offset, db";
        let lease = self.lease.load(Ordering::Acquire);
        let row = self.session.run(self.session.client().query_opt(claim, &[&lease])).await?;
        let row = row.ok_or(StoreError::Fenced)?;
        self.epoch.store(row.try_get(0)?, Ordering::Release);
        let replid: Option<String> = row.try_get(1)?;
        let offset: Option<i64> = row.try_get(2)?;
        let db: Option<i32> = row.try_get(3)?;
        Ok(replid.zip(offset).map(|(replid, offset)| Position {
            replid,
            offset,
            db: db.unwrap_or(0).unsigned_abs(),
        }))
    }

    /// Commits one transaction: the changes and the position that they reach.
    pub async fn persist(&self, commit: &Commit) -> Result<(), StoreError> {
        let prepared = match self.persists.get() {
            Some(prepared) => prepared,
            None => {
                let prepared = persist::Prepared::new(&self.session).await?;
                self.persists.get_or_init(|| prepared)
            }
        };
        let epoch = self.epoch.load(Ordering::Acquire);
        persist::persist(&self.session, prepared, epoch, commit).await
    }

    /// Loads what is asked for, one answer per need, in their order. Not while a commit is under way.
    pub async fn load(&self, needs: &[Need]) -> Result<Vec<Loaded>, StoreError> {
        let statements = self.loads().await?;
        self.session.run(load::load(self.session.client(), statements, needs)).await
    }

    async fn loads(&self) -> Result<&load::Statements, StoreError> {
        if let Some(statements) = self.loads.get() {
            return Ok(statements);
        }
        let prepared = self.session.run(load::Statements::prepare(self.session.client())).await?;
        Ok(self.loads.get_or_init(|| prepared))
    }

    /// The greatest key id in use; 0 when there are no keys.
    pub async fn max_key_id(&self) -> Result<KeyId, StoreError> {
        let query = "SELECT coalesce(max(id), 0) FROM keys";
        let row = self.session.run(self.session.client().query_one(query, &[])).await?;
        Ok(row.try_get(0)?)
    }

    /// True when there are no keys.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        let query = "SELECT NOT EXISTS (SELECT FROM keys)";
        let row = self.session.run(self.session.client().query_one(query, &[])).await?;
        Ok(row.try_get(0)?)
    }

    /// The names of all keys of a database.
    pub async fn key_names(&self, db: Db) -> Result<Vec<Bytes>, StoreError> {
        let query = "SELECT key FROM keys WHERE db = $1";
        let rows = self.session.run(self.session.client().query(query, &[&db_column(db)])).await?;
        let name = |row: &tokio_postgres::Row| Ok(Bytes::copy_from_slice(row.try_get(0)?));
        rows.iter().map(name).collect()
    }

    /// The next keys in the order of their ids.
    pub async fn keys_after(
        &self,
        id: KeyId,
        limit: usize,
    ) -> Result<Vec<(KeyId, Db, Bytes)>, StoreError> {
        let query = "SELECT id, db, key FROM keys WHERE id > $1 ORDER BY id LIMIT $2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.session.run(self.session.client().query(query, &[&id, &limit])).await?;
        let one = |row: &tokio_postgres::Row| {
            let (id, db, key): (KeyId, i32, &[u8]) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok((id, db.unsigned_abs(), Bytes::copy_from_slice(key)))
        };
        rows.iter().map(one).collect()
    }

    /// PostgreSQL leads from here on; see [`Position::led_by_postgres`].
    pub async fn lead(&self, run_id: Option<&str>) -> Result<(), StoreError> {
        self.give_back(&Position::led_by_postgres(run_id)).await
    }

    /// The writer's number; each writer has the next one.
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The number of keys per database, and of those that expire.
    pub async fn census(&self) -> Result<Vec<(Db, Count)>, StoreError> {
        let query = "SELECT db, count(*), count(expires_at_ms) FROM keys GROUP BY db";
        let rows = self.session.run(self.session.client().query(query, &[])).await?;
        let one = |row: &tokio_postgres::Row| {
            let db: i32 = row.try_get(0)?;
            Ok((db.unsigned_abs(), Count { keys: row.try_get(1)?, expires: row.try_get(2)? }))
        };
        rows.iter().map(one).collect()
    }

    /// The names behind `name` in their order, or from the first one, with type and expiry.
    pub async fn names_behind(
        &self,
        db: Db,
        name: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let (db, limit) = (db_column(db), i64::try_from(limit).unwrap_or(i64::MAX));
        let (client, loads) = (self.session.client(), self.loads().await?);
        let rows = async {
            match name {
                Some(name) => client.query(&loads.names_behind, &[&db, &&name[..], &limit]).await,
                None => client.query(&loads.names, &[&db, &limit]).await,
            }
        };
        let rows = self.session.run(rows).await?;
        rows.iter().map(key_row).collect()
    }

    /// Members of a value of this type in the order of their names: the first ones, or those behind one.
    pub async fn members_behind(
        &self,
        value: (Kind, KeyId),
        behind: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Content)>, StoreError> {
        let (client, loads) = (self.session.client(), self.loads().await?);
        let page = load::page(client, loads, value, behind, limit);
        self.session.within(self.session.timeout(), page).await
    }

    /// Some key of the database; each is about as likely as the others, if they came evenly.
    pub async fn random_key(&self, db: Db) -> Result<Vec<KeyRow>, StoreError> {
        let query = "SELECT key, kind, expires_at_ms FROM keys
                     WHERE db = $1 AND id >= (
                        SELECT min(id) + floor(random() * (max(id) - min(id) + 1))::bigint FROM keys)
                     ORDER BY id LIMIT 1";
        let client = self.session.client();
        let rows = self.session.run(client.query(query, &[&db_column(db)])).await?;
        rows.iter().map(key_row).collect()
    }

    /// At most `limit` keys whose time was over at `now_ms` (Unix time in ms), roughly the longest past first.
    pub async fn expired(&self, now_ms: i64, limit: u32) -> Result<Vec<(Db, Bytes)>, StoreError> {
        let query = "SELECT db, key FROM keys
                     WHERE expires_window <= $1::bigint >> 12 AND expires_at_ms < $1
                     ORDER BY expires_window LIMIT $2";
        let limit = i64::from(limit);
        let rows = self.session.run(self.session.client().query(query, &[&now_ms, &limit])).await?;
        db_keys(&rows)
    }

    /// Deletes keys that nobody else deals with: the mirror leaves their families alone.
    pub async fn drop_keys(&self, ids: &[KeyId]) -> Result<(), StoreError> {
        self.session.run(persist::drop_keys(&self.session, ids)).await
    }

    /// Keys that have to be read again from Redis.
    pub async fn rereads(&self) -> Result<Vec<(Db, Bytes)>, StoreError> {
        let query = "SELECT db, key FROM rereads ORDER BY added_at";
        let rows = self.session.run(self.session.client().query(query, &[])).await?;
        db_keys(&rows)
    }

    /// Begins to take over a snapshot; nothing else may be written until it has finished.
    pub async fn bulk_load(&self) -> Result<BulkLoader, StoreError> {
        BulkLoader::begin(&self.connector, self.epoch.load(Ordering::Acquire)).await
    }

    /// At most `limit` of the keys that Redis lacked, or had with another value, when PostgreSQL led
    /// a resync. They stay listed until [`Store::redis_caught_up`].
    pub async fn redis_behind(
        &self,
        which: Behind,
        limit: u32,
    ) -> Result<Vec<(Db, Bytes)>, StoreError> {
        bulk::behind(&self.session, which, limit).await
    }

    /// The number of keys that Redis lacked when PostgreSQL led a resync and that have not been brought to it.
    pub async fn redis_lacks(&self) -> Result<i64, StoreError> {
        let query = "SELECT count(*) FROM redis_behind WHERE NOT differs";
        let row = self.session.run(self.session.client().query_one(query, &[])).await?;
        Ok(row.try_get(0)?)
    }

    /// These keys have been brought to Redis.
    pub async fn redis_caught_up(&self, keys: &[(Db, Bytes)]) -> Result<(), StoreError> {
        bulk::caught_up(&self.session, keys).await
    }

    /// Function libraries: name and source.
    pub async fn functions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let query = "SELECT name, source FROM functions ORDER BY name";
        let rows = self.session.run(self.session.client().query(query, &[])).await?;
        rows.iter()
            .map(|row| {
                let (name, source): (&[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?);
                Ok((Bytes::copy_from_slice(name), Bytes::copy_from_slice(source)))
            })
            .collect()
    }
}

/// Name, type as PostgreSQL has it, and expiry (Unix time in ms).
pub type KeyRow = (Bytes, i16, Option<i64>);

fn key_row(row: &tokio_postgres::Row) -> Result<KeyRow, StoreError> {
    Ok((Bytes::copy_from_slice(row.try_get(0)?), row.try_get(1)?, row.try_get(2)?))
}

/// A database's number as the columns hold it.
fn db_column(db: Db) -> i32 {
    i32::try_from(db).unwrap_or(i32::MAX)
}

/// Rows of database and key.
fn db_keys(rows: &[tokio_postgres::Row]) -> Result<Vec<(Db, Bytes)>, StoreError> {
    let pair = |row: &tokio_postgres::Row| {
        let (db, key): (i32, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        Ok((db.unsigned_abs(), Bytes::copy_from_slice(key)))
    };
    rows.iter().map(pair).collect()
}
