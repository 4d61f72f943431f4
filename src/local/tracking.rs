//! Who has which keys in a cache of its own, and has to hear when they change.
//! Source: <https://redis.io/docs/latest/develop/reference/client-side-caching/>.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hashbrown::HashMap;

use super::peer::Peer;
use super::period::Period;
use crate::resp::{Protocol, Reply};

/// The channel on which RESP2 clients hear of it.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// How one connection wants to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracked {
    /// The connection that is told instead; 0: itself.
    pub redirect: u64,
    pub mode: Mode,
    pub no_loop: bool,
    /// `CLIENT CACHING` was said for the next command.
    pub caching: bool,
    /// The connection of `redirect` is gone.
    pub broken: bool,
    pub prefixes: BTreeSet<Bytes>,
}

/// Which reads are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    All,
    /// None: every change of a key with one of the prefixes is told.
    Broadcast,
    OptIn,
    OptOut,
}

impl Tracked {
    /// True when what is read now is to be remembered.
    pub fn reads(&self) -> bool {
        match self.mode {
            Mode::All => true,
            Mode::Broadcast => false,
            Mode::OptIn => self.caching,
            Mode::OptOut => !self.caching,
        }
    }
}

/// What is remembered, by the numbers of the connections. Those that have left are passed over.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    /// Connections that track.
    pub clients: usize,
    keys: HashMap<Bytes, BTreeSet<u64>, ahash::RandomState>,
    items: usize,
    prefixes: BTreeMap<Bytes, Prefix>,
}

#[derive(Debug, Default)]
struct Prefix {
    clients: BTreeSet<u64>,
    /// Changed keys, with the connection that has changed them last.
    changed: BTreeMap<Bytes, u64>,
}

impl Tracking {
    pub fn remember(&mut self, peer: u64, key: Bytes) {
        self.items += usize::from(self.keys.entry(key).or_default().insert(peer));
    }

    pub fn add_prefix(&mut self, peer: u64, prefix: &Bytes) {
        self.prefixes.entry(prefix.clone()).or_default().clients.insert(peer);
    }

    pub fn remove_prefixes<'a>(&mut self, peer: u64, prefixes: impl Iterator<Item = &'a Bytes>) {
        for prefix in prefixes {
            if let Some(found) = self.prefixes.get_mut(prefix) {
                found.clients.remove(&peer);
                if found.clients.is_empty() {
                    self.prefixes.remove(prefix);
                }
            }
        }
    }

    /// Who has read this key; they have to read it again to be told again.
    fn take_readers(&mut self, key: &[u8]) -> BTreeSet<u64> {
        let readers = self.keys.remove(key).unwrap_or_default();
        self.items -= readers.len();
        readers
    }

    fn note_for_prefixes(&mut self, key: &Bytes, by: u64) {
        for (prefix, found) in &mut self.prefixes {
            if key.starts_with(prefix) {
                found.changed.insert(key.clone(), by);
            }
        }
    }

    fn take_changed(&mut self) -> Vec<(BTreeSet<u64>, BTreeMap<Bytes, u64>)> {
        let changed = self.prefixes.values_mut().filter(|prefix| !prefix.changed.is_empty());
        changed
            .map(|prefix| (prefix.clients.clone(), std::mem::take(&mut prefix.changed)))
            .collect()
    }

    pub fn forget_all(&mut self) {
        self.keys.clear();
        self.items = 0;
    }

    /// For `INFO`: keys, readers of keys, prefixes.
    pub fn counts(&self) -> [usize; 3] {
        [self.keys.len(), self.items, self.prefixes.len()]
    }
}

impl Period {
    /// A key has changed, by the connection `by` (0: by itself).
    pub fn invalidate(&self, key: &Bytes, by: u64) {
        let readers = {
            let mut tracking = self.tracking.borrow_mut();
            tracking.note_for_prefixes(key, by);
            tracking.take_readers(key)
        };
        self.tell_readers(readers, key, by);
    }

    fn tell_readers(&self, readers: BTreeSet<u64>, key: &Bytes, by: u64) {
        let peers = self.peers.borrow();
        for peer in readers.iter().filter_map(|id| peers.get(id)) {
            let wanted = peer.tracked.borrow().as_ref().is_some_and(|tracked| {
                tracked.mode != Mode::Broadcast && !(tracked.no_loop && by == peer.id)
            });
            if wanted {
                self.tell(peer, Reply::Array(vec![Reply::Bulk(key.clone())]));
            }
        }
    }

    /// Every key is gone.
    pub fn invalidate_all(&self) {
        for peer in self.peers.borrow().values().filter(|peer| peer.tracked.borrow().is_some()) {
            self.tell(peer, Reply::Nil);
        }
        self.tracking.borrow_mut().forget_all();
    }

    /// Tells those who want to hear of all keys with a prefix what has changed since the last call.
    pub fn broadcast(&self) {
        let changed = self.tracking.borrow_mut().take_changed();
        let peers = self.peers.borrow();
        for (clients, changed) in changed {
            for peer in clients.iter().filter_map(|id| peers.get(id)) {
                let no_loop = peer.tracked.borrow().as_ref().is_some_and(|t| t.no_loop);
                let others = changed.iter().filter(|(_, by)| !(no_loop && **by == peer.id));
                let keys: Vec<Reply> = others.map(|(key, _)| Reply::Bulk(key.clone())).collect();
                if !keys.is_empty() {
                    self.tell(peer, Reply::Array(keys));
                }
            }
        }
    }

    /// Keeps the table within `tracking-table-max-keys`; who has read what is forgotten is told so.
    pub fn limit_tracking(&self) {
        let most = self.settings.borrow().number("tracking-table-max-keys");
        let most = usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        loop {
            let (key, readers) = {
                let mut tracking = self.tracking.borrow_mut();
                let over = tracking.keys.len() > most;
                let key = tracking.keys.keys().next().filter(|_| over).cloned();
                let Some(key) = key else { return };
                let readers = tracking.take_readers(&key);
                (key, readers)
            };
            self.tell_readers(readers, &key, 0);
        }
    }

    /// `what`: the keys, or nil for all of them.
    fn tell(&self, peer: &Peer, what: Reply) {
        let redirect = peer.tracked.borrow().as_ref().map_or(0, |tracked| tracked.redirect);
        let peers = self.peers.borrow();
        let target =
            if redirect == 0 { Some(peer) } else { peers.get(&redirect).map(|peer| &**peer) };
        let Some(target) = target else {
            if let Some(tracked) = peer.tracked.borrow_mut().as_mut() {
                tracked.broken = true;
            }
            if peer.protocol.get() == Protocol::Resp3 {
                let id = Reply::Int(redirect as i64);
                peer.push(&Reply::Push(vec![Reply::bulk("tracking-redir-broken"), id]));
            }
            return;
        };
        if target.protocol.get() == Protocol::Resp3 {
            target.push(&Reply::Push(vec![Reply::bulk("invalidate"), what]));
        } else if redirect != 0 && target.subscribed.get() {
            let channel = Reply::bulk(Bytes::from_static(CHANNEL));
            target.push(&Reply::Push(vec![Reply::bulk("message"), channel, what]));
        }
    }
}
