//! Why what was asked has no answer.

use crate::strategy::Fault;

/// What a client is told about a command that was in flight when the server went away.
pub(super) const NOT_CONFIRMED: &str = "UNKNOWNOUTCOME PostgreSQL has not confirmed the write in time: Redis has it, and it may be lost with Redis";
pub(super) const UNKNOWN_OUTCOME: &str = "UNKNOWNOUTCOME the connection was lost before the answer came: the command may or may not have run";

/// Why a connection cannot take commands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("UNAVAILABLE {server} is not reachable ({why}): the command was not run")]
    Unreachable { server: &'static str, why: String },
    /// Redis refused the connection's user or database, in its own words.
    #[error("{0}")]
    Refused(String),
    #[error("{UNKNOWN_OUTCOME}")]
    Unknown,
}

impl Lost {
    /// What it is counted as.
    pub fn fault(&self) -> Fault {
        match self {
            Lost::Unreachable { .. } => Fault::Unavailable,
            Lost::Refused(_) => Fault::Refused,
            Lost::Unknown => Fault::UnknownOutcome,
        }
    }

    /// True when it says nothing about what was asked: whoever answers cannot be asked at the moment.
    pub fn passes(&self) -> bool {
        match self {
            Lost::Unreachable { .. } | Lost::Unknown => true,
            Lost::Refused(text) => PASSING.iter().any(|word| text.starts_with(word)),
        }
    }
}

/// First words of refusals that are about the moment, of Redis and of the server within the process.
const PASSING: [&str; 3] = ["LOADING", "UNAVAILABLE", "MASTERDOWN"];
