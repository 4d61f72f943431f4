//! Acknowledgements for other proxies: those that stand by hear from the one that mirrors how far their
//! barriers are in PostgreSQL, over a channel of Redis for each of them.
//!
//! The message is `<gaps> <replid> <source>.<number> …`: why Redis may lack keys, as [`Presence::reasons`] has it, the
//! replication id that is followed, or `-`, and the last barrier of each source that is committed. One
//! that is lost does no harm: who waits for long publishes another barrier, which stands for all before it in the same
//! history; in another one, what waits has gone with its history.
//!
//! [`Presence::reasons`]: crate::strategy::Presence::reasons

use std::fmt::Write as _;
use std::sync::Arc;

use bb8::ManageConnection;
use bb8_redis::redis;
use bb8_redis::redis::aio::MultiplexedConnection;
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Shared;
use crate::strategy::Barrier;
use crate::upstream::{Backoff, SideError, SideManager};

/// By channel and source, the number of the last barrier.
type Reached = HashMap<Bytes, HashMap<u64, u64>>;

/// What other proxies are to hear.
#[derive(Debug, Default)]
pub struct Others {
    waiting: Mutex<Reached>,
    news: Notify,
}

impl Others {
    /// A barrier that was published on `channel` is committed.
    pub fn tell(&self, channel: &Bytes, barrier: Barrier) {
        let mut waiting = self.waiting.lock();
        // The channel is a piece of a larger buffer, which would be kept with it.
        let sources = match waiting.get_mut(channel) {
            Some(sources) => sources,
            None => waiting.entry(Bytes::copy_from_slice(channel)).or_default(),
        };
        let number = sources.entry(barrier.source).or_default();
        *number = barrier.number.max(*number);
        drop(waiting);
        self.news.notify_one();
    }
}

/// Where the proxy whose barriers are published on `channel` listens.
pub fn done_channel(channel: &str) -> String {
    format!("{channel}:done")
}

/// Stands for the replication id while there is none.
const NO_HISTORY: &str = "-";

/// What another proxy is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub gaps: u8,
    pub replid: Option<String>,
    pub barriers: Vec<Barrier>,
}

impl Told {
    /// What a message says; `None`: it is none.
    pub fn parse(message: &[u8]) -> Option<Told> {
        let mut words = message.split(|byte| *byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let gaps = word()?.parse().ok()?;
        let replid = Some(word()?.to_owned()).filter(|replid| replid != NO_HISTORY);
        let barriers = words.map(Barrier::parse).collect::<Option<_>>()?;
        Some(Told { gaps, replid, barriers })
    }
}

fn message(gaps: u8, replid: &str, sources: &HashMap<u64, u64>) -> String {
    let replid = if replid.is_empty() { NO_HISTORY } else { replid };
    let mut text = format!("{gaps} {replid}");
    for (source, number) in sources {
        // Writing to a string cannot fail.
        let _ = write!(text, " {source}.{number}");
    }
    text
}

/// Runs until it is dropped.
pub async fn serve(shared: Arc<Shared>, manager: SideManager) {
    let (mut connection, mut said) = (None, false);
    let mut backoff = Backoff::default();
    loop {
        shared.others.news.notified().await;
        let reached = std::mem::take(&mut *shared.others.waiting.lock());
        if reached.is_empty() {
            // Told with what came before.
            continue;
        }
        match publish(&shared, &manager, &mut connection, &reached).await {
            Ok(()) => {
                said = false;
                backoff.reset();
            }
            Err(error) => {
                let refused = matches!(&error, SideError::Redis(error) if error.code().is_some());
                if refused && !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "Redis refuses the PUBLISH by which other proxies learn that their writes are in PostgreSQL");
                }
                connection = None;
                backoff.wait().await;
            }
        }
    }
}

async fn publish(
    shared: &Shared,
    manager: &SideManager,
    connection: &mut Option<MultiplexedConnection>,
    reached: &Reached,
) -> Result<(), SideError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(manager.connect().await?),
    };
    let mut pipe = redis::pipe();
    let gaps = shared.presence.reasons();
    // Read behind the barriers, which are of this history or an earlier one.
    let replid = shared.status.mirror.replid.read().clone();
    for (channel, sources) in reached {
        let to = done_channel(&String::from_utf8_lossy(channel));
        pipe.cmd("PUBLISH").arg(to).arg(message(gaps, &replid, sources)).ignore();
    }
    Ok(pipe.query_async(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_was_told_and_is_no_barrier() {
        let others = Others::default();
        let channel = Bytes::from_static(b"__tandem:a");
        for (source, number) in [(1, 5), (2, 9), (1, 4)] {
            others.tell(&channel, Barrier { source, number });
        }
        for (replid, known) in [("0123abcd", Some("0123abcd".to_owned())), ("", None)] {
            let text = message(6, replid, &others.waiting.lock()[&channel]);
            let mut told = Told::parse(text.as_bytes()).expect("own message");
            told.barriers.sort_by_key(|barrier| barrier.source);
            let barriers = vec![Barrier { source: 1, number: 5 }, Barrier { source: 2, number: 9 }];
            assert_eq!(told, Told { gaps: 6, replid: known, barriers });
            assert_eq!(Barrier::parse(text.as_bytes()), None);
        }
        assert_eq!(Told::parse(b"x - 1.2"), None);
        assert_eq!(Told::parse(b"1"), None);
        assert_eq!(Told::parse(b"1 - recall.2"), None);
    }
}
