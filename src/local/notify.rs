//! What has happened to keys reaches those who listen, in order, once it can no longer be rolled back.
//! Source: <https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/>.

use bytes::Bytes;

use super::period::Period;
use crate::engine::Db;
use crate::engine::events::{Class, Classes, Happened};

impl Period {
    /// Makes settings known where they have an effect, such as which events the keyspace writes down.
    pub fn listen(&self) {
        let threshold = self.settings.borrow().number("busy-reply-threshold");
        self.doorway.set_threshold(u64::try_from(threshold).unwrap_or_default());
        let node = self.settings.borrow().number("stream-node-max-entries");
        // 0: no limit.
        let node = u64::try_from(node).ok().filter(|node| *node > 0).unwrap_or(u64::MAX);
        self.keyspace.borrow_mut().stream_node = node;
        let events = self.settings.borrow().events;
        let published = events.contains(Class::Keyspace) || events.contains(Class::Keyevent);
        let wanted = if published { events } else { Classes::default() };
        let tracked = self.tracking.borrow().clients > 0;
        let watched = !self.watchers.borrow().is_empty();
        self.keyspace.borrow_mut().listen(wanted, tracked || watched);
    }

    /// Tells everybody concerned what has happened since the last call.
    pub fn deliver(&self) {
        if !self.keyspace.borrow().has_happened() {
            return;
        }
        let happened = self.keyspace.borrow_mut().take_happened();
        for one in happened {
            match one {
                Happened::Published { channel, text, sharded } => {
                    self.publish(&channel, &text, sharded);
                }
                Happened::Event { name, db, key, .. } => self.publish_event(name, db, &key),
                Happened::Changed { db, key, by } => {
                    self.watchers.borrow().touch(db, &key);
                    self.invalidate(&key, by);
                }
                Happened::Called { db, words } => self.show_to_monitors(db, "lua", &words),
                Happened::Flushed(db) => {
                    self.watchers.borrow().touch_all(db.as_ref().map(std::slice::from_ref));
                    self.invalidate_all();
                }
                Happened::Swapped(a, b) => self.watchers.borrow().touch_all(Some(&[a, b])),
                Happened::Read { key, by } => self.tracking.borrow_mut().remember(by, key),
            }
        }
        self.broadcast();
        self.limit_tracking();
    }

    fn publish_event(&self, name: &'static str, db: Db, key: &Bytes) {
        let events = self.settings.borrow().events;
        let event = Bytes::from_static(name.as_bytes());
        let channel = |kind: &str, of: &Bytes| -> Bytes {
            [format!("__{kind}@{db}__:").as_bytes(), of].concat().into()
        };
        if events.contains(Class::Keyspace) {
            self.publish(&channel("keyspace", key), &event, false);
        }
        if events.contains(Class::Keyevent) {
            self.publish(&channel("keyevent", &event), key, false);
        }
    }

    fn publish(&self, channel: &Bytes, text: &Bytes, sharded: bool) {
        let peers = self.peers.borrow();
        self.channels.lock().publish(channel, text, sharded, &mut |peer, message| {
            if let Some(peer) = peers.get(&peer) {
                peer.push(message);
            }
        });
    }
}
