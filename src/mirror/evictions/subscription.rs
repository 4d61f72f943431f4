use futures_util::StreamExt;

use crate::engine::Db;
use crate::mirror::Shared;
use crate::upstream::{SideError, SideManager, SidePool};

/// Listens until the connection is lost.
pub async fn listen(
    shared: &Shared,
    manager: &SideManager,
    side: &SidePool,
) -> Result<(), SideError> {
    let mut subscriber = manager.subscriber().await?;
    let connection = &mut subscriber.connection;
    connection.psubscribe("__keyevent@*__:evicted").await?;
    connection.subscribe(shared.evictions.channel()).await?;
    shared.evictions.begin();
    // The first mark: from here on every window is known.
    shared.evictions.mark(side).await?;
    let mut messages = connection.on_message();
    while let Some(message) = messages.next().await {
        let payload = message.get_payload_bytes();
        if !message.from_pattern() {
            let number = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
            if let Some(number) = number {
                shared.evictions.marked(number);
            }
        } else if let Some(db) = database(message.get_channel_name()) {
            shared.evictions.evicted(db, payload);
        }
    }
    Ok(())
}

/// The database in `__keyevent@<db>__:evicted`.
fn database(channel: &str) -> Option<Db> {
    let (db, _) = channel.strip_prefix("__keyevent@")?.split_once("__")?;
    db.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_database_is_in_the_channel() {
        assert_eq!(super::database("__keyevent@12__:evicted"), Some(12));
        assert_eq!(super::database("__keyspace@1__:k"), None);
    }
}
