use std::str::FromStr;

use super::care::{Careful, Name};
use crate::commands::Command;
use crate::resp::ProtocolError;

/// A command taken out of the stream, to be looked at closely.
#[derive(Debug)]
pub(super) struct Request {
    pub command: Option<&'static Command>,
    /// As it goes to Redis.
    pub frame: Vec<u8>,
    pub words: Vec<Vec<u8>>,
}

impl Request {
    pub fn new(
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) -> Request {
        let words = arguments.iter().map(|&(from, to)| frame[from as usize..to as usize].to_vec());
        Request { command, words: words.collect(), frame: frame.to_vec() }
    }

    /// Word `at`, in lower case.
    pub fn option(&self, at: usize) -> Vec<u8> {
        self.words.get(at).map(|word| word.to_ascii_lowercase()).unwrap_or_default()
    }
}

/// The decimal number that `word` is.
pub(super) fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Why the quick path has stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// Everything that has come is under way.
    More,
    /// The next command waits for outstanding replies.
    Drain,
    /// The next command waits until it is decided who answers.
    Settle,
    Slow(Request),
    /// These are not sent as they are: Redis may lack a key of theirs.
    Careful(Vec<Careful>),
    /// The next command waits until these keys are in Redis, if PostgreSQL has them.
    Place(Vec<Name>),
    Protocol(ProtocolError),
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client has gone, or was cut off.
    Closed,
    /// What has been answered is still to be written.
    Finish,
}
