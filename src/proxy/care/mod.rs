//! Commands on a Redis that may lack keys which PostgreSQL has.
//!
//! Reads run first; an answer without content is looked into ([`read`], [`look`]). What depends on the former value of one key is run
//! by a script if the key is there ([`guard`]). What is left runs under `WATCH` with all its keys in place
//! ([`watch`]), and so does a transaction that arrives whole ([`transaction`]). On a connection of the client's own its keys are in place just before.
//! Whole overwrites need no care.

mod batch;
mod content;
mod guard;
mod look;
mod read;
mod transaction;
mod watch;

use bytes::Bytes;

pub(super) use batch::{Batch, Careful};

use super::request::End;
use super::session::Session;
use crate::commands::{self, Command};
use crate::resp::ReplyScanner;
use crate::strategy::Families;
use crate::upstream::{Captured, Hold, Lost};

/// How a command is run with care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It only reads: its answer tells whether it has to be looked into.
    Read,
    /// Its outcome depends on what the keys hold.
    Watch,
    /// As [`Way::Watch`], for a transaction of the client's own.
    Transaction,
    /// It swaps databases, which `WATCH` does not show for keys that both lack.
    Swap,
}

/// The keys that a command must not miss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub way: Way,
    pub keys: Vec<Name>,
}

/// A key and the database it is in.
pub(in crate::proxy) type Name = (u32, Bytes);

/// What a call in the database `db` needs; `None`: no care. Keys that live in Redis alone are never missed.
pub(super) fn needs<W: AsRef<[u8]>>(
    db: u32,
    command: &Command,
    words: &[W],
    families: &Families,
) -> Option<Needs> {
    let sub = words.get(1).and_then(|word| commands::lookup_sub(command, word.as_ref()));
    let command = sub.unwrap_or(command);
    // With a wrong number of words it does nothing.
    if !command.takes(words.len()) {
        return None;
    }
    if command.name == "swapdb" {
        return Some(Needs { way: Way::Swap, keys: Vec::new() });
    }
    let mut keys: Vec<Name> = Vec::new();
    for (at, elsewhere) in command.depends_on(words) {
        let (db, key) = (elsewhere.unwrap_or(db), words[at].as_ref());
        if families.mirrors(key) && !keys.iter().any(|known| known.0 == db && known.1 == key) {
            keys.push((db, Bytes::copy_from_slice(key)));
        }
    }
    if keys.is_empty() {
        return None;
    }
    let reads = command.flags.readonly && !command.is_script();
    Some(Needs { way: if reads { Way::Read } else { Way::Watch }, keys })
}

impl Session {
    /// Runs requests of one kind with care, in their order.
    pub async fn careful(&mut self, batch: Vec<Careful>) -> Result<(), End> {
        self.drained().await?;
        match batch.first().map(|first| first.needs.way) {
            Some(Way::Read) => self.read_with_care(batch).await,
            Some(Way::Watch) => self.run_under_watch(&batch).await,
            Some(Way::Transaction) => self.run_transactions(&batch).await,
            Some(Way::Swap) => self.swap_databases(&batch).await,
            None => {}
        }
        self.outbox.flush();
        Ok(())
    }

    /// Nothing of these has been run, and whoever was asked answers no more: they go to whoever answers next.
    fn start_afresh(&mut self, left: &[Careful]) {
        if self.takes_another_try() {
            let frames: Vec<u8> =
                left.iter().flat_map(|c| c.request.frame.iter().copied()).collect();
            return self.put_back(&frames);
        }
        let lost = self.not_run(Lost::Unknown);
        self.refuse(&lost, left.iter().map(Careful::replies).sum());
    }

    /// What to say of a command that was never sent.
    fn not_run(&self, lost: Lost) -> Lost {
        match lost {
            Lost::Unknown => Lost::Unreachable {
                server: self.worker.shared.connector.server(),
                why: "its connections end again and again".to_owned(),
            },
            lost => lost,
        }
    }

    /// A reply that was looked at.
    fn hand_over(&mut self, frame: &[u8], hold: Option<&Hold>) {
        use super::session::ReplyMode;
        match self.replies {
            ReplyMode::On => {
                // An error acknowledges no write.
                let hold = hold.filter(|_| frame.first() != Some(&b'-')).cloned();
                self.outbox.push_captured(&Captured { frame: frame.to_vec(), hold });
            }
            ReplyMode::Off => {}
            ReplyMode::Skip => self.replies = ReplyMode::On,
        }
    }

    fn hand_over_errors(&mut self, text: &str, count: usize) {
        for _ in 0..count {
            self.answer_error(text);
        }
    }
}

/// Cuts `count` replies apart; `None`: these are not so many replies.
fn split(mut bytes: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    let mut scanner = ReplyScanner::default();
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, true) = scanner.feed(bytes).ok()? else { return None };
        let (frame, rest) = bytes.split_at(length);
        frames.push(frame);
        bytes = rest;
    }
    bytes.is_empty().then_some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;

    #[test]
    fn what_needs_care_and_how() {
        let family = |pattern: &str| Family {
            pattern: pattern.into(),
            mirror: false,
            cache_ttl_s: None,
            view: None,
        };
        let families = Families::new(vec![family("lock:*")]);
        let of = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let command = commands::lookup(words[0].as_bytes()).expect("known");
            needs(0, command, &words, &families).map(|needs| (needs.way, needs.keys.len()))
        };
        assert_eq!(of("GET a"), Some((Way::Read, 1)));
        assert_eq!(of("MGET a lock:b a c"), Some((Way::Read, 2)));
        assert_eq!(of("INCR a"), Some((Way::Watch, 1)));
        assert_eq!(of("EVAL_RO s 1 a"), Some((Way::Watch, 1)));
        assert_eq!(of("XINFO STREAM a"), Some((Way::Read, 1)));
        assert_eq!(of("OBJECT ENCODING a"), Some((Way::Read, 1)));
        assert_eq!(of("MOVE a 3"), Some((Way::Watch, 2)));
        assert_eq!(of("COPY a a DB 3"), Some((Way::Watch, 2)));
        assert_eq!(of("COPY a b DB 3 REPLACE"), Some((Way::Watch, 1)));
        assert_eq!(of("SWAPDB 0 1"), Some((Way::Swap, 0)));
        for line in ["SET a 1", "INCR lock:a", "INCR", "GET a b", "PING", "PUBLISH a b"] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn replies_are_cut_apart() {
        let wanted: Vec<&[u8]> = vec![b"+OK\r\n", b"*2\r\n:1\r\n$-1\r\n"];
        assert_eq!(split(&wanted.concat(), 2), Some(wanted));
        assert_eq!(split(b"+OK\r\n:1", 2), None);
        assert_eq!(split(b"+OK\r\n:1\r\n", 1), None);
    }
}
