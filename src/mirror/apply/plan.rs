//! From entries of the log to batches that may be committed as one: what is a command, what is
//! control, and where a batch may end.

use bytes::Bytes;

use crate::engine::Db;
use crate::mirror::evictions::{DOUBTFUL, EVICTED};
use crate::mirror::log::Received;
use crate::strategy::{Barrier, Inspections};

/// Begins a transaction in which the proxy brings keys to Redis or drops them from it.
pub const PASS_OVER: &str = "pass-over";
/// What the channels of all proxies begin with.
const CHANNEL_PREFIX: &[u8] = b"__tandem:";

/// What is to be done for one command of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Run command `index` of the batch in this database.
    Command { db: Db, index: usize },
    /// Here is the place of a re-read.
    Reread(Mark),
    /// Command `index` deletes a key, or was an eviction.
    Doubtful { db: Db, index: usize },
    /// Here somebody wants to know what PostgreSQL has of some keys.
    Recall(u64),
    /// Command `index` is a flush.
    Flush { db: Db, index: usize },
}

/// The place of a re-read in the stream: its number, and which attempt it was. An attempt whose
/// answer was lost has left a mark too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub number: u64,
    pub attempt: u32,
}

/// A barrier that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub barrier: Barrier,
    /// The channel of the proxy whose it is; `None`: it is our own.
    pub of: Option<Bytes>,
}

/// Commands that are committed together; never a part of a source transaction.
#[derive(Debug, Default)]
pub struct Batch {
    pub received: Vec<Received>,
    pub work: Vec<Work>,
    pub barriers: Vec<Passed>,
    /// Replication offset and selected database behind the last command.
    pub end_offset: i64,
    pub end_db: Db,
    pub bytes: usize,
    /// Behind its last command somebody wants to know what the tables hold: the batch ends here.
    pub inspection: Option<u64>,
}

impl Batch {
    /// Adds a batch that has been run behind this one.
    pub fn append(&mut self, batch: Batch) {
        let Batch { received, work: _, barriers, end_offset, end_db, bytes, inspection: _ } = batch;
        if !received.is_empty() {
            (self.end_offset, self.end_db) = (end_offset, end_db);
        }
        self.received.extend(received);
        self.barriers.extend(barriers);
        self.bytes += bytes;
    }

    /// When its oldest command was received, Unix time in ms.
    pub fn oldest_at_ms(&self) -> Option<i64> {
        self.received.first().map(|received| received.at_ms)
    }
}

/// The state of the stream between two commands.
#[derive(Clone, Debug)]
pub struct Session {
    pub db: Db,
    in_transaction: bool,
    /// What follows up to EXEC is the proxy's own doing and changes nothing for PostgreSQL.
    passing: bool,
    channel: String,
}

/// Commands of the stream that change no key themselves.
#[derive(Clone, Copy, Debug)]
enum Control {
    Select,
    Multi,
    Exec,
    Publish,
    Doubtful,
    Flush,
    /// No effect on the data.
    Nothing,
}

const CONTROL: &[(&[u8], Control)] = &[
    (b"SELECT", Control::Select),
    (b"MULTI", Control::Multi),
    (b"EXEC", Control::Exec),
    (b"PUBLISH", Control::Publish),
    (b"SPUBLISH", Control::Nothing),
    (b"PING", Control::Nothing),
    (b"REPLCONF", Control::Nothing),
    (b"SCRIPT", Control::Nothing),
    (EVICTED, Control::Nothing),
    (DOUBTFUL, Control::Doubtful),
    (b"FLUSHALL", Control::Flush),
    (b"FLUSHDB", Control::Flush),
];

impl Session {
    /// `channel` is the one that this proxy's barriers are published on.
    pub fn new(db: Db, channel: &str) -> Session {
        Session { db, in_transaction: false, passing: false, channel: channel.to_owned() }
    }

    /// True where a batch may end.
    pub fn at_boundary(&self) -> bool {
        !self.in_transaction
    }

    /// Adds a command to the batch.
    pub fn add(&mut self, batch: &mut Batch, received: Received) {
        batch.bytes += received.weight();
        batch.end_offset = received.end_offset;
        self.sort(batch, &received);
        batch.end_db = self.db;
        batch.received.push(received);
    }

    fn sort(&mut self, batch: &mut Batch, received: &Received) {
        let Some(name) = received.args.first() else { return };
        let control = CONTROL.iter().find(|(control, _)| name.eq_ignore_ascii_case(control));
        let arg = |index: usize| received.args.get(index).map(|arg| &arg[..]).unwrap_or_default();
        match control.map(|(_, control)| *control) {
            None | Some(Control::Flush) if self.passing => {}
            Some(Control::Flush) => {
                batch.work.push(Work::Flush { db: self.db, index: batch.received.len() });
            }
            None => batch.work.push(Work::Command { db: self.db, index: batch.received.len() }),
            Some(Control::Select) => {
                self.db = std::str::from_utf8(arg(1))
                    .ok()
                    .and_then(|db| db.parse().ok())
                    .unwrap_or(self.db);
            }
            Some(Control::Multi) => self.in_transaction = true,
            Some(Control::Exec) => (self.in_transaction, self.passing) = (false, false),
            Some(Control::Doubtful) => {
                batch.work.push(Work::Doubtful { db: self.db, index: batch.received.len() });
            }
            // Another proxy's too, and those of a former process.
            Some(Control::Publish)
                if self.in_transaction
                    && arg(1).starts_with(CHANNEL_PREFIX)
                    && arg(2) == PASS_OVER.as_bytes() =>
            {
                self.passing = true;
            }
            Some(Control::Publish) if arg(1) == self.channel.as_bytes() => {
                if let Some(mark) = Mark::parse(arg(2)) {
                    batch.work.push(Work::Reread(mark));
                } else if let Some(number) = recall_number(arg(2)) {
                    batch.work.push(Work::Recall(number));
                } else if let Some(number) = Inspections::number(arg(2)) {
                    batch.inspection = Some(number);
                } else {
                    batch.barriers.extend(barrier_of(received, &self.channel));
                }
            }
            Some(Control::Publish) if arg(1).starts_with(CHANNEL_PREFIX) => {
                batch.barriers.extend(barrier_of(received, &self.channel));
            }
            Some(Control::Publish | Control::Nothing) => {}
        }
    }
}

/// The barrier that a command is. This proxy's are published on `channel`.
pub fn barrier_of(command: &Received, channel: &str) -> Option<Passed> {
    let [name, to, message] = &command.args[..] else { return None };
    if !(to.starts_with(CHANNEL_PREFIX) && name.eq_ignore_ascii_case(b"PUBLISH")) {
        return None;
    }
    let of = (to != channel.as_bytes()).then(|| to.clone());
    Some(Passed { barrier: Barrier::parse(message)?, of })
}

/// The message that marks the place of a recall.
pub fn recall_message(number: u64) -> String {
    format!("recall.{number}")
}

fn recall_number(message: &[u8]) -> Option<u64> {
    std::str::from_utf8(message).ok()?.strip_prefix("recall.")?.parse().ok()
}

impl Mark {
    /// The message that marks the place.
    pub fn message(&self) -> String {
        format!("reread.{}.{}", self.number, self.attempt)
    }

    fn parse(message: &[u8]) -> Option<Mark> {
        let rest = std::str::from_utf8(message).ok()?.strip_prefix("reread.")?;
        let (number, attempt) = rest.split_once('.')?;
        Some(Mark { number: number.parse().ok()?, attempt: attempt.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_batch_ends_only_between_transactions() {
        let mut session = Session::new(0, "__tandem:a");
        let mut batch = Batch::default();
        let lines = [
            ("SELECT 3", true),
            ("SET a 1", true),
            ("MULTI", false),
            ("SET b 2", false),
            ("PUBLISH __tandem:a 7.9", false),
            ("EXEC", true),
            ("PUBLISH __tandem:a reread.4.2", true),
            ("PUBLISH __tandem:other 1.1", true),
            ("PUBLISH __tandem:a recall.77", true),
            ("PUBLISH __tandem:a pass-over", true),
            ("PUBLISH __tandem:a inspect.5", true),
            ("TANDEM.EVICTED k", true),
            ("TANDEM.DOUBTFUL k", true),
            ("MULTI", false),
            ("PUBLISH __tandem:former pass-over", false),
            ("RESTORE k 0 x", false),
            ("EXEC", true),
            ("DEL k", true),
            ("flushdb", true),
        ];
        for (n, (line, boundary)) in lines.into_iter().enumerate() {
            let args = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
            session.add(&mut batch, Received { args, end_offset: n as i64, at_ms: 0 });
            assert_eq!(session.at_boundary(), boundary, "{line}");
        }
        let mark = Mark { number: 4, attempt: 2 };
        let expected = [
            Work::Command { db: 3, index: 1 },
            Work::Command { db: 3, index: 3 },
            Work::Reread(mark),
            Work::Recall(77),
            Work::Doubtful { db: 3, index: 12 },
            Work::Command { db: 3, index: 17 },
            Work::Flush { db: 3, index: 18 },
        ];
        assert_eq!(Mark::parse(mark.message().as_bytes()), Some(mark));
        assert_eq!(batch.work, expected);
        let own = Passed { barrier: Barrier { source: 7, number: 9 }, of: None };
        let other = Passed {
            barrier: Barrier { source: 1, number: 1 },
            of: Some(Bytes::from_static(b"__tandem:other")),
        };
        assert_eq!(batch.barriers, [own, other]);
        assert_eq!((batch.end_offset, batch.end_db, batch.inspection), (18, 3, Some(5)));
    }
}
