//! Connections on which Redis speaks unasked: subscriptions and MONITOR.

use std::rc::Rc;

use super::Outbox;
use super::handshake::CONNECTION_NAME;
use super::sides::Sides;
use crate::resp::{Reply, decode_reply};

/// How many channels, patterns and shard channels a connection is subscribed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    pub channels: u64,
    pub patterns: u64,
    pub shards: u64,
}

impl Subscriptions {
    pub fn any(&self) -> bool {
        self.channels + self.patterns + self.shards > 0
    }

    /// Takes over the count of a confirmation.
    fn update(&mut self, kind: Kind, count: u64) {
        match kind {
            Kind::Channel => self.channels = count.saturating_sub(self.patterns),
            Kind::Pattern => self.patterns = count.saturating_sub(self.channels),
            Kind::Shard => self.shards = count,
        }
    }

    fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Channel => self.channels,
            Kind::Pattern => self.patterns,
            Kind::Shard => self.shards,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Channel,
    Pattern,
    Shard,
}

/// The confirmations that a command of the subscribe family is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Confirmation {
    kind: Kind,
    /// One per channel; none: `UNSUBSCRIBE` from everything, until nothing is left.
    left: Option<usize>,
}

impl Confirmation {
    /// For the command `name` (lower case) with `channels` arguments.
    pub fn expected(name: &str, channels: usize) -> Confirmation {
        let kind = match name.as_bytes()[0] {
            b'p' => Kind::Pattern,
            b's' if name != "subscribe" => Kind::Shard,
            _ => Kind::Channel,
        };
        Confirmation { kind, left: (channels > 0).then_some(channels) }
    }
}

/// What a frame on a watched connection is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A reply to the oldest command.
    Reply,
    /// A confirmation; true when it was the last of its command.
    Confirmed(bool),
    /// Unasked: goes to the owner.
    Message,
    /// A barrier, of no concern to clients.
    Hidden,
}

/// Who listens on a connection, and to what.
pub struct Watching {
    pub(super) owner: Rc<Outbox>,
    /// Given when it sent `MONITOR`: whose lines are of no concern to clients.
    pub(super) monitor: Option<Sides>,
    pub(super) subscriptions: Subscriptions,
    hidden: Vec<u8>,
    /// Address of the connection whose greeting was last hidden.
    greeting: Vec<u8>,
}

impl Watching {
    pub(super) fn new(owner: Rc<Outbox>, hidden: &str) -> Watching {
        let subscriptions = Subscriptions::default();
        let hidden = hidden.as_bytes().to_vec();
        Watching { owner, monitor: None, subscriptions, hidden, greeting: Vec::new() }
    }

    pub(super) fn judge(&mut self, frame: &[u8], asked: Option<&mut Confirmation>) -> Verdict {
        match frame[0] {
            b'+' if self.monitor.is_some() && frame.get(1).is_some_and(u8::is_ascii_digit) => {
                let own = self.monitor.as_ref().is_some_and(|sides| sides.sent(frame));
                if own || self.hides_line(frame) || self.hides_greeting(frame) {
                    Verdict::Hidden
                } else {
                    Verdict::Message
                }
            }
            b'>' | b'*' => self.judge_array(frame, asked),
            _ => Verdict::Reply,
        }
    }

    /// A line of MONITOR that shows a barrier.
    fn hides_line(&self, line: &[u8]) -> bool {
        let mut wanted = b"\"PUBLISH\" \"".to_vec();
        wanted.extend_from_slice(&self.hidden);
        memchr::memmem::find(line, &wanted).is_some()
    }

    /// A line of MONITOR that shows how the proxy opens a connection: `HELLO`, and a `SELECT` that
    /// follows it on the same connection.
    fn hides_greeting(&mut self, line: &[u8]) -> bool {
        let Some(end) = memchr::memchr(b']', line) else { return false };
        let from = line[..end].iter().rposition(|&b| b == b' ').map_or(0, |at| at + 1);
        let (address, command) = (&line[from..end], &line[end + 1..]);
        let name = format!("\"SETNAME\" \"{CONNECTION_NAME}\"\r\n");
        if command.starts_with(b" \"HELLO\" ") && command.ends_with(name.as_bytes()) {
            self.greeting = address.to_vec();
            return true;
        }
        let selects = self.greeting == address && command.starts_with(b" \"SELECT\" ");
        if self.greeting == address {
            self.greeting.clear();
        }
        selects
    }

    fn judge_array(&mut self, frame: &[u8], asked: Option<&mut Confirmation>) -> Verdict {
        let push = frame[0] == b'>';
        let unasked = if push { Verdict::Message } else { Verdict::Reply };
        let word = first_word(frame);
        let (kind, message) = match word {
            b"message" => (Kind::Channel, true),
            b"pmessage" => (Kind::Pattern, true),
            b"smessage" => (Kind::Shard, true),
            b"subscribe" | b"unsubscribe" => (Kind::Channel, false),
            b"psubscribe" | b"punsubscribe" => (Kind::Pattern, false),
            b"ssubscribe" | b"sunsubscribe" => (Kind::Shard, false),
            _ => return unasked,
        };
        if message {
            if !push && !self.subscriptions.any() {
                return Verdict::Reply;
            }
            let channel = if kind == Kind::Pattern { 2 } else { 1 };
            return match words(frame).get(channel) {
                Some(Reply::Bulk(name)) if name.starts_with(&self.hidden) => Verdict::Hidden,
                _ => Verdict::Message,
            };
        }
        let count = match words(frame).get(2) {
            Some(Reply::Int(count)) => u64::try_from(*count).unwrap_or(0),
            _ => return unasked,
        };
        self.subscriptions.update(kind, count);
        let Some(asked) = asked.filter(|asked| asked.kind == kind) else { return Verdict::Message };
        match &mut asked.left {
            Some(left) => {
                *left -= 1;
                Verdict::Confirmed(*left == 0)
            }
            None => Verdict::Confirmed(self.subscriptions.of(kind) == 0),
        }
    }

    /// The connection is gone: a client that listens on it cannot go on as if nothing had happened.
    pub(super) fn lost(&self, wanted: bool) {
        if !wanted && (self.monitor.is_some() || self.subscriptions.any()) {
            self.owner.kill();
        }
    }
}

/// The first element of an array of bulk strings, lower case as Redis sends it.
fn first_word(frame: &[u8]) -> &[u8] {
    let mut lines = frame.split(|&b| b == b'\n').skip(1);
    match (lines.next(), lines.next()) {
        (Some([b'$', ..]), Some(word)) => word.strip_suffix(b"\r").unwrap_or(word),
        _ => b"",
    }
}

fn words(frame: &[u8]) -> Vec<Reply> {
    match decode_reply(frame) {
        Ok(Reply::Array(words) | Reply::Push(words)) => words,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words() {
        assert_eq!(first_word(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"), b"message");
        assert_eq!(first_word(b":1\r\n"), b"");
        assert_eq!(first_word(b"*1\r\n:1\r\n"), b"");
    }

    #[test]
    fn counts_follow_confirmations() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.update(Kind::Channel, 1);
        subscriptions.update(Kind::Pattern, 2);
        subscriptions.update(Kind::Channel, 3);
        assert_eq!(subscriptions, Subscriptions { channels: 2, patterns: 1, shards: 0 });
    }
}
