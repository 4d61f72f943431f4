//! Connections for the proxy's own questions to Redis (re-reading a key, restoring one, `INFO`),
//! pooled and apart from the clients' traffic.

use std::time::Duration;

use bb8_redis::redis::aio::{MultiplexedConnection, PubSub};
use bb8_redis::redis::{self, AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};

use super::connect::{ConnectError, Connector};
use super::sides::Side;
use crate::config;

/// How long one answer may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum SideError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    #[error("no connection to Redis became free in time")]
    Busy,
}

/// A connection for subscriptions.
pub struct Subscriber {
    pub connection: PubSub,
    _side: Side,
}

/// Makes connections the way the rest of the proxy does, TLS included.
#[derive(Clone)]
pub struct SideManager {
    connector: Connector,
    info: RedisConnectionInfo,
}

impl SideManager {
    /// To whatever server the connector leads to.
    pub fn new(connector: Connector) -> SideManager {
        let url = connector.url();
        let mut info = RedisConnectionInfo::default();
        if !url.user.is_empty() {
            info = info.set_username(&url.user);
        }
        if !url.password.is_empty() {
            info = info.set_password(&url.password);
        }
        SideManager { connector, info: info.set_skip_set_lib_name() }
    }

    /// A connection for subscriptions.
    pub async fn subscriber(&self) -> Result<Subscriber, SideError> {
        let stream = self.connector.connect().await?;
        let side = self.connector.sides().enter(&stream);
        Ok(Subscriber { connection: PubSub::new(&self.info, stream).await?, _side: side })
    }
}

impl bb8::ManageConnection for SideManager {
    type Connection = MultiplexedConnection;
    type Error = SideError;

    async fn connect(&self) -> Result<MultiplexedConnection, SideError> {
        let stream = self.connector.connect().await?;
        let side = self.connector.sides().enter(&stream);
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&self.info, stream, config).await?;
        tokio::spawn(async move {
            driver.await;
            drop(side);
        });
        Ok(connection)
    }

    async fn is_valid(&self, connection: &mut MultiplexedConnection) -> Result<(), SideError> {
        redis::cmd("PING").query_async::<Value>(connection).await?;
        Ok(())
    }

    fn has_broken(&self, _: &mut MultiplexedConnection) -> bool {
        false
    }
}

/// A small pool of side connections.
#[derive(Clone)]
pub struct SidePool {
    pool: bb8::Pool<SideManager>,
}

impl SidePool {
    /// Connects at first use, so that it can be made while Redis is down. Must be called within a
    /// tokio runtime.
    pub fn new(manager: SideManager, redis: &config::Redis) -> SidePool {
        let timeout = Duration::from_millis(redis.connect_timeout_ms);
        let builder = bb8::Pool::builder().max_size(4).connection_timeout(timeout);
        SidePool { pool: builder.build_unchecked(manager) }
    }

    pub async fn get(&self) -> Result<bb8::PooledConnection<'_, SideManager>, SideError> {
        self.pool.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => error,
            bb8::RunError::TimedOut => SideError::Busy,
        })
    }
}
