use std::rc::Rc;

use crate::commands::Command;
use crate::upstream::Conn;

/// A connection that one client has for itself, and what ties it there.
pub(super) struct Pin {
    pub conn: Rc<Conn>,
    pub multi: Option<Transaction>,
    pub watching: bool,
    pub monitor: bool,
    pub tracking: bool,
    /// Where tracking is redirected to: the connection's id in Redis, and its client's.
    pub redirect: Option<(i64, u64)>,
    /// Some state that cannot be known (a module's command): stays as long as the client.
    pub sticky: bool,
    /// A command that may wait was sent, and may not have been answered yet.
    pub may_block: bool,
}

/// An open MULTI.
#[derive(Default)]
pub(super) struct Transaction {
    pub queued: usize,
    pub writes: bool,
    /// Queued SELECTs: their place in the transaction, and the database.
    pub selects: Vec<(usize, u32)>,
}

impl Pin {
    pub fn new(conn: Rc<Conn>) -> Pin {
        Pin {
            conn,
            multi: None,
            watching: false,
            monitor: false,
            tracking: false,
            redirect: None,
            sticky: false,
            may_block: false,
        }
    }

    /// True while Redis keeps state of the client on this connection.
    pub fn holds(&self) -> bool {
        self.multi.is_some()
            || self.watching
            || self.monitor
            || self.tracking
            || self.sticky
            || self.conn.subscriptions().any()
    }

    pub fn subscribed(&self) -> bool {
        self.conn.subscriptions().any()
    }
}

impl Transaction {
    /// Takes note of a command that is queued.
    pub fn note(&mut self, command: Option<&'static Command>, frame: &[u8], words: &[(u32, u32)]) {
        self.writes |= command.is_none_or(|command| command.writes);
        if command.is_some_and(|command| command.name == "select" && command.takes(words.len())) {
            let (from, to) = words[1];
            let text = std::str::from_utf8(&frame[from as usize..to as usize]).ok();
            self.selects.extend(text.and_then(|t| t.parse().ok()).map(|db| (self.queued, db)));
        }
        self.queued += 1;
    }
}
