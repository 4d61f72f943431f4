//! What Redis owes its being brought up to date to: PostgreSQL took over from it, and these keys have changed since.

use bytes::Bytes;

use super::{Position, Store, StoreError, db_column, db_keys};
use crate::engine::Db;

/// Names that are remembered one by one.
const MOST: i64 = 1_000_000;

/// What Redis lacks since PostgreSQL has taken over.
#[derive(Clone, Debug, Default)]
pub struct Debt {
    /// Where Redis's history stood then; `None`: nothing was ever mirrored.
    pub left: Option<Position>,
    /// More has changed than `names` tells.
    pub all: bool,
    pub names: Vec<(Db, Bytes)>,
}

impl Store {
    /// PostgreSQL takes over from Redis, or goes on leading. `for_good`: what changes is not remembered.
    pub async fn take_over(&self, for_good: bool) -> Result<(), StoreError> {
        let mark = Position::led_by_postgres(None).replid;
        // epoch is NOT NULL: another writer's number makes the statement fail.
        let query = "UPDATE replication
            SET epoch = CASE WHEN epoch = $1 THEN epoch END,
                left_replid = CASE WHEN replid ^@ 'postgres' THEN left_replid ELSE replid END,
                left_offset = CASE WHEN replid ^@ 'postgres' THEN left_offset ELSE repl_offset END,
                redis_lacks_all = redis_lacks_all OR $3,
                replid = $2, repl_offset = 0, db = 0, updated_at = now()";
        let client = self.session.client();
        self.session.run(client.execute(query, &[&self.epoch(), &mark, &for_good])).await?;
        Ok(())
    }

    /// True when PostgreSQL has taken over from a Redis that was gone, and has not given back.
    pub async fn has_taken_over(&self) -> Result<bool, StoreError> {
        let query = "SELECT coalesce(replid, '') ^@ 'postgres' AND left_replid IS NOT NULL FROM replication";
        let row = self.session.run(self.session.client().query_one(query, &[])).await?;
        Ok(row.try_get(0)?)
    }

    /// True when PostgreSQL led last, so that a mirror could not go on from its position.
    pub async fn is_led_by_postgres(&self) -> Result<bool, StoreError> {
        let query = "SELECT coalesce(replid, '') ^@ 'postgres' FROM replication";
        let row = self.session.run(self.session.client().query_one(query, &[])).await?;
        Ok(row.try_get(0)?)
    }

    pub async fn debt(&self) -> Result<Debt, StoreError> {
        let client = self.session.client();
        let query = "SELECT left_replid, left_offset, redis_lacks_all FROM replication";
        let row = self.session.run(client.query_one(query, &[])).await?;
        let (replid, offset): (Option<String>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let left = replid.zip(offset).map(|(replid, offset)| Position { replid, offset, db: 0 });
        let all: bool = row.try_get(2)?;
        let query = "SELECT db, key FROM redis_behind LIMIT $1";
        let rows = self.session.run(client.query(query, &[&(MOST + 1)])).await?;
        let many = rows.len() as i64 > MOST;
        let names = if many { Vec::new() } else { db_keys(&rows)? };
        Ok(Debt { left, all: all || many, names })
    }

    /// Redis has everything, or will be filled anew: what it lacks is forgotten, and `position` says who leads.
    pub async fn give_back(&self, position: &Position) -> Result<(), StoreError> {
        let query = "WITH paid AS (DELETE FROM redis_behind)
            UPDATE replication
            SET epoch = CASE WHEN epoch = $1 THEN epoch END,
                left_replid = NULL, left_offset = NULL, redis_lacks_all = false,
                replid = $2, repl_offset = $3, db = $4, updated_at = now()";
        let db = db_column(position.db);
        let client = self.session.client();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.epoch(), &position.replid, &position.offset, &db];
        self.session.run(client.execute(query, &values)).await?;
        Ok(())
    }

    /// Notes that the strategy of the proxy `instance` was switched.
    pub async fn log_strategy(
        &self,
        instance: &str,
        (previous, strategy): (&str, &str),
        by: &str,
        forced: bool,
    ) -> Result<(), StoreError> {
        let query = "INSERT INTO strategy_log (instance, previous, strategy, switched_by, forced)
                     VALUES ($1, $2, $3, $4, $5)";
        let client = self.session.client();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&instance, &previous, &strategy, &by, &forced];
        self.session.run(client.execute(query, &values)).await?;
        Ok(())
    }

    /// Lists a key that Redis and PostgreSQL had otherwise, of which PostgreSQL's value stays.
    pub async fn list_conflict(&self, db: Db, key: &[u8], reason: &str) -> Result<(), StoreError> {
        let query = "INSERT INTO conflicts (db, key, reason) VALUES ($1, $2, $3)";
        let db = db_column(db);
        self.session.run(self.session.client().execute(query, &[&db, &key, &reason])).await?;
        Ok(())
    }
}
