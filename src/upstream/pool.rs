use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::barrier::Barriers;
use super::stopwatch::Stopwatch;
use super::traced::Traced;
use super::{
    Backoff, Conn, Connector, Credentials, Leave, Lost, OpenError, Pace, Route, ServerFacts, To,
    driver, handshake,
};
use crate::resp::Protocol;
use crate::strategy::{CommitGate, Meter, Status};

/// What makes connections interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub db: u32,
    pub protocol: Protocol,
    pub credentials: Rc<Credentials>,
}

/// What the connections of one worker share.
pub struct Context {
    pub connector: Arc<Connector>,
    pub gate: Arc<CommitGate>,
    pub status: Arc<Status>,
    /// What the server last said of itself; shared by all workers.
    pub facts: Arc<RwLock<ServerFacts>>,
    pub pace: Arc<Pace>,
    /// This worker's counters.
    pub meter: Arc<Meter>,
    pub(super) read_buffer: RefCell<Vec<u8>>,
}

/// What a connection is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Many clients at once.
    Lane,
    /// One client, and what Redis keeps for it.
    Pin,
}

impl Use {
    fn as_str(self) -> &'static str {
        match self {
            Use::Lane => "lane",
            Use::Pin => "pinned",
        }
    }
}

/// Read from Redis at once, in bytes.
const READ_BUFFER: usize = 128 * 1024;
/// Clean connections kept for the next client that needs one for itself, per key.
const KEEP_IDLE: usize = 64;
/// Lanes of one key, when the first ones are held up by a slow command.
const MAX_LANES: usize = 4;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

impl Context {
    pub fn new(
        connector: Arc<Connector>,
        gate: Arc<CommitGate>,
        status: Arc<Status>,
        facts: Arc<RwLock<ServerFacts>>,
        pace: Arc<Pace>,
    ) -> Context {
        let read_buffer = RefCell::new(vec![0; READ_BUFFER]);
        let meter = status.meters.add();
        Context { connector, gate, status, facts, pace, meter, read_buffer }
    }

    pub(super) fn learn(&self, facts: &ServerFacts) {
        if self.connector.is_redis() {
            self.status.redis_up.store(true, Ordering::Relaxed);
        }
        *self.facts.write() = facts.clone();
    }
}

/// Counts a connection for as long as it is there.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(count: &'a AtomicU64) -> Open<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Open(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One worker's connections to Redis.
pub struct Pool {
    context: Rc<Context>,
    lanes: RefCell<HashMap<Key, Vec<Rc<Conn>>>>,
    idle: RefCell<HashMap<Key, Vec<Rc<Conn>>>>,
    /// Why Redis cannot be reached; commands fail at once while it is set.
    down: RefCell<Option<String>>,
    probing: Cell<bool>,
    /// The key of the proxy's own user, which decides whether Redis is up.
    home: Key,
    /// Every connection that has not ended.
    open: RefCell<Vec<Weak<Conn>>>,
}

/// How often connections that run empty are looked at.
const DRAIN_TICK: Duration = Duration::from_millis(1);
/// How long clients' replies may take when who answers is to change.
const DRAIN: Duration = Duration::from_secs(2);
/// A command that may block, and has not been answered so long after everything else was, is blocked.
const BLOCKED: Duration = Duration::from_millis(20);

impl Pool {
    pub fn new(context: Rc<Context>, home: Key) -> Rc<Pool> {
        let pool = Rc::new(Pool {
            context,
            lanes: RefCell::default(),
            idle: RefCell::default(),
            down: RefCell::default(),
            probing: Cell::new(false),
            home,
            open: RefCell::default(),
        });
        if let Some(route) = pool.context.connector.route() {
            tokio::task::spawn_local(Rc::clone(&pool).follow(Arc::clone(route)));
        }
        pool
    }

    /// Ends connections when who answers changes.
    async fn follow(self: Rc<Self>, route: Arc<Route>) {
        let left = route.leaving();
        let mut turns = route.watch();
        loop {
            let turn = turns.borrow_and_update().clone();
            if let To::Nobody(leave) = turn.to {
                if leave == Leave::Drained {
                    self.drained(|| route.number() == turn.number).await;
                }
                self.abandon().await;
            }
            left.done(turn.number);
            if turns.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until no connection owes a reply, but not for long. Blocked clients are not waited for: when nobody
    /// else runs anything any more, nothing comes for them.
    async fn drained(&self, current: impl Fn() -> bool) {
        let began = Instant::now();
        let mut quiet: Option<Instant> = None;
        while current() && began.elapsed() < DRAIN {
            let owing = self.owing();
            if owing.is_empty() {
                return;
            }
            if owing.iter().all(|conn| conn.may_block()) {
                if quiet.get_or_insert_with(Instant::now).elapsed() > BLOCKED {
                    return;
                }
            } else {
                quiet = None;
            }
            tokio::time::sleep(DRAIN_TICK).await;
        }
    }

    /// The connections that owe a reply. What is being opened will lead to whoever answers next.
    fn owing(&self) -> Vec<Rc<Conn>> {
        let open = self.open.borrow();
        let conns = open.iter().filter_map(Weak::upgrade);
        conns.filter(|conn| conn.is_ready() && !conn.is_settled()).collect()
    }

    /// Ends every connection that leads to whoever has answered until now.
    async fn abandon(&self) {
        *self.down.borrow_mut() = None;
        for conns in [&self.lanes, &self.idle] {
            for some in conns.borrow_mut().values_mut() {
                some.retain(|conn| conn.usable() && !conn.is_ready());
            }
        }
        let old: Vec<Rc<Conn>> = {
            let open = self.open.borrow();
            open.iter().filter_map(Weak::upgrade).filter(|conn| conn.is_ready()).collect()
        };
        old.iter().for_each(|conn| conn.abandon());
        while old.iter().any(|conn| conn.why_lost().is_none()) {
            tokio::task::yield_now().await;
        }
    }

    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    /// A lane of the proxy's own user, for what the proxy sends itself. One that is ready, even if it is
    /// held up: what is being opened has yet to find Redis willing.
    pub(super) fn home_lane(self: &Rc<Self>) -> Result<Rc<Conn>, Lost> {
        let lane = self.lane(&self.home)?;
        if lane.is_ready() {
            return Ok(lane);
        }
        let lanes = self.lanes.borrow();
        let ready = lanes.get(&self.home).and_then(|mine| mine.iter().find(|l| l.is_ready()));
        Ok(ready.cloned().unwrap_or(lane))
    }

    /// A lane for `key`: the first that is not held up, opened if there is none.
    pub fn lane(self: &Rc<Self>, key: &Key) -> Result<Rc<Conn>, Lost> {
        self.check()?;
        let mut lanes = self.lanes.borrow_mut();
        let mine = lanes.entry_ref(key).or_default();
        mine.retain(|lane| lane.usable());
        let free = mine.iter().find(|lane| lane.is_ready() && !lane.stalled());
        if let Some(lane) = free {
            return Ok(Rc::clone(lane));
        }
        let opening = mine.iter().find(|lane| !lane.is_ready());
        if let Some(lane) = opening.or(mine.first().filter(|_| mine.len() >= MAX_LANES)) {
            return Ok(Rc::clone(lane));
        }
        let lane = self.open(key.clone(), Use::Lane);
        mine.push(Rc::clone(&lane));
        Ok(lane)
    }

    /// Makes sure that there is a second lane for `key`: while Redis runs a slow script, it neither
    /// reads from the script's connection nor lets a new one choose its database.
    pub fn stand_by(self: &Rc<Self>, key: &Key) {
        let mut lanes = self.lanes.borrow_mut();
        let mine = lanes.entry_ref(key).or_default();
        if mine.len() == 1 {
            mine.push(self.open(key.clone(), Use::Lane));
        }
    }

    /// A connection for one client alone. Give it back with [`Pool::release`] or close it. Another
    /// is opened ahead: to wait for it would let the client's command be overtaken by what other
    /// clients send later.
    pub fn pin(self: &Rc<Self>, key: &Key) -> Result<Rc<Conn>, Lost> {
        self.check()?;
        let mut all_idle = self.idle.borrow_mut();
        let idle = all_idle.entry_ref(key).or_default();
        idle.retain(|conn| conn.usable());
        let ready = idle.iter().rposition(|conn| conn.is_ready());
        let conn = match ready {
            Some(at) => idle.swap_remove(at),
            None => idle.pop().unwrap_or_else(|| self.open(key.clone(), Use::Pin)),
        };
        if idle.is_empty() {
            idle.push(self.open(key.clone(), Use::Pin));
        }
        Ok(conn)
    }

    /// Takes back a connection that carries no state of its client.
    pub fn release(&self, conn: Rc<Conn>) {
        let mut idle = self.idle.borrow_mut();
        let mine = idle.entry_ref(conn.key()).or_default();
        if conn.is_ready() && conn.idle() && mine.len() < KEEP_IDLE {
            mine.push(conn);
        } else {
            conn.close();
        }
    }

    /// A connection as somebody else, to find out whether Redis lets them in.
    pub async fn try_user(self: &Rc<Self>, key: &Key) -> Result<(), Lost> {
        self.check()?;
        let conn = self.open(key.clone(), Use::Pin);
        conn.opened().await?;
        self.release(conn);
        Ok(())
    }

    fn check(&self) -> Result<(), Lost> {
        match &*self.down.borrow() {
            Some(why) => {
                Err(Lost::Unreachable { server: self.context.connector.server(), why: why.clone() })
            }
            None => Ok(()),
        }
    }

    fn open(self: &Rc<Self>, key: Key, used: Use) -> Rc<Conn> {
        let own = key.credentials == self.home.credentials;
        let barriers = match used {
            Use::Lane if own => Barriers::Behind(OnceCell::new()),
            _ => Barriers::Afterwards(Rc::downgrade(self)),
        };
        let meter = Arc::clone(&self.context.meter);
        let gate = Arc::clone(&self.context.gate);
        let timed = (used == Use::Lane).then(|| Arc::clone(&meter));
        let stopwatch = Stopwatch::new(timed, Traced::new(&self.context, used.as_str()));
        let conn = Conn::new(key, gate, barriers, Arc::clone(&meter), stopwatch);
        let (pool, driven) = (Rc::clone(self), Rc::clone(&conn));
        {
            let mut open = self.open.borrow_mut();
            open.retain(|conn| conn.strong_count() > 0);
            open.push(Rc::downgrade(&conn));
        }
        tokio::task::spawn_local(async move {
            let open = match used {
                Use::Lane => &meter.lanes,
                Use::Pin => &meter.pins,
            };
            let _open = Open::new(open);
            match driver::run(driven, Rc::clone(&pool.context)).await {
                Err(error) if own || !matches!(error, OpenError::Refused { .. }) => {
                    pool.went_down(error);
                }
                _ => {}
            }
        });
        conn
    }

    fn went_down(self: &Rc<Self>, error: OpenError) {
        if matches!(error, OpenError::Database { .. }) {
            return;
        }
        if self.context.connector.is_redis() {
            self.context.status.redis_up.store(false, Ordering::Relaxed);
        }
        *self.down.borrow_mut() = Some(error.to_string());
        if self.probing.replace(true) {
            return;
        }
        tracing::warn!(%error, "{} is not reachable", self.context.connector.server());
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move { pool.probe().await });
    }

    /// Tries again, each time after a longer pause, until Redis lets the proxy's own user in.
    async fn probe(self: Rc<Self>) {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            tokio::select! {
                () = backoff.wait() => {}
                () = self.context.status.reconnect.notified() => {}
            }
            match handshake::open(&self.context.connector, &self.home).await {
                _ if self.down.borrow().is_none() => {
                    self.probing.set(false);
                    return;
                }
                Ok((_, facts)) => self.context.learn(&facts),
                // The user was let in: SELECT alone is refused while a slow script runs.
                Err(OpenError::Database { .. }) => {}
                Err(error) => {
                    *self.down.borrow_mut() = Some(error.to_string());
                    continue;
                }
            }
            *self.down.borrow_mut() = None;
            self.probing.set(false);
            let connector = &self.context.connector;
            tracing::info!(address = connector.address(), "{} is back", connector.server());
            return;
        }
    }
}
