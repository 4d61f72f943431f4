//! Reads whose answers were lost with a connection are asked again, of whoever answers next: that a read ran twice
//! nobody can tell. What may have changed something never is.

use super::block::Part;
use super::session::Session;
use crate::resp::{RequestLimits, RequestScanner, Scan};
use crate::upstream::Lost;

/// Most bytes of requests kept for that, per client.
const MAX_BYTES: usize = 16 * 1024;
/// How often the same reads are asked again: they may be what ends connections.
pub(super) const TRIES: u8 = 3;

/// The requests of a client that a lane has, while all of them only read.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Everything handed to a lane since nothing was outstanding.
    bytes: Vec<u8>,
    commands: usize,
    /// There was something else among it, or too much.
    spoiled: bool,
    tries: u8,
}

impl Asked {
    /// `bytes` with the commands of `part` are handed to a lane.
    fn note(&mut self, nothing_outstanding: bool, bytes: &[u8], part: Part, answered: bool) {
        if nothing_outstanding {
            self.bytes.clear();
            (self.commands, self.spoiled) = (0, false);
        }
        self.spoiled |= part.more_than_reads || !answered;
        self.spoiled |= self.bytes.len() + bytes.len() > MAX_BYTES;
        if !self.spoiled {
            self.bytes.extend_from_slice(bytes);
            self.commands += part.commands;
        }
    }

    /// The last `count` requests.
    fn last(&self, count: usize, limits: &RequestLimits) -> Option<Vec<u8>> {
        let mut scanner = RequestScanner::default();
        let (mut at, mut before) = (0, self.commands.checked_sub(count)?);
        while before > 0 {
            at += match scanner.scan(&self.bytes[at..], limits, true) {
                Ok(Scan::Command(length)) => {
                    before -= 1;
                    length
                }
                Ok(Scan::Nothing(length)) => length,
                _ => return None,
            };
        }
        Some(self.bytes[at..].to_vec())
    }
}

impl Session {
    /// Requests are handed to a lane next.
    pub(super) fn note_asked(&mut self, bytes: &[u8], part: Part, answered: bool) {
        self.asked.note(self.outbox.outstanding() == 0, bytes, part, answered);
        self.outbox.set_only_reads(!self.asked.spoiled);
    }

    /// Something else than a lane gets the next request.
    pub(super) fn spoil_asked(&mut self) {
        self.asked.spoiled = true;
        self.outbox.set_only_reads(false);
    }

    /// The client has sent something new.
    pub(super) fn forget_tries(&mut self) {
        self.asked.tries = 0;
    }

    /// Counts one more try; false when there were enough of them.
    pub(super) fn takes_another_try(&mut self) -> bool {
        let takes = self.asked.tries < TRIES;
        self.asked.tries += u8::from(takes);
        takes
    }

    /// The last `count` requests, whose answers are lost, if they may be asked again; they are outstanding no more then.
    pub(super) fn take_asked(&mut self, count: usize) -> Option<Vec<u8>> {
        if self.asked.spoiled {
            return None;
        }
        let again = self.asked.last(count, &self.worker.shared.limits)?;
        if !self.takes_another_try() {
            return None;
        }
        self.outbox.settle(count);
        Some(again)
    }

    /// The answers to `count` requests are lost for good.
    pub(super) fn give_up_asked(&mut self, count: usize) {
        self.refuse(&Lost::Unknown, count);
        self.outbox.settle(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::resp::command;

    fn read(name: &str) -> (Vec<u8>, Part) {
        let bytes = command(&["GET", name]).to_vec();
        let part = Part { length: bytes.len(), commands: 1, ..Part::default() };
        (bytes, part)
    }

    #[test]
    fn the_last_requests_are_found_again() {
        let (mut asked, limits) = (Asked::default(), RequestLimits::from(&Limits::default()));
        let all: Vec<_> = ["a", "b\r\n*1\r\n", "c"].map(read).into();
        for (n, (bytes, part)) in all.iter().enumerate() {
            asked.note(n == 0, bytes, *part, true);
        }
        let expected = [&all[1].0[..], &all[2].0].concat();
        assert_eq!(asked.last(2, &limits), Some(expected));
        assert_eq!(asked.last(0, &limits), Some(Vec::new()));
        assert_eq!(asked.last(4, &limits), None);
        let (bytes, part) = read("d");
        asked.note(true, &bytes, part, true);
        assert_eq!(asked.last(1, &limits), Some(bytes));
    }

    #[test]
    fn what_does_more_than_read_spoils_it_until_all_is_answered() {
        let mut asked = Asked::default();
        let (bytes, part) = read("a");
        asked.note(true, &bytes, Part { more_than_reads: true, ..part }, true);
        asked.note(false, &bytes, part, true);
        assert!(asked.spoiled);
        asked.note(true, &bytes, part, true);
        assert!(!asked.spoiled);
        asked.note(false, &bytes, part, false);
        assert!(asked.spoiled, "nobody waits for that answer");
        asked.note(true, &[b'x'; MAX_BYTES + 1], part, true);
        assert!(asked.spoiled);
    }
}
