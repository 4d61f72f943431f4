use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::running::Running;
use crate::engine::stop::{Answer, Stop, shown};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

/// Levels of `redis.log`, in Redis's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Debug, Level::Verbose, Level::Notice, Level::Warning];

    pub(super) fn constant(self) -> &'static str {
        match self {
            Level::Debug => "LOG_DEBUG",
            Level::Verbose => "LOG_VERBOSE",
            Level::Notice => "LOG_NOTICE",
            Level::Warning => "LOG_WARNING",
        }
    }
}

/// How often a script has called a command, and how it went.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub calls: u64,
    pub took: Duration,
    /// Errors by their code.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, took: Duration, answer: &Answer<Reply>) {
        self.calls += 1;
        self.took += took;
        if let Err(Stop::Error(text)) | Ok(Reply::Error(text)) = answer {
            let code = text.split(' ').next().unwrap_or_default();
            *self.errors.entry(code.to_owned()).or_default() += 1;
        }
    }
}

/// What scripts reach beyond the engine: the server that they run in.
pub trait Outside: Send {
    /// Runs a command that is allowed in scripts and that the engine does not have.
    fn call(&mut self, keyspace: &mut Keyspace, call: &Call<'_>) -> Answer<Reply>;

    /// Called now and then while a script runs: the thread can do nothing else meanwhile.
    fn meanwhile(&mut self, _running: &Running) {}

    /// Whether the user who runs the script may call this command.
    fn may_call(&self, _words: &[Bytes]) -> bool {
        true
    }

    /// A script has ended, having called these commands.
    fn called(&mut self, _tallies: &BTreeMap<&'static str, Tally>) {}

    /// `redis.log`.
    fn log(&mut self, level: Level, text: &str) {
        match level {
            Level::Debug | Level::Verbose => tracing::debug!(target: "script", "{text}"),
            Level::Notice => tracing::info!(target: "script", "{text}"),
            Level::Warning => tracing::warn!(target: "script", "{text}"),
        }
    }
}

/// Scripts with nothing around them but the engine.
#[derive(Debug, Default)]
pub struct Alone;

impl Outside for Alone {
    fn call(&mut self, keyspace: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
        let name = call.arg(0)?.to_ascii_lowercase();
        match name.as_slice() {
            b"ping" => {
                let echoed = call.args.get(1).cloned().map(Reply::Bulk);
                Ok(echoed.unwrap_or(Reply::Simple("PONG".into())))
            }
            b"echo" => Ok(Reply::Bulk(call.arg(1)?.clone())),
            b"time" => {
                let ms = keyspace.now_ms;
                let part = |number: i64| Reply::bulk(number.to_string());
                Ok(Reply::Array(vec![part(ms / 1000), part(ms % 1000 * 1000)]))
            }
            b"publish" | b"spublish" => Ok(Reply::Int(0)),
            _ => {
                let name = shown(&name);
                Err(Stop::failed(format!("ERR '{name}' is not available to scripts here")))
            }
        }
    }
}
