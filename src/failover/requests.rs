//! How somebody asks for another strategy.

use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::config::Mode;
use crate::sync::SyncError;

/// What is asked for.
pub struct Request {
    pub to: Mode,
    /// Also where something may be lost, or a backend is away.
    pub force: bool,
    /// Who asks, for people.
    pub by: String,
    pub answer: oneshot::Sender<Result<Done, SyncError>>,
}

/// A switch that is done.
#[derive(Clone, Debug)]
pub struct Done {
    pub from: Mode,
    pub to: Mode,
    /// How long clients have waited, in ms.
    pub held_ms: u64,
}

impl Done {
    /// As the interface shows it.
    pub fn describe(&self) -> Value {
        let message = match self.from == self.to {
            true => format!("{} is in force already", self.to.as_str()),
            false => format!("switched from {} to {}", self.from.as_str(), self.to.as_str()),
        };
        json!({
            "message": message,
            "previousStrategy": self.from.as_str(),
            "newStrategy": self.to.as_str(),
            "heldMs": self.held_ms,
        })
    }
}

/// Asks for another strategy.
#[derive(Clone, Debug)]
pub struct Switcher(mpsc::UnboundedSender<Request>);

/// What [`Switcher`] asks for.
#[derive(Debug)]
pub struct Requests(mpsc::UnboundedReceiver<Request>);

impl Switcher {
    pub fn new() -> (Switcher, Requests) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Switcher(sender), Requests(receiver))
    }

    /// Switches; given up when it is dropped, unless clients have been handed over by then.
    pub async fn switch(&self, to: Mode, force: bool, by: String) -> Result<Done, SyncError> {
        let (answer, answered) = oneshot::channel();
        let ending = || SyncError::Refused("the proxy is stopping".into());
        self.0.send(Request { to, force, by, answer }).map_err(|_| ending())?;
        answered.await.unwrap_or_else(|_| Err(ending()))
    }
}

impl Requests {
    /// The next request; never returns when nobody can ask any more.
    pub async fn next(&mut self) -> Request {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

/// RFC 3339, UTC, milliseconds.
pub fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
