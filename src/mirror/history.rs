//! Which histories a Redis has.

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, RedisError};

use super::info;

/// How far Redis has the history `replid`, as an offset; `None`: it is not its own.
pub async fn reach(
    connection: &mut MultiplexedConnection,
    replid: &str,
) -> Result<Option<i64>, RedisError> {
    let mut ask = redis::cmd("INFO");
    let text: String = ask.arg("replication").query_async(connection).await?;
    let number = |name: &str| info::field(&text, name).and_then(|text| text.parse::<i64>().ok());
    if info::field(&text, "master_replid") == Some(replid) {
        return Ok(number("master_repl_offset"));
    }
    if info::field(&text, "master_replid2") == Some(replid) {
        // The first offset that is not of the second history.
        return Ok(number("second_repl_offset").map(|first| first - 1));
    }
    Ok(None)
}

/// The history of a Redis, and how far it has come as an offset.
pub async fn head(connection: &mut MultiplexedConnection) -> Result<(String, i64), RedisError> {
    let mut ask = redis::cmd("INFO");
    let text: String = ask.arg("replication").query_async(connection).await?;
    let replid = info::field(&text, "master_replid").unwrap_or_default().to_owned();
    let offset = info::field(&text, "master_repl_offset").and_then(|text| text.parse().ok());
    Ok((replid, offset.unwrap_or_default()))
}
