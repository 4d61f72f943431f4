use std::borrow::Cow;

use bytes::Bytes;

use super::Db;
use super::value::{Score, StreamId};

/// Why a command could not answer with a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// Something is not in memory: load it and run the command again.
    /// Raised only before the command has changed anything.
    NotLoaded(Vec<Need>),
    /// The command failed, in Redis's words, without the leading dash. It changed nothing.
    Error(Cow<'static, str>),
}

/// What a command needs of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Need {
    pub db: Db,
    pub key: Bytes,
    pub part: Part,
}

/// How much of a value. Every part includes what [`Part::Meta`] brings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Whether the key is there, its type, expiry, length; a list's end positions; a stream's last
    /// ids and groups.
    Meta,
    /// These hash fields, set members or sorted set members.
    Members(Vec<Bytes>),
    /// `count` list elements from the front, those behind position `after` (`None`: from the head).
    Front { after: Option<i64>, count: u64 },
    /// `count` list elements from the back, those before position `before` (`None`: from the tail).
    Back { before: Option<i64>, count: u64 },
    /// `count` stream entries with the lowest ids above `after`.
    Oldest { after: StreamId, count: u64 },
    /// Everything.
    All,
    /// Everything of a value of at most so many elements; of a larger one as [`Part::Meta`].
    AllUpTo(u64),
    /// What a read of a large value shows, as PostgreSQL has it.
    Window(Window),
    /// Not of a key (it is empty) but of the database: every key, as [`Part::Meta`].
    /// Answered by [`super::Keyspace::load_keys`].
    Keys,
}

/// A read of a large value, which PostgreSQL answers without the rest of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// `count` members of a sorted set or elements of a list behind the first `skip`, from the lowest
    /// score or the head; `reverse`: from the other end.
    Places { skip: u64, count: u64, reverse: bool },
    /// Members of a sorted set with these scores, both included: `count` behind the first `skip`;
    /// `reverse`: from the highest score down.
    Scores { min: Score, max: Score, skip: u64, count: u64, reverse: bool },
    /// The number of members with these scores, both included.
    ScoreCount { min: Score, max: Score },
    /// The number of members before this one, which is there with this score.
    Before { score: Score, member: Bytes },
    /// The first `count` entries of a stream with ids from `start` to `end`, both included;
    /// `reverse`: the last ones, from `end` down.
    Entries { start: StreamId, end: StreamId, count: u64, reverse: bool },
}

impl Part {
    /// What it comes to for a value of `len` elements.
    pub fn of_length(&self, len: u64) -> &Part {
        match self {
            Part::AllUpTo(most) if len <= *most => &Part::All,
            Part::AllUpTo(_) => &Part::Meta,
            part => part,
        }
    }
}

/// Asks for everything of the values of which windows are needed: for who has tried in vain for too
/// long, because others change the value before the window is there.
pub fn widen(needs: &mut [Need]) {
    for need in needs {
        if matches!(need.part, Part::Window(_)) {
            need.part = Part::All;
        }
    }
}

pub type Answer<T> = Result<T, Stop>;

impl Stop {
    pub const WRONG_TYPE: Stop =
        Stop::error("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const SYNTAX: Stop = Stop::error("ERR syntax error");
    pub const NOT_AN_INTEGER: Stop = Stop::error("ERR value is not an integer or out of range");
    pub const NOT_A_FLOAT: Stop = Stop::error("ERR value is not a valid float");
    pub const NO_SUCH_KEY: Stop = Stop::error("ERR no such key");

    pub const fn error(text: &'static str) -> Stop {
        Stop::Error(Cow::Borrowed(text))
    }

    /// As in Redis, an error is one line: line ends inside become blanks.
    pub fn failed(text: impl Into<String>) -> Stop {
        let text: String = text.into();
        Stop::Error(Cow::Owned(text.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " ")))
    }

    pub fn need(db: Db, key: &Bytes, part: Part) -> Stop {
        Stop::NotLoaded(vec![Need { db, key: key.clone(), part }])
    }
}

/// What `printf` shows of an argument: up to the first zero byte, at most `most` bytes.
pub fn c_text(arg: &[u8], most: usize) -> &[u8] {
    let end = arg.iter().position(|byte| *byte == 0).unwrap_or(arg.len());
    &arg[..end.min(most)]
}

/// An argument within an error, which is one line.
pub fn shown(arg: &[u8]) -> String {
    String::from_utf8_lossy(c_text(arg, usize::MAX)).replace(['\r', '\n'], " ")
}

/// Reads of several keys, so that everything they lack is asked for at once.
#[derive(Debug, Default)]
pub struct Reads {
    needs: Vec<Need>,
    failed: Option<Stop>,
}

impl Reads {
    /// Takes in one read; `None` when it stopped.
    pub fn of<T>(&mut self, answer: Answer<T>) -> Option<T> {
        match answer {
            Ok(value) => return Some(value),
            Err(Stop::NotLoaded(needs)) => self.needs.extend(needs),
            Err(failed) => drop(self.failed.get_or_insert(failed)),
        }
        None
    }

    /// What is lacking; errors are left to the command, which runs into them in its own order.
    pub fn loaded(self) -> Answer<()> {
        if self.needs.is_empty() { Ok(()) } else { Err(Stop::NotLoaded(self.needs)) }
    }

    /// What is lacking, or else the first error. With something lacking, an error is not final: a
    /// key before it may decide otherwise.
    pub fn done(self) -> Answer<()> {
        if !self.needs.is_empty() {
            return Err(Stop::NotLoaded(self.needs));
        }
        self.failed.map_or(Ok(()), Err)
    }
}
