//! Publish and subscribe. Source: <https://redis.io/docs/manual/pubsub/>.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::busy::Doorway;
use super::statistics::Statistics;
use super::users::Users;
use crate::engine::events::Happened;
use crate::engine::script::{Alone, Outside, Running, Tally};
use crate::engine::{Answer, Call, Keyspace, glob};
use crate::resp::Reply;

/// The three kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    /// The words that Redis confirms with: subscribed, unsubscribed.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Channel => ("subscribe", "unsubscribe"),
            Kind::Pattern => ("psubscribe", "punsubscribe"),
            Kind::Shard => ("ssubscribe", "sunsubscribe"),
        }
    }
}

type Subscribers = BTreeMap<Bytes, BTreeSet<u64>>;

/// Who has subscribed to what, by the numbers of the connections.
#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: Subscribers,
    patterns: Subscribers,
    shards: Subscribers,
}

fn message(words: &[&[u8]]) -> Reply {
    Reply::Push(words.iter().map(|word| Reply::bulk(Bytes::copy_from_slice(word))).collect())
}

impl Channels {
    fn of(&mut self, kind: Kind) -> &mut Subscribers {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    pub fn subscribe(&mut self, kind: Kind, name: &Bytes, peer: u64) {
        self.of(kind).entry(name.clone()).or_default().insert(peer);
    }

    pub fn unsubscribe(&mut self, kind: Kind, name: &Bytes, peer: u64) {
        let all = self.of(kind);
        if let Some(peers) = all.get_mut(name) {
            peers.remove(&peer);
            if peers.is_empty() {
                all.remove(name);
            }
        }
    }

    /// How many will get a message on this channel.
    pub fn count(&self, channel: &Bytes, sharded: bool) -> i64 {
        let all = if sharded { &self.shards } else { &self.channels };
        let direct = all.get(channel).map_or(0, BTreeSet::len);
        let matching = self.matching(channel).filter(|_| !sharded);
        (direct + matching.map(|(_, peers)| peers.len()).sum::<usize>()) as i64
    }

    fn matching<'a>(
        &'a self,
        channel: &'a [u8],
    ) -> impl Iterator<Item = (&'a Bytes, &'a BTreeSet<u64>)> {
        self.patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel))
    }

    /// Hands the message to `send` for everybody who has subscribed.
    pub fn publish(
        &self,
        channel: &Bytes,
        text: &Bytes,
        sharded: bool,
        send: &mut dyn FnMut(u64, &Reply),
    ) {
        let (all, word) =
            if sharded { (&self.shards, "smessage") } else { (&self.channels, "message") };
        if let Some(peers) = all.get(channel) {
            let reply = message(&[word.as_bytes(), channel, text]);
            peers.iter().for_each(|peer| send(*peer, &reply));
        }
        if !sharded {
            for (pattern, peers) in self.matching(channel) {
                let reply = message(&[b"pmessage", pattern, channel, text]);
                peers.iter().for_each(|peer| send(*peer, &reply));
            }
        }
    }

    /// `PUBSUB CHANNELS|SHARDCHANNELS [pattern]`.
    pub fn names(&mut self, kind: Kind, pattern: Option<&Bytes>) -> Reply {
        let matches = |name: &&Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        let names = self.of(kind).keys().filter(matches);
        Reply::Array(names.cloned().map(Reply::Bulk).collect())
    }

    /// `PUBSUB NUMSUB|SHARDNUMSUB`: names and their numbers of subscribers, in turn.
    pub fn counts(&mut self, kind: Kind, names: &[Bytes]) -> Reply {
        let all = self.of(kind);
        let pair = |name: &Bytes| {
            let count = all.get(name).map_or(0, BTreeSet::len);
            [Reply::Bulk(name.clone()), Reply::Int(count as i64)]
        };
        Reply::Array(names.iter().flat_map(pair).collect())
    }

    pub fn pattern_count(&self) -> i64 {
        self.patterns.len() as i64
    }
}

/// What scripts reach: they may publish.
pub(super) struct Scripted {
    channels: Arc<Mutex<Channels>>,
    doorway: Arc<Doorway>,
    users: Arc<Mutex<Users>>,
    statistics: Arc<Mutex<Statistics>>,
    alone: Alone,
}

impl Scripted {
    pub fn new(
        channels: Arc<Mutex<Channels>>,
        doorway: Arc<Doorway>,
        users: Arc<Mutex<Users>>,
        statistics: Arc<Mutex<Statistics>>,
    ) -> Scripted {
        Scripted { channels, doorway, users, statistics, alone: Alone }
    }
}

impl Outside for Scripted {
    fn called(&mut self, tallies: &BTreeMap<&'static str, Tally>) {
        let mut statistics = self.statistics.lock();
        tallies.iter().for_each(|(command, tally)| statistics.called(command, tally));
    }

    fn may_call(&self, words: &[Bytes]) -> bool {
        let users = self.users.lock();
        users.check(&users.acting, words).is_ok()
    }

    fn meanwhile(&mut self, running: &Running) {
        self.doorway.look(running);
    }

    fn call(&mut self, keyspace: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
        let name = call.arg(0)?.to_ascii_lowercase();
        match name.as_slice() {
            b"publish" | b"spublish" => {
                let (channel, text) = (call.arg(1)?.clone(), call.arg(2)?.clone());
                let sharded = name.starts_with(b"s");
                let count = self.channels.lock().count(&channel, sharded);
                keyspace.happen(Happened::Published { channel, text, sharded });
                Ok(Reply::Int(count))
            }
            _ => self.alone.call(keyspace, call),
        }
    }
}
