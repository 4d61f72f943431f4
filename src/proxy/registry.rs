use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};

/// One client as `CLIENT LIST` shows it, and the means to reach its session from any worker.
#[derive(Debug)]
pub struct ClientInfo {
    pub id: u64,
    pub address: String,
    pub local_address: String,
    /// The accepting socket's number; the worker's view, for `fd=`.
    pub fd: i32,
    pub unix: bool,
    pub created: Instant,
    pub name: Mutex<Vec<u8>>,
    pub user: Mutex<String>,
    pub command: Mutex<&'static str>,
    pub active_ms: AtomicU64,
    pub db: AtomicU32,
    pub resp: AtomicU32,
    pub channels: AtomicU64,
    pub patterns: AtomicU64,
    pub shards: AtomicU64,
    /// Commands queued in MULTI; -1 outside.
    pub multi: AtomicI64,
    pub monitor: AtomicBool,
    pub tracking: AtomicBool,
    /// The client's id in Redis while it has a connection of its own; 0 otherwise.
    pub redis_id: AtomicI64,
    /// The same once that connection is kept, and hands on what Redis pushes unasked; 0 otherwise.
    pub push_id: AtomicI64,
    pub no_evict: AtomicBool,
    /// It is another proxy, whose user is nobody's.
    pub peer: AtomicBool,
    killed: AtomicBool,
    wants_pin: AtomicBool,
    pub waker: AtomicWaker,
}

impl ClientInfo {
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Asks the session to keep a connection of its own for pushes (the target of a tracking
    /// redirection).
    pub fn ask_pin(&self) {
        self.wants_pin.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub fn take_pin_request(&self) -> bool {
        self.wants_pin.load(Ordering::Acquire) && self.wants_pin.swap(false, Ordering::AcqRel)
    }

    pub fn touch(&self, command: &'static str) {
        *self.command.lock() = command;
        let age = self.created.elapsed().as_millis();
        self.active_ms.store(u64::try_from(age).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The type that `CLIENT LIST TYPE` and `CLIENT KILL TYPE` go by.
    pub fn kind(&self) -> ClientKind {
        let subscribed = [&self.channels, &self.patterns, &self.shards];
        if subscribed.iter().any(|count| count.load(Ordering::Relaxed) > 0) {
            ClientKind::PubSub
        } else if self.monitor.load(Ordering::Relaxed) {
            ClientKind::Replica
        } else {
            ClientKind::Normal
        }
    }

    /// One line of `CLIENT LIST`, with the fields of Redis 7.0.
    pub fn line(&self) -> String {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let age = self.created.elapsed();
        let active_ms = u128::from(load(&self.active_ms));
        let idle = age.as_millis().saturating_sub(active_ms) / 1000;
        let multi = self.multi.load(Ordering::Relaxed);
        let tracking = self.tracking.load(Ordering::Relaxed);
        let mut flags = String::new();
        for (set, letter) in [
            (self.monitor.load(Ordering::Relaxed), 'O'),
            (self.kind() == ClientKind::PubSub, 'P'),
            (multi >= 0, 'x'),
            (tracking, 't'),
            (self.unix, 'U'),
            (self.no_evict.load(Ordering::Relaxed), 'e'),
        ] {
            flags.extend(set.then_some(letter));
        }
        if flags.is_empty() {
            flags.push('N');
        }
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} \
             ssub={} multi={} qbuf=26 qbuf-free=20448 argv-mem=10 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 \
             omem=0 tot-mem=22298 events=r cmd={} user={} redir={} resp={}",
            self.id,
            self.address,
            self.local_address,
            self.fd,
            String::from_utf8_lossy(&self.name.lock()),
            age.as_secs(),
            idle,
            flags,
            self.db.load(Ordering::Relaxed),
            load(&self.channels),
            load(&self.patterns),
            load(&self.shards),
            multi,
            self.command.lock(),
            self.user.lock(),
            if tracking { 0 } else { -1 },
            self.resp.load(Ordering::Relaxed),
        )
    }
}

/// The types of clients that Redis tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    Normal,
    Replica,
    PubSub,
    Master,
}

impl ClientKind {
    pub fn parse(name: &[u8]) -> Option<ClientKind> {
        let kinds: [(&[u8], ClientKind); 5] = [
            (b"normal", ClientKind::Normal),
            (b"slave", ClientKind::Replica),
            (b"replica", ClientKind::Replica),
            (b"pubsub", ClientKind::PubSub),
            (b"master", ClientKind::Master),
        ];
        kinds.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind)
    }
}

/// Where a new client comes from.
pub struct Arrival {
    pub address: String,
    pub local_address: String,
    pub fd: i32,
    pub unix: bool,
}

/// All clients of all workers, by id. Ids only grow.
#[derive(Debug, Default)]
pub struct Registry {
    clients: RwLock<BTreeMap<u64, Arc<ClientInfo>>>,
    last_id: AtomicU64,
}

impl Registry {
    pub fn add(&self, arrival: Arrival, user: &str, db: u32) -> Arc<ClientInfo> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let info = Arc::new(ClientInfo {
            id,
            address: arrival.address,
            local_address: arrival.local_address,
            fd: arrival.fd,
            unix: arrival.unix,
            created: Instant::now(),
            name: Mutex::default(),
            user: Mutex::new(user.to_owned()),
            command: Mutex::new("NULL"),
            active_ms: AtomicU64::new(0),
            db: AtomicU32::new(db),
            resp: AtomicU32::new(2),
            channels: AtomicU64::new(0),
            patterns: AtomicU64::new(0),
            shards: AtomicU64::new(0),
            multi: AtomicI64::new(-1),
            monitor: AtomicBool::new(false),
            tracking: AtomicBool::new(false),
            redis_id: AtomicI64::new(0),
            push_id: AtomicI64::new(0),
            no_evict: AtomicBool::new(false),
            peer: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            wants_pin: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.clients.write().insert(id, Arc::clone(&info));
        info
    }

    pub fn remove(&self, id: u64) {
        self.clients.write().remove(&id);
    }

    pub fn get(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.clients.read().get(&id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.clients.read().values().cloned().collect()
    }
}
