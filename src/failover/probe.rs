//! How Redis is, found out by asking it from time to time, and at once when a connection has failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, RedisError, Value};
use tokio::sync::watch;

use crate::strategy::{Condition, Status, Witness};
use crate::upstream::{Route, SideManager};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// The same while Redis is away or has just come back.
const SOON: Duration = Duration::from_millis(50);
/// Good answers in a row after which a Redis that was gone counts as back.
const GOOD: u32 = 4;
/// Between two looks at what keeps a Redis that answers from taking writes.
const LOOK: Duration = Duration::from_secs(1);
/// Answers in a row that took half of the time after which Redis counts as gone: it is slow.
const LATE: u32 = 3;
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

/// Why Redis cannot answer clients.
struct Gone(Condition, String);

impl<E: std::fmt::Display> From<E> for Gone
where
    Condition: for<'a> From<&'a E>,
{
    fn from(error: E) -> Gone {
        Gone(Condition::from(&error), error.to_string())
    }
}

/// Asks until it is dropped.
pub async fn watch(
    manager: SideManager,
    route: Arc<Route>,
    status: Arc<Status>,
    limit: Duration,
    said: watch::Sender<Health>,
) {
    let mut probe = Probe { manager, status, limit, connection: None, looked_at: None };
    let (mut good, mut refused, mut late) = (GOOD, 0, 0);
    loop {
        let asked = Instant::now();
        let pause = match probe.ask().await {
            Ok(()) => {
                (good, refused) = (good.saturating_add(1), 0);
                let took = asked.elapsed();
                late = if took >= limit / 2 { late + 1 } else { 0 };
                if good >= GOOD {
                    match late {
                        0 => probe.note_writes().await,
                        LATE.. => {
                            let why = format!("an answer took {} ms", took.as_millis());
                            probe.status.redis.note(Witness::Watch, Condition::Slow, why);
                        }
                        _ => {}
                    }
                    said.send_if_modified(|health| {
                        std::mem::replace(health, Health::Well) != Health::Well
                    });
                }
                if good >= GOOD { PAUSE } else { SOON }
            }
            Err(Gone(condition, why)) => {
                probe.connection = None;
                good = 0;
                refused += 1;
                // One refusal may be a listening socket on its way from one process to the next.
                if refused > 1 || asked.elapsed() >= limit {
                    probe.status.redis.note(Witness::Watch, condition, why.as_str());
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
    status: Arc<Status>,
    /// Whether it takes writes.
    looked_at: Option<Instant>,
}

impl Probe {
    async fn ask(&mut self) -> Result<(), Gone> {
        match tokio::time::timeout(self.limit, self.talk()).await {
            Ok(result) => result,
            Err(_) => Err(Gone(Condition::Silent, format!("no answer within {:?}", self.limit))),
        }
    }

    async fn talk(&mut self) -> Result<(), Gone> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.manager.connect().await?),
        };
        // While it loads its data Redis tells its role, and not how much it has.
        let mut beside = connection.clone();
        let (role, size) = tokio::join!(ask(connection, "ROLE"), ask(&mut beside, "DBSIZE"));
        if let Some(Value::Array(words)) = role?
            && let Some(Value::BulkString(role)) = words.first()
            && role != b"master"
        {
            let why = format!("it is a {}, which takes no writes", String::from_utf8_lossy(role));
            return Err(Gone(Condition::ReadOnly, why));
        }
        size.map(|_| ())
    }

    /// Notes that Redis is well, or why it refuses writes although it answers. That is for its clients to hear, in its own
    /// words: reads are served, and PostgreSQL does not take over.
    async fn note_writes(&mut self) {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let Some(connection) = &mut self.connection else { return };
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("memory").cmd("INFO").arg("persistence");
        let asked = pipe.query_async::<(String, String)>(connection);
        let info = match tokio::time::timeout(self.limit, asked).await {
            Ok(Ok((memory, persistence))) => memory + &persistence,
            // Its user may not ask; if it is more, the next question shows it.
            _ => String::new(),
        };
        match refuses_writes(&info) {
            Some((condition, why)) => self.status.redis.note(Witness::Watch, condition, why),
            None => self.status.redis.well(Witness::Watch),
        }
    }
}

/// What keeps a Redis that says this of itself from taking writes.
fn refuses_writes(info: &str) -> Option<(Condition, &'static str)> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let number = |name| field(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (limit, used) = (number("maxmemory"), number("used_memory"));
    let counted = used.saturating_sub(number("mem_not_counted_for_evict"));
    if limit > 0 && counted > limit && field("maxmemory_policy") == Some("noeviction") {
        let why = "it uses more than maxmemory, and may not evict";
        return Some((Condition::OutOfMemory, why));
    }
    let failed = |name| field(name).is_some_and(|state| state != "ok");
    if failed("rdb_last_bgsave_status") || failed("aof_last_write_status") {
        let why = "its last snapshot, or a write to its append-only file, has failed";
        return Some((Condition::CannotSave, why));
    }
    None
}

/// What Redis answers; `None`: an error that is no fault of its.
async fn ask(
    connection: &mut MultiplexedConnection,
    question: &str,
) -> Result<Option<Value>, Gone> {
    match redis::cmd(question).query_async::<Value>(connection).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if lives(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error is the answer of a Redis that serves: a slow script runs, or its user may not ask.
fn lives(error: &RedisError) -> bool {
    error.code().is_some_and(|code| matches!(code, "BUSY" | "NOPERM" | "ERR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_of_itself_tells_whether_it_takes_writes() {
        let said = |used: u32, policy: &str, saved: &str| {
            let info = format!(
                "# Memory\r\nused_memory:{used}\r\nmem_not_counted_for_evict:100\r\nmaxmemory:1000\r\n\
                 maxmemory_policy:{policy}\r\n# Persistence\r\nrdb_last_bgsave_status:{saved}\r\n"
            );
            refuses_writes(&info).map(|(condition, _)| condition)
        };
        assert_eq!(said(1100, "noeviction", "ok"), None);
        assert_eq!(said(1101, "noeviction", "ok"), Some(Condition::OutOfMemory));
        assert_eq!(said(1101, "allkeys-lru", "ok"), None);
        assert_eq!(said(0, "noeviction", "err"), Some(Condition::CannotSave));
        assert_eq!(refuses_writes(""), None);
    }
}
