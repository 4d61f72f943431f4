use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::StoreError;
use super::connect::{Connector, Role};
use super::session::Session;
use crate::config;

/// What PostgreSQL says of itself and of our sessions.
#[derive(Clone, Debug)]
pub struct ServerState {
    pub round_trip: Duration,
    pub version: String,
    /// Sessions of Tandem with this database: all of them, those with nothing to do, and those that
    /// wait for a lock.
    pub sessions: i64,
    pub idle: i64,
    pub waiting: i64,
}

/// A session that asks how the server is; opened when it is needed, and anew when it has failed.
pub struct Monitor {
    connector: Connector,
    session: Mutex<Option<Session>>,
}

impl Monitor {
    pub fn new(postgres: &config::Postgres) -> Result<Monitor, StoreError> {
        Ok(Monitor { connector: Connector::new(postgres)?, session: Mutex::new(None) })
    }

    /// Asks, for as long as `limit`. The round trip is that of the question alone.
    pub async fn look(&self, limit: Duration) -> Result<ServerState, StoreError> {
        let mut held = self.session.lock().await;
        let work = async {
            if let Some(session) = held.as_ref()
                && let Ok(state) = ask(session, limit).await
            {
                return Ok(state);
            }
            *held = None;
            let session = self.connector.open(Role::Rows).await?;
            let state = ask(&session, limit).await?;
            *held = Some(session);
            Ok(state)
        };
        let result = tokio::time::timeout(limit, work).await;
        result.unwrap_or(Err(StoreError::Timeout { after: limit, outcome_unknown: false }))
    }

    /// The next question opens a new session.
    pub async fn reset(&self) {
        *self.session.lock().await = None;
    }
}

async fn ask(session: &Session, limit: Duration) -> Result<ServerState, StoreError> {
    let start = Instant::now();
    session.within(limit, session.client().batch_execute("SELECT 1")).await?;
    let round_trip = start.elapsed();
    let query = "SELECT current_setting('server_version'), count(*),
            count(*) FILTER (WHERE state = 'idle'), count(*) FILTER (WHERE wait_event_type = 'Lock')
        FROM pg_stat_activity WHERE application_name = 'tandem' AND datname = current_database()";
    let row = session.within(limit, session.client().query_one(query, &[])).await?;
    let (version, sessions) = (row.try_get(0)?, row.try_get(1)?);
    let (idle, waiting) = (row.try_get(2)?, row.try_get(3)?);
    Ok(ServerState { round_trip, version, sessions, idle, waiting })
}
