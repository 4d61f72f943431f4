//! What has happened to keys, for those who listen: subscribers of keyspace events, and clients that cache.
//!
//! Nothing is written down unless somebody listens. What a command has touched is turned into
//! [`Happened`] when it is done ([`crate::engine::events`]); a rollback takes that back too.

use bytes::Bytes;

use super::Keyspace;
use crate::engine::Db;
use crate::engine::events::{Class, Classes, Happened};

/// What one step of a command did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    pub db: Db,
    pub key: Bytes,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Made,
    Changed,
    Gone,
    /// Something beside the command's own event, such as what `XADD` has trimmed.
    Besides(&'static str),
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    on: bool,
    wanted: Classes,
    /// Calls of scripts are noted.
    calls: bool,
    actor: u64,
    reads: bool,
    /// The keys that the script which runs was called with.
    declared: Option<Vec<Bytes>>,
    touches: Vec<Touch>,
    happened: Vec<Happened>,
}

impl Keyspace {
    /// Writes down these events, and with `changes` every change, from here on.
    pub fn listen(&mut self, wanted: Classes, changes: bool) {
        self.journal.on = changes || !wanted.is_empty();
        self.journal.wanted = wanted;
    }

    /// Says who runs the commands from here on (0: nobody), and whether what they read is noted too.
    pub fn act(&mut self, actor: u64, reads: bool) {
        (self.journal.actor, self.journal.reads) = (actor, reads);
    }

    pub fn actor(&self) -> u64 {
        self.journal.actor
    }

    /// Says which keys a script was called with, before and after it.
    pub fn declare(&mut self, keys: Option<&[Bytes]>) {
        self.journal.declared = keys.filter(|_| self.journal.reads).map(<[Bytes]>::to_vec);
    }

    pub fn declared(&self) -> Option<&[Bytes]> {
        self.journal.declared.as_deref()
    }

    /// Whether commands that scripts call are noted.
    pub fn note_calls(&mut self, on: bool) {
        self.journal.calls = on;
    }

    pub fn notes_calls(&self) -> bool {
        self.journal.calls
    }

    pub fn notes_reads(&self) -> bool {
        self.journal.reads
    }

    /// True when somebody listens.
    pub fn is_heard(&self) -> bool {
        self.journal.on
    }

    pub fn wants(&self, class: Class) -> bool {
        self.journal.wanted.contains(class)
    }

    pub(super) fn touch(&mut self, db: Db, key: &Bytes, what: What) {
        if self.journal.on {
            self.journal.touches.push(Touch { db, key: key.clone(), what });
        }
    }

    /// Notes an event beside the command's own.
    pub fn besides(&mut self, db: Db, key: &Bytes, event: &'static str) {
        self.touch(db, key, What::Besides(event));
    }

    pub fn take_touches(&mut self) -> Vec<Touch> {
        std::mem::take(&mut self.journal.touches)
    }

    /// Something has happened that others are to be told of, unless it is rolled back.
    pub fn happen(&mut self, what: Happened) {
        self.journal.happened.push(what);
    }

    /// An event, if anybody wants it.
    pub fn event(&mut self, class: Class, name: &'static str, db: Db, key: &Bytes) {
        if self.wants(class) {
            self.happen(Happened::Event { class, name, db, key: key.clone() });
        }
    }

    pub(super) fn hear(&mut self, what: Happened) {
        if self.journal.on {
            self.happen(what);
        }
    }

    pub fn has_happened(&self) -> bool {
        !self.journal.happened.is_empty()
    }

    /// What has happened, in order. Not to be called while a savepoint is open.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.journal.happened)
    }

    pub(super) fn happened_so_far(&self) -> usize {
        self.journal.happened.len()
    }

    pub(super) fn forget_happened(&mut self, mark: usize) {
        self.journal.happened.truncate(mark);
        self.journal.touches.clear();
    }
}
