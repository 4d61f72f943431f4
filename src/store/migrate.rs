//! Brings the schema up to date: the numbered files of `schema/`, once each, in order.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use tokio_postgres::Transaction;

use super::StoreError;
use super::connect::Connector;
use super::session::Session;

const MIGRATIONS: &[(i32, &str)] = &[
    (1, include_str!("../../schema/0001_tables.sql")),
    (2, include_str!("../../schema/0002_views.sql")),
    (3, include_str!("../../schema/0003_inline_index_form.sql")),
    (4, include_str!("../../schema/0004_expiry.sql")),
    (5, include_str!("../../schema/0005_family_views.sql")),
    (6, include_str!("../../schema/0006_failover.sql")),
    (7, include_str!("../../schema/0007_several_proxies.sql")),
    (8, include_str!("../../schema/0008_strategy_log.sql")),
    (9, include_str!("../../schema/0009_fewer_index_entries.sql")),
];

/// Applies what is missing, in one transaction under an advisory lock: any number of proxies may start
/// at once, and a migration that fails leaves nothing behind.
pub(super) async fn migrate(
    connector: &Connector,
    session: &mut Session,
) -> Result<(), StoreError> {
    let transaction = locked(connector, session).await?;
    let done = applied(connector, &transaction).await?;
    let known = MIGRATIONS.last().map_or(0, |(number, _)| *number);
    if let Some((found, _)) = done.iter().find(|(number, _)| *number > known) {
        return Err(StoreError::NewerSchema { found: *found, known });
    }
    for (number, sql) in MIGRATIONS {
        let sum = checksum(sql);
        match done.iter().find(|(done, _)| done == number) {
            Some((_, found)) if *found != sum => {
                return Err(StoreError::ChangedMigration { number: *number });
            }
            Some(_) => {}
            None => {
                transaction.batch_execute(sql).await?;
                let remember = "INSERT INTO migrations (number, checksum) VALUES ($1, $2)";
                transaction.execute(remember, &[number, &sum]).await?;
                tracing::info!(migration = number, schema = connector.schema(), "schema migrated");
            }
        }
    }
    Ok(transaction.commit().await?)
}

/// A transaction in which nobody else changes the schema.
pub(super) async fn locked<'a>(
    connector: &Connector,
    session: &'a mut Session,
) -> Result<Transaction<'a>, StoreError> {
    let transaction = session.client_mut().transaction().await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('tandem migrations ' || $1, 0))";
    transaction.execute(lock, &[&connector.schema()]).await?;
    Ok(transaction)
}

/// The migrations that the schema has, by number, with their checksums.
async fn applied(
    connector: &Connector,
    transaction: &Transaction<'_>,
) -> Result<Vec<(i32, String)>, StoreError> {
    let schema = connector.quoted_schema();
    let there = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
                        EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'migrations')";
    let row = transaction.query_one(there, &[&connector.schema()]).await?;
    let (schema_there, table_there): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    // CREATE … IF NOT EXISTS asks for the right to create even when there is nothing to do.
    if !schema_there {
        transaction.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    if !table_there {
        let create = "CREATE TABLE migrations (
            number integer PRIMARY KEY,
            checksum text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now())";
        transaction.batch_execute(create).await?;
    }
    let rows = transaction.query("SELECT number, checksum FROM migrations ORDER BY number", &[]);
    let pairs = rows.await?.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    pairs.collect()
}

fn checksum(sql: &str) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(sql.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
