use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::blocked::Blocked;
use super::busy::{Doorway, Incoming};
use super::channels::{Channels, Scripted};
use super::config::Settings;
use super::follower::{Follower, LeadError};
use super::peer::Peer;
use super::slowlog::SlowLog;
use super::statistics::Statistics;
use super::tracking::Tracking;
use super::users::Users;
use super::walk::{Cursors, Question};
use super::watched::Watchers;
use crate::config::Config;
use crate::engine::script::Scripts;
use crate::engine::{Expiry, Keyspace, LARGE, Need};
use crate::resp::RequestLimits;
use crate::store::Store;
use crate::strategy::{Barrier, CommitGate, Status};
use crate::tenure::Tenure;
use crate::upstream::Connector;

/// The user and password of `redis.url`.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub user: String,
    pub password: String,
}

/// What a period begins with.
pub(super) struct Outset {
    pub config: Arc<Config>,
    pub credentials: Credentials,
    pub incoming: Arc<Incoming>,
    pub gate: Arc<CommitGate>,
    pub tenure: Arc<Tenure>,
    pub status: Arc<Status>,
    /// For `database_first`, with the Redis that follows.
    pub follower: Option<(Rc<Follower>, Connector)>,
}

/// Everything between PostgreSQL's coming and its going: the keys in memory and who is connected.
pub(super) struct Period {
    pub config: Arc<Config>,
    pub limits: RequestLimits,
    pub gate: Arc<CommitGate>,
    pub started: Instant,
    pub tenure: Arc<Tenure>,
    pub status: Arc<Status>,
    /// The number of the lease that it serves under.
    pub token: i64,
    pub keyspace: RefCell<Keyspace>,
    pub scripts: RefCell<Scripts>,
    /// Shared with scripts, which publish while they hold the keyspace.
    pub channels: Arc<Mutex<Channels>>,
    pub peers: RefCell<BTreeMap<u64, Rc<Peer>>>,
    pub blocked: RefCell<Blocked>,
    pub tracking: RefCell<Tracking>,
    pub settings: RefCell<Settings>,
    pub watchers: RefCell<Watchers>,
    pub slow_log: RefCell<SlowLog>,
    /// Shared with scripts.
    pub users: Arc<Mutex<Users>>,
    /// What somebody waits for, and whom to tell.
    pub wanted: RefCell<Vec<(Vec<Need>, oneshot::Sender<()>)>>,
    /// What is asked of PostgreSQL besides.
    pub questions: RefCell<Vec<Question>>,
    pub cursors: RefCell<Cursors>,
    /// Barriers behind what has been run and not yet committed.
    pub barriers: RefCell<Vec<Barrier>>,
    /// There is something to load or to commit.
    pub work: Notify,
    /// Commands run.
    pub commands: Cell<u64>,
    /// End of a `CLIENT PAUSE`, and whether it concerns writes only.
    pub paused: Cell<Option<(Instant, bool)>>,
    pub resumed: Notify,
    /// Commands that wait for the end of the pause.
    pub held_up: Cell<usize>,
    /// What each command has done.
    pub statistics: Arc<Mutex<Statistics>>,
    /// Connections in `MONITOR`.
    pub monitors: Cell<usize>,
    /// Brings what is committed to Redis, in `database_first`.
    pub follower: Option<Rc<Follower>>,
    /// How a slow script reaches everybody.
    pub doorway: Arc<Doorway>,
    /// Set when everybody has to leave.
    pub over: CancellationToken,
    /// Set when the last changes are to be committed.
    pub finishing: Cell<bool>,
}

impl Period {
    /// Connects to PostgreSQL, as the only writer from here on.
    pub async fn open(outset: &Outset) -> Result<(Rc<Period>, Store), LeadError> {
        let Outset { config, credentials, gate, tenure, status, follower, incoming } = outset;
        let token = tenure.token().await?;
        let store = Store::connect(&config.postgres).await?;
        store.prepare(&config.family).await?;
        store.under(token);
        match follower {
            Some((follower, redis)) => {
                // It may take long.
                tokio::select! {
                    led = follower.lead(&store, tenure, config, redis) => led?,
                    lost = tenure.lost(token) => return Err(lost.into()),
                }
            }
            None => {
                store.position().await?;
                store.take_over(true).await?;
            }
        }
        let next_id = store.max_key_id().await? + 1;
        let mut keyspace = Keyspace::new(next_id, next_id == 1, Expiry::ByClock, rand::random());
        keyspace.large = LARGE;
        keyspace.set_census(store.census().await?);
        if follower.is_some() {
            keyspace.note_names();
        }
        let channels = Arc::new(Mutex::new(Channels::default()));
        let limits = RequestLimits::from(&config.limits);
        let users = Arc::new(Mutex::new(Users::new(credentials)));
        let doorway = Doorway::new(Arc::clone(incoming), Arc::clone(&users), limits);
        let doorway = Arc::new(doorway);
        let statistics = Arc::<Mutex<Statistics>>::default();
        let scripted = Scripted::new(
            Arc::clone(&channels),
            Arc::clone(&doorway),
            Arc::clone(&users),
            Arc::clone(&statistics),
        );
        let mut scripts = Scripts::new(Box::new(scripted));
        for (name, source) in store.functions().await? {
            if let Err(error) = scripts.load_library(&source) {
                let library = String::from_utf8_lossy(&name);
                tracing::error!(%library, ?error, "a stored function library cannot be loaded");
            }
        }
        let period = Period {
            limits: RequestLimits::from(&config.limits),
            config: Arc::clone(config),
            gate: Arc::clone(gate),
            started: Instant::now(),
            tenure: Arc::clone(tenure),
            status: Arc::clone(status),
            token,
            keyspace: RefCell::new(keyspace),
            scripts: RefCell::new(scripts),
            channels,
            peers: RefCell::default(),
            blocked: RefCell::default(),
            tracking: RefCell::default(),
            settings: RefCell::default(),
            watchers: RefCell::default(),
            slow_log: RefCell::default(),
            users,
            wanted: RefCell::default(),
            questions: RefCell::default(),
            cursors: RefCell::default(),
            barriers: RefCell::default(),
            work: Notify::new(),
            commands: Cell::new(0),
            paused: Cell::new(None),
            resumed: Notify::new(),
            held_up: Cell::new(0),
            statistics,
            monitors: Cell::new(0),
            follower: follower.as_ref().map(|(follower, _)| Rc::clone(follower)),
            doorway,
            over: CancellationToken::new(),
            finishing: Cell::new(false),
        };
        Ok((Rc::new(period), store))
    }

    /// Closes all connections.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// Has [`Period::keep`] return when everything is committed.
    pub fn finish(&self) {
        self.finishing.set(true);
        self.work.notify_one();
    }
}
