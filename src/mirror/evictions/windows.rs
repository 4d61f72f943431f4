use std::collections::VecDeque;
use std::time::Duration;

use bb8_redis::redis;
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::engine::Db;
use crate::upstream::{SideError, SidePool};

/// How often each key was evicted in a window.
pub type Counts = HashMap<(Db, Bytes), u32>;

/// How long the subscription may be behind the replication link.
const PATIENCE: Duration = Duration::from_secs(1);
/// Windows that nobody has asked for are forgotten.
const KEPT: usize = 1024;

/// What lies between two marks, as the subscription saw it.
#[derive(Debug)]
struct Window {
    from: u64,
    to: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    /// Suspects are judged at all.
    active: bool,
    /// Counts the subscriptions; even: there is none.
    session: u64,
    /// The last mark of this subscription.
    last: Option<u64>,
    open: Counts,
    closed: VecDeque<Window>,
}

/// What the subscription has heard, for the link to ask.
#[derive(Debug)]
pub struct Evictions {
    channel: String,
    inner: Mutex<Inner>,
    changed: Notify,
    /// Number of the last mark; held while one is published, so that they come in order.
    published: tokio::sync::Mutex<u64>,
}

impl Evictions {
    /// `channel` is the one that the proxy's barriers are published on.
    pub fn new(channel: &str) -> Evictions {
        Evictions {
            channel: format!("{channel}:window"),
            inner: Mutex::default(),
            changed: Notify::new(),
            published: tokio::sync::Mutex::new(0),
        }
    }

    /// The channel of the marks.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// True while suspects have to be judged.
    pub fn active(&self) -> bool {
        self.inner.lock().active
    }

    pub fn activate(&self) {
        self.inner.lock().active = true;
    }

    /// Publishes the next mark.
    pub async fn mark(&self, side: &SidePool) -> Result<u64, SideError> {
        let mut published = self.published.lock().await;
        let mut connection = side.get().await?;
        // A number whose publication failed may have come by all the same: it is not used again.
        *published += 1;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(*published);
        publish.query_async::<()>(&mut *connection).await?;
        Ok(*published)
    }

    /// A subscription begins: what came before is unknown.
    pub fn begin(&self) {
        let mut inner = self.inner.lock();
        inner.session |= 1;
        inner.last = None;
        inner.open.clear();
    }

    /// The subscription is lost.
    pub fn end(&self) {
        let mut inner = self.inner.lock();
        inner.session = (inner.session | 1) + 1;
        inner.last = None;
        drop(inner);
        self.changed.notify_waiters();
    }

    pub fn evicted(&self, db: Db, key: &[u8]) {
        let mut inner = self.inner.lock();
        *inner.open.entry((db, Bytes::copy_from_slice(key))).or_default() += 1;
    }

    /// A mark has come by in the subscription.
    pub fn marked(&self, number: u64) {
        let mut inner = self.inner.lock();
        let counts = std::mem::take(&mut inner.open);
        if let Some(from) = inner.last.replace(number) {
            inner.closed.push_back(Window { from, to: number, counts });
        }
        if inner.closed.len() > KEPT {
            inner.closed.pop_front();
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What was evicted between two marks that follow each other in the stream; `None`: the
    /// subscription has not seen all of it.
    pub async fn between(&self, from: Option<u64>, to: u64) -> Option<Counts> {
        let from = from?;
        let session = self.inner.lock().session;
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let mut inner = self.inner.lock();
                    while inner.closed.front().is_some_and(|window| window.to < to) {
                        inner.closed.pop_front();
                    }
                    if inner.closed.front().is_some_and(|window| window.to == to) {
                        let window = inner.closed.pop_front()?;
                        return (window.from == from).then_some(window.counts);
                    }
                    let waits = inner.session == session && inner.last.is_some_and(|at| at < to);
                    if session.is_multiple_of(2) || !waits {
                        return None;
                    }
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_window_that_was_seen_whole_says_anything() {
        let evictions = Evictions::new("c");
        let key = Bytes::from_static(b"k");
        assert_eq!(evictions.between(Some(1), 2).await, None, "no subscription");
        evictions.begin();
        evictions.evicted(0, b"k");
        evictions.marked(1);
        assert_eq!(evictions.between(None, 1).await, None, "it began in the middle");
        evictions.evicted(0, b"k");
        evictions.marked(2);
        evictions.marked(3);
        let counts = evictions.between(Some(1), 2).await.expect("seen");
        assert_eq!(counts.get(&(0, key)), Some(&1));
        assert_eq!(evictions.between(Some(2), 3).await, Some(Counts::new()));
        evictions.end();
        evictions.begin();
        evictions.marked(5);
        evictions.marked(6);
        assert_eq!(evictions.between(Some(4), 5).await, None, "a mark was missed");
        assert_eq!(evictions.between(Some(5), 6).await, Some(Counts::new()));
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_mark_and_of_the_end() {
        let evictions = Evictions::new("c");
        evictions.begin();
        evictions.marked(1);
        let (counts, ()) = tokio::join!(evictions.between(Some(1), 2), async {
            tokio::task::yield_now().await;
            evictions.evicted(3, b"x");
            evictions.marked(2);
        });
        assert_eq!(counts.map(|counts| counts.len()), Some(1));
        let (counts, ()) = tokio::join!(evictions.between(Some(2), 3), async {
            tokio::task::yield_now().await;
            evictions.end();
        });
        assert_eq!(counts, None);
    }
}
