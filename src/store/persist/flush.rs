//! Steps that concern whole databases: they are rare, and run one statement after the other.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::statements::Statements;
use crate::engine::Db;
use crate::engine::delta::{KeyId, Step};
use crate::store::session::Session;
use crate::store::{Flushed, db_column};

/// Tables with rows of keys, and the type that they belong to.
const VALUE_TABLES: &[&str] = &[
    "strings",
    "lists",
    "sets",
    "zsets",
    "hashes",
    "streams",
    "stream_entries",
    "stream_groups",
    "stream_consumers",
    "stream_pending",
    "opaque",
];

/// Tables above this size are truncated: it takes milliseconds however large they are, but is slower than
/// to delete a few rows, and waits for readers.
const TRUNCATE_BYTES: i64 = 32 << 20;

pub async fn run(session: &Session, statements: &Statements, step: &Step) -> Result<(), Error> {
    let client = session.client();
    // One-off plans over whole tables, for as long as they take; until the transaction ends.
    let whole = "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on;
                 SET LOCAL enable_hashjoin = on; SET LOCAL plan_cache_mode = force_custom_plan";
    client.batch_execute(whole).await?;
    match step {
        Step::FlushAll => flush_all(session).await?,
        Step::FlushDb(db) => flush_db(session, *db).await?,
        Step::SwapDb(a, b) => {
            const ASIDE: i32 = -2;
            let (a, b) = (db_column(*a), db_column(*b));
            for (from, to) in [(a, ASIDE), (b, a), (ASIDE, b)] {
                client.execute(&statements.db_move, &[&from, &to]).await?;
            }
        }
        Step::Changes(_) | Step::Function(..) | Step::FlushFunctions => {}
    }
    Ok(())
}

/// Notes the rows of what was flushed in Redis alone as missing there.
pub async fn redis_lacks(session: &Session, flushed: &[Flushed]) -> Result<(), Error> {
    let client = session.client();
    client.batch_execute("SET LOCAL statement_timeout = 0").await?;
    for flushed in flushed {
        let db = match flushed {
            Flushed::All => None,
            Flushed::Db(db) => Some(db_column(*db)),
        };
        let note = "INSERT INTO redis_behind (db, key, differs)
                    SELECT db, key, false FROM keys k WHERE ($1::integer IS NULL OR db = $1)
                    AND NOT EXISTS (SELECT FROM redis_behind r
                                    WHERE r.db = k.db AND index_form(r.key) = index_form(k.key))";
        client.execute(note, &[&db]).await?;
    }
    Ok(())
}

async fn flush_db(session: &Session, db: Db) -> Result<(), Error> {
    let client = session.client();
    let db = db_column(db);
    let others = "SELECT EXISTS (SELECT FROM keys WHERE db <> $1)";
    if !client.query_one(others, &[&db]).await?.try_get::<_, bool>(0)? {
        return flush_all(session).await;
    }
    for table in VALUE_TABLES {
        let delete =
            format!("DELETE FROM {table} v USING keys k WHERE k.db = $1 AND v.key_id = k.id");
        client.execute(&delete, &[&db]).await?;
    }
    client.execute("DELETE FROM keys WHERE db = $1", &[&db]).await?;
    Ok(())
}

async fn flush_all(session: &Session) -> Result<(), Error> {
    let client = session.client();
    let size =
        "SELECT coalesce(sum(pg_table_size(t::regclass)), 0)::bigint FROM unnest($1::text[]) t";
    let mut tables: Vec<&str> = vec!["keys"];
    tables.extend(VALUE_TABLES);
    let bytes: i64 = client.query_one(size, &[&tables]).await?.try_get(0)?;
    if bytes > TRUNCATE_BYTES && truncate(session, &tables).await? {
        return Ok(());
    }
    let deletes: Vec<String> = tables.iter().map(|table| format!("DELETE FROM {table}")).collect();
    client.batch_execute(&deletes.join(";")).await
}

/// Deletes these keys, whoever is the writer: nobody else may deal with them.
pub async fn drop_keys(session: &Session, ids: &[KeyId]) -> Result<(), Error> {
    let values: Vec<String> = VALUE_TABLES
        .iter()
        .map(|table| format!("of_{table} AS (DELETE FROM {table} WHERE key_id = ANY($1))"))
        .collect();
    let delete = format!("WITH {} DELETE FROM keys WHERE id = ANY($1)", values.join(", "));
    session.client().execute(&delete, &[&ids]).await?;
    Ok(())
}

/// False when readers hold the tables: nothing has been done then.
async fn truncate(session: &Session, tables: &[&str]) -> Result<bool, Error> {
    let client = session.client();
    client.batch_execute("SAVEPOINT truncating; SET LOCAL lock_timeout = 300").await?;
    match client.batch_execute(&format!("TRUNCATE {}", tables.join(", "))).await {
        Ok(()) => {
            client.batch_execute("SET LOCAL lock_timeout = 0; RELEASE truncating").await?;
            Ok(true)
        }
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            client.batch_execute("ROLLBACK TO truncating; RELEASE truncating").await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
