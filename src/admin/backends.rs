//! How Redis and PostgreSQL are right now, asked by the interface itself: what the data path last saw
//! may be a while ago.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use bb8_redis::redis;
use bb8_redis::redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use super::AdminError;
use crate::config::{Config, Mode};
use crate::store::{Monitor, ServerState};
use crate::strategy::{Histogram, Status};
use crate::upstream::{Connector, SideError, SideManager};

/// A backend that is silent for so long counts as gone.
const LIMIT: Duration = Duration::from_secs(2);
/// What was found out serves everybody who asks within this time.
const FRESH: Duration = Duration::from_millis(200);

/// What was found out.
pub struct Look {
    at: Instant,
    /// Redis, or where PostgreSQL leads the server that answers clients, a part of this process.
    pub redis: Result<RedisState, String>,
    /// `None`: the strategy does without PostgreSQL.
    pub postgres: Option<Result<ServerState, String>>,
}

/// What Redis says of itself.
#[derive(Default)]
pub struct RedisState {
    pub round_trip: Duration,
    /// `INFO`; empty where the proxy's user may not ask for it.
    info: BTreeMap<String, String>,
}

impl RedisState {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Error replies by their first word.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.info.iter().filter_map(|(name, value)| {
            let kind = name.strip_prefix("errorstat_")?;
            Some((kind, value.strip_prefix("count=")?.parse().ok()?))
        })
    }
}

impl Look {
    pub fn redis_up(&self) -> bool {
        self.redis.is_ok()
    }

    pub fn postgres_up(&self) -> bool {
        matches!(self.postgres, Some(Ok(_)))
    }

    /// True when everything that the strategy needs is there.
    pub fn complete(&self) -> bool {
        self.redis_up() && !matches!(self.postgres, Some(Err(_)))
    }
}

pub struct Backends {
    redis: SideManager,
    /// To whoever answers clients.
    server: SideManager,
    status: Arc<Status>,
    /// `None`: its configuration cannot be used, and nobody needs it.
    postgres: Option<Monitor>,
    /// With the strategy that it is for.
    connection: Mutex<Option<(Mode, MultiplexedConnection)>>,
    last: Mutex<Option<Arc<Look>>>,
    pub redis_round_trips: Histogram,
    pub postgres_round_trips: Histogram,
}

impl Backends {
    pub fn new(
        config: &Config,
        connector: &Connector,
        status: Arc<Status>,
    ) -> Result<Backends, AdminError> {
        let postgres = match Monitor::new(&config.postgres) {
            Ok(monitor) => Some(monitor),
            Err(_) if status.strategy() == Mode::RedisOnly => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Backends {
            redis: SideManager::new(connector.to_redis()),
            server: SideManager::new(connector.clone()),
            status,
            postgres,
            connection: Mutex::new(None),
            last: Mutex::new(None),
            redis_round_trips: Histogram::default(),
            postgres_round_trips: Histogram::default(),
        })
    }

    /// Asks both, unless somebody has just done so.
    pub async fn look(&self) -> Arc<Look> {
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < FRESH) {
            return Arc::clone(look);
        }
        let (redis, postgres) = tokio::join!(self.ask_redis(), self.ask_postgres());
        if let Ok(state) = &redis {
            self.redis_round_trips.record_duration(state.round_trip);
        }
        if let Some(Ok(state)) = &postgres {
            self.postgres_round_trips.record_duration(state.round_trip);
        }
        let look = Arc::new(Look { at: Instant::now(), redis, postgres });
        *last = Some(Arc::clone(&look));
        look
    }

    /// Forgets what is known, connections included.
    pub async fn reset(&self) {
        *self.connection.lock().await = None;
        if let Some(monitor) = &self.postgres {
            monitor.reset().await;
        }
        *self.last.lock().await = None;
    }

    async fn ask_redis(&self) -> Result<RedisState, String> {
        let mut held = self.connection.lock().await;
        let work = async {
            let strategy = self.status.strategy();
            if let Some((of, connection)) = held.as_mut()
                && *of == strategy
                && let Ok(state) = ask(connection).await
            {
                return Ok(state);
            }
            *held = None;
            let manager = match strategy.is_led_by_postgres() {
                true => &self.server,
                false => &self.redis,
            };
            let mut connection = manager.connect().await?;
            let state = ask(&mut connection).await?;
            *held = Some((strategy, connection));
            Ok::<_, SideError>(state)
        };
        match tokio::time::timeout(LIMIT, work).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => {
                // Its answer may still come, and would be taken for the next one's.
                *held = None;
                Err(format!("Redis did not answer within {LIMIT:?}"))
            }
        }
    }

    async fn ask_postgres(&self) -> Option<Result<ServerState, String>> {
        let needed = self.status.strategy() != Mode::RedisOnly;
        let monitor = self.postgres.as_ref().filter(|_| needed)?;
        Some(monitor.look(LIMIT).await.map_err(|error| error.to_string()))
    }
}

async fn ask(connection: &mut MultiplexedConnection) -> Result<RedisState, SideError> {
    let start = Instant::now();
    // A Redis that refuses the question is there all the same.
    match redis::cmd("PING").query_async::<redis::Value>(connection).await {
        Err(error) if error.code().is_none() => return Err(error.into()),
        _ => {}
    }
    let round_trip = start.elapsed();
    let info: Result<String, _> = redis::cmd("INFO").query_async(connection).await;
    let lines = info.unwrap_or_default();
    let pairs = lines.lines().filter_map(|line| line.split_once(':'));
    let info = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(RedisState { round_trip, info })
}
