//! Redis's stream while it is brought up to PostgreSQL: where it is, and what others write meanwhile.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use hashbrown::HashSet;
use tokio::sync::Notify;

use super::Failback;
use crate::commands;
use crate::local::follower::{Name, OWN};
use crate::mirror::replica::{Command, Event};
use crate::store::Position;

/// What is known of the stream.
pub(super) struct Stream {
    channel: String,
    /// Behind the last event.
    at: RefCell<Position>,
    /// Where the first command is that others have sent and that has not been looked after.
    before_foreign: RefCell<Option<Position>>,
    foreign: RefCell<HashSet<Name>>,
    /// The last mark that has come by, and behind what it is the last.
    mark: Cell<u64>,
    in_multi: Cell<bool>,
    /// Inside of a transaction of the follower's.
    own: Cell<bool>,
    own_end: Cell<i64>,
    stirred: Notify,
}

impl Stream {
    pub fn new() -> Stream {
        Stream {
            channel: format!("__tandem:failback:{:016x}", rand::random::<u64>()),
            at: RefCell::default(),
            before_foreign: RefCell::default(),
            foreign: RefCell::default(),
            mark: Cell::new(0),
            in_multi: Cell::new(false),
            own: Cell::new(false),
            own_end: Cell::new(0),
            stirred: Notify::new(),
        }
    }

    /// The channel of the marks, and of what tells the follower's transactions.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// A new link has begun here.
    pub fn begin(&self, replid: String, offset: i64) {
        *self.at.borrow_mut() = Position { replid, offset, db: 0 };
        self.before_foreign.take();
        self.foreign.take();
        self.in_multi.set(false);
        self.own.set(false);
        self.own_end.set(0);
    }

    pub fn at(&self) -> Position {
        self.at.borrow().clone()
    }

    pub fn mark(&self) -> u64 {
        self.mark.get()
    }

    /// Returns when a mark has come by, or a command of others.
    pub async fn touched(&self) {
        self.stirred.notified().await;
    }

    /// The keys that others have written to, to be looked after.
    pub fn take_foreign(&self) -> HashSet<Name> {
        self.before_foreign.take();
        self.foreign.take()
    }

    /// From where the stream has to be mirrored so that nothing is missed and nothing comes twice. `None`: the
    /// follower has written behind what others have.
    pub fn place(&self) -> Option<Position> {
        match &*self.before_foreign.borrow() {
            None => Some(self.at()),
            Some(before) if before.offset >= self.own_end.get() => Some(before.clone()),
            Some(_) => None,
        }
    }

    /// Takes note of one event.
    fn pass(&self, event: &Event) -> Option<Position> {
        let before = self.at();
        let mut at = self.at.borrow_mut();
        match event {
            Event::KeepAlive { end_offset } => at.offset = *end_offset,
            Event::Command(command) => {
                at.offset = command.end_offset;
                let word = |n: usize| command.args.get(n).map_or(&b""[..], |word| &word[..]);
                let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
                let name = word(0).to_ascii_lowercase();
                match &name[..] {
                    b"select" => at.db = number(word(1)).map_or(at.db, |db| db as u32),
                    b"multi" => self.in_multi.set(true),
                    b"exec" => {
                        self.in_multi.set(false);
                        if self.own.replace(false) {
                            self.own_end.set(at.offset);
                        }
                    }
                    b"publish" if word(1) == self.channel.as_bytes() => {
                        if word(2) == OWN.as_bytes() {
                            self.own.set(self.in_multi.get());
                        } else {
                            self.mark.set(number(word(2)).unwrap_or_default());
                        }
                    }
                    b"publish" => {}
                    _ if self.own.get() => {}
                    _ => return Some(before),
                }
            }
            _ => {}
        }
        None
    }
}

impl Failback {
    /// Takes note of one event of the stream.
    pub(super) fn pass(&self, event: &Event) {
        let foreign = self.stream.pass(event);
        if let (Some(before), Event::Command(command)) = (foreign, event) {
            self.note(command, before);
        }
        self.stream.stirred.notify_waiters();
    }

    /// Somebody else has written to Redis.
    fn note(&self, command: &Command, before: Position) {
        let known = command.args.first().and_then(|name| commands::lookup(name));
        let mut foreign = self.stream.foreign.borrow_mut();
        for (at, writes) in known.map(|known| known.keys(&command.args)).unwrap_or_default() {
            let key = &command.args[at];
            if writes && self.families.mirrors(key) {
                foreign.insert((before.db, Bytes::copy_from_slice(key)));
                self.stream.before_foreign.borrow_mut().get_or_insert(before.clone());
            }
        }
        if known.is_some_and(|known| matches!(known.name, "flushall" | "flushdb" | "swapdb")) {
            tracing::warn!(
                command = known.map_or("", |known| known.name),
                "Redis was flushed while PostgreSQL led: PostgreSQL keeps its keys"
            );
            // Redis has to be looked at as a whole.
            self.follower.debts.set_all();
        }
    }
}
