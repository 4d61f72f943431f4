//! How Redis is, found out by asking it from time to time, and at once when a connection has failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, RedisError, Value};
use tokio::sync::watch;

use crate::upstream::{Route, SideError, SideManager};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);
/// The same while Redis is away or has just come back.
const SOON: Duration = Duration::from_millis(50);
/// Good answers in a row after which a Redis that was gone counts as back.
const GOOD: u32 = 4;
/// A Redis that refuses connections is asked once more before it counts as gone.
const AGAIN: Duration = Duration::from_millis(10);

/// What Redis is found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    Well,
    Gone(String),
}

/// Asks until it is dropped.
pub async fn watch(
    manager: SideManager,
    route: Arc<Route>,
    limit: Duration,
    said: watch::Sender<Health>,
) {
    let mut probe = Probe { manager, limit, connection: None };
    let (mut good, mut refused) = (GOOD, 0);
    loop {
        let asked = Instant::now();
        let pause = match probe.ask().await {
            Ok(()) => {
                (good, refused) = (good.saturating_add(1), 0);
                if good >= GOOD {
                    said.send_if_modified(|health| {
                        std::mem::replace(health, Health::Well) != Health::Well
                    });
                }
                if good >= GOOD { PAUSE } else { SOON }
            }
            Err(why) => {
                probe.connection = None;
                good = 0;
                refused += 1;
                // One refusal may be a listening socket on its way from one process to the next.
                if refused > 1 || asked.elapsed() >= limit {
                    said.send_if_modified(|health| {
                        let was = matches!(health, Health::Gone(_));
                        *health = Health::Gone(why);
                        !was
                    });
                    SOON
                } else {
                    AGAIN
                }
            }
        };
        let _ = tokio::time::timeout(pause, route.trouble.notified()).await;
    }
}

struct Probe {
    manager: SideManager,
    /// A Redis that is silent for so long counts as gone.
    limit: Duration,
    connection: Option<MultiplexedConnection>,
}

impl Probe {
    /// Why Redis cannot answer clients.
    async fn ask(&mut self) -> Result<(), String> {
        match tokio::time::timeout(self.limit, self.talk()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:?}", self.limit)),
        }
    }

    async fn talk(&mut self) -> Result<(), String> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let opened = self.manager.connect().await;
                self.connection.insert(opened.map_err(|error: SideError| error.to_string())?)
            }
        };
        match redis::cmd("ROLE").query_async::<Value>(connection).await {
            Ok(Value::Array(words)) => match words.first() {
                Some(Value::BulkString(role)) if role != b"master" => {
                    Err(format!("it is a {}, which takes no writes", String::from_utf8_lossy(role)))
                }
                _ => Ok(()),
            },
            Ok(_) => Ok(()),
            Err(error) => match lives(&error) {
                true => Ok(()),
                false => Err(error.to_string()),
            },
        }
    }
}

/// Whether an error is the answer of a Redis that serves: a slow script runs, or its user may not ask.
fn lives(error: &RedisError) -> bool {
    error.code().is_some_and(|code| matches!(code, "BUSY" | "NOPERM" | "ERR"))
}
