use bytes::Bytes;
use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio_postgres::CopyInSink;

use super::tables::TABLES;
use crate::engine::delta::KeyId;
use crate::store::connect::{Connector, Role};
use crate::store::session::Session;
use crate::store::{Position, StoreError, db_column};

/// A piece of one table's rows, a whole `COPY` in binary format.
pub struct Chunk {
    pub table: usize,
    pub data: Bytes,
}

/// Begins the transaction of a load: whether it goes through temporary tables, and the first free id.
pub async fn open(connector: &Connector) -> Result<(Session, bool, KeyId), StoreError> {
    let session = connector.open(Role::Bulk).await?;
    let client = session.client();
    session.run(client.batch_execute("SET temp_buffers = '32MB'; BEGIN")).await?;
    let query = "SELECT coalesce(max(id), 0) + 1,
                        EXISTS (SELECT FROM keys) OR EXISTS (SELECT FROM functions)
                 FROM keys";
    let row = session.run(client.query_one(query, &[])).await?;
    let (next_id, staged): (KeyId, bool) = (row.try_get(0)?, row.try_get(1)?);
    if staged {
        let create: Vec<String> = TABLES
            .iter()
            .map(|(table, _)| {
                format!(
                    "CREATE TEMP TABLE new_{table} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP"
                )
            })
            .collect();
        session.run(client.batch_execute(&create.join(";"))).await?;
    }
    Ok((session, staged, next_id))
}

/// Copies pieces until there are no more, and gives the session back.
pub async fn feed(
    session: Session,
    staged: bool,
    mut chunks: mpsc::Receiver<Chunk>,
) -> Result<Session, StoreError> {
    let prefix = if staged { "new_" } else { "" };
    while let Some(chunk) = chunks.recv().await {
        let (table, columns) = TABLES[chunk.table];
        let copy = format!("COPY {prefix}{table} ({columns}) FROM STDIN (FORMAT binary)");
        let megabytes = u32::try_from(chunk.data.len() >> 20).unwrap_or(u32::MAX);
        let limit = session.timeout() + std::time::Duration::from_secs(1) * megabytes;
        session.within(limit, copy_in(&session, &copy, chunk.data)).await?;
    }
    Ok(session)
}

async fn copy_in(
    session: &Session,
    copy: &str,
    mut data: Bytes,
) -> Result<(), tokio_postgres::Error> {
    /// One message; PostgreSQL takes no more than 1 GB in one.
    const MESSAGE_BYTES: usize = 1 << 20;
    let sink: CopyInSink<Bytes> = session.client().copy_in(copy).await?;
    let mut sink = std::pin::pin!(sink);
    while !data.is_empty() {
        let message = data.split_to(data.len().min(MESSAGE_BYTES));
        sink.send(message).await?;
    }
    sink.finish().await?;
    Ok(())
}

/// Writes the position, as long as this is still the writer, and commits. Then refreshes the planner's
/// statistics.
pub async fn commit(session: &Session, epoch: i64, position: &Position) -> Result<(), StoreError> {
    let client = session.client();
    let update = "UPDATE replication
        SET epoch = CASE WHEN epoch = $1 THEN epoch END,
            replid = $2, repl_offset = $3, db = $4, updated_at = now()";
    let db = db_column(position.db);
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&epoch, &position.replid, &position.offset, &db];
    session.run(client.execute(update, &params)).await?;
    let committed = session.run(client.batch_execute("COMMIT")).await;
    committed.map_err(StoreError::during_commit)?;
    for (table, _) in TABLES {
        if let Err(error) = session.run(client.batch_execute(&format!("ANALYZE {table}"))).await {
            tracing::warn!(table, %error, "ANALYZE after a bulk load failed");
        }
    }
    Ok(())
}
