//! Commands that took long. Source: <https://redis.io/docs/latest/commands/slowlog/>.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::peer::Peer;
use super::period::Period;
use super::redact::redacted;
use super::session::Session;
use crate::engine::{Answer, Stop, number};
use crate::resp::Reply;

/// Most arguments of an entry, and most bytes of an argument.
const MOST_ARGS: usize = 32;
const MOST_BYTES: usize = 128;
const SHOWN: i64 = 10;

/// The last slow commands, the newest first.
#[derive(Debug, Default)]
pub(super) struct SlowLog {
    entries: VecDeque<Entry>,
    next_id: i64,
}

#[derive(Debug)]
struct Entry {
    id: i64,
    /// Unix time in s.
    at: u64,
    took: Duration,
    args: Vec<Bytes>,
    name: Bytes,
}

impl SlowLog {
    fn push(&mut self, args: &[Bytes], took: Duration, name: Bytes, most: usize) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(Entry { id, at, took, args: trimmed(args), name });
        self.entries.truncate(most);
    }

    fn reply(&self, count: usize) -> Reply {
        let entry = |entry: &Entry| {
            let micros = i64::try_from(entry.took.as_micros()).unwrap_or(i64::MAX);
            Reply::Array(vec![
                Reply::Int(entry.id),
                Reply::Int(entry.at as i64),
                Reply::Int(micros),
                Reply::Array(entry.args.iter().cloned().map(Reply::Bulk).collect()),
                // Whose commands share a connection to this server is not known here.
                Reply::bulk("tandem:0"),
                Reply::Bulk(entry.name.clone()),
            ])
        };
        Reply::Array(self.entries.iter().take(count).map(entry).collect())
    }
}

fn trimmed(args: &[Bytes]) -> Vec<Bytes> {
    let kept = if args.len() > MOST_ARGS { MOST_ARGS - 1 } else { args.len() };
    let short = |arg: &Bytes| match arg.len().checked_sub(MOST_BYTES) {
        None | Some(0) => Bytes::copy_from_slice(arg),
        Some(more) => {
            [&arg[..MOST_BYTES], format!("... ({more} more bytes)").as_bytes()].concat().into()
        }
    };
    let mut shown: Vec<Bytes> = args[..kept].iter().map(short).collect();
    if kept < args.len() {
        shown.push(format!("... ({} more arguments)", args.len() - kept).into());
    }
    shown
}

impl Period {
    /// Takes note of a command of `peer` that has run for this long.
    pub fn note_slow(&self, peer: &Peer, args: &[Bytes], took: Duration) {
        let (slow, most) = {
            let settings = self.settings.borrow();
            (settings.slow_us, settings.number("slowlog-max-len"))
        };
        let Ok(slow) = u64::try_from(slow) else { return };
        if took >= Duration::from_micros(slow) {
            let name = peer.name.borrow().clone();
            let most = usize::try_from(most).unwrap_or_default();
            self.slow_log.borrow_mut().push(&redacted(args), took, name, most);
        }
    }
}

impl Session {
    pub fn slow_log(&self, sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
        let mut log = self.period.slow_log.borrow_mut();
        Ok(match sub {
            b"get" => {
                let count = args.get(2).map_or(Ok(SHOWN), |count| number::int(count))?;
                let count = match count {
                    -1 => usize::MAX,
                    count => usize::try_from(count).map_err(|_| {
                        Stop::error("ERR count should be greater than or equal to -1")
                    })?,
                };
                log.reply(count)
            }
            b"len" => Reply::Int(log.entries.len() as i64),
            b"reset" => {
                log.entries.clear();
                Reply::OK
            }
            b"help" => {
                let lines = HELP.iter().map(|line| Reply::Simple((*line).into()));
                Reply::Array(lines.collect())
            }
            _ => {
                let sub = String::from_utf8_lossy(&args[1]);
                return Err(Stop::failed(format!(
                    "ERR unknown subcommand '{sub}'. Try SLOWLOG HELP."
                )));
            }
        })
    }
}

const HELP: [&str; 12] = [
    "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
    "HELP",
    "    Prints this help.",
];
