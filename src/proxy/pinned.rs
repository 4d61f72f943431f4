use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::care::Name;
use super::request::number;
use super::session::Session;
use crate::commands::{self, Class, Command};
use crate::upstream::{Confirmation, Conn, Lost};

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
    /// What the queued commands must not miss, where Redis may lack keys.
    pub keys: Vec<Name>,
    /// AUTH or HELLO is queued: afterwards the connection is not what its key says.
    pub logs_in: bool,
    /// Queued SELECTs: their place in the transaction, and the database.
    pub selects: Vec<(usize, u32)>,
    /// Queued `CLIENT PAUSE` in ms, or `CLIENT UNPAUSE` as 0: it holds up others from EXEC on.
    pub pause: Option<u64>,
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

/// True when the call changes data, or may; what is not known may.
fn writes(command: Option<&Command>, frame: &[u8], words: &[(u32, u32)]) -> bool {
    let second = words.get(1).map(|&(from, to)| &frame[from as usize..to as usize]);
    command.is_none_or(|command| command.call_writes(second))
}

/// A client's flush as it goes to Redis.
pub(super) fn as_meant(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    // The name is the second line.
    let lines = frame.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let line: Vec<usize> = lines.skip(1).take(2).collect();
    if let [from, to] = line[..]
        && let Some(name) = frame.get_mut(from..to - 2)
        && let Some(meant) = commands::meant_flush(name)
    {
        name.copy_from_slice(meant);
    }
    frame
}

impl Transaction {
    /// Takes note of a command that is queued.
    pub fn note(&mut self, command: Option<&'static Command>, frame: &[u8], words: &[(u32, u32)]) {
        self.writes |= writes(command, frame, words);
        self.logs_in |= command.is_some_and(|command| matches!(command.name, "auth" | "hello"));
        if command.is_some_and(|command| command.name == "select" && command.takes(words.len())) {
            let (from, to) = words[1];
            let db = number(&frame[from as usize..to as usize]);
            self.selects.extend(db.map(|db| (self.queued, db)));
        }
        if command.is_some_and(|command| command.name == "client") {
            let word =
                |n: usize| words.get(n).map(|&(from, to)| &frame[from as usize..to as usize]);
            let is = |name: &str| word(1).is_some_and(|w| w.eq_ignore_ascii_case(name.as_bytes()));
            if is("pause") {
                self.pause = word(2).and_then(number);
            } else if is("unpause") {
                self.pause = Some(0);
            }
        }
        self.queued += 1;
    }
}

impl Session {
    /// One command to the client's own connection, keeping track of what it does to the state there.
    pub fn send_pinned(
        &mut self,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) {
        self.spoil_asked();
        let target = self.target();
        let outbox = Rc::clone(&self.outbox);
        let worker = Rc::clone(&self.worker);
        let pin = match self.take_pin() {
            Ok(pin) => pin,
            Err(lost) => {
                if command.is_some_and(|command| command.class == Class::Multi) {
                    // What follows must not run by itself.
                    self.broken_multi = Some(lost.clone());
                }
                return self.refuse(&lost, 1);
            }
        };
        let conn = Rc::clone(&pin.conn);
        let takes = command.is_some_and(|command| command.takes(arguments.len()));
        let class = command.map_or(Class::Unknown, |command| command.class);
        let mut writes = writes(command, frame, arguments);
        let mut pause = None;
        let waits = matches!(class, Class::Blocking | Class::BlockingOption) && pin.multi.is_none();
        pin.may_block = waits || pin.may_block && outbox.outstanding() > 0;
        if waits {
            conn.set_may_block();
        }
        match (&mut pin.multi, class) {
            (Some(multi), Class::Exec) if takes => {
                writes = multi.writes;
                pause = multi.pause;
                pin.sticky |= multi.logs_in;
                (pin.multi, pin.watching) = (None, false);
            }
            (Some(_), Class::Discard) if takes => (pin.multi, pin.watching) = (None, false),
            (Some(multi), _) => {
                multi.note(command, frame, arguments);
                writes = false;
            }
            (None, Class::Multi) if takes => pin.multi = Some(Transaction::default()),
            (None, Class::Exec | Class::Discard) => {}
            (None, Class::Watch) if takes => pin.watching = true,
            (None, Class::Unwatch) if takes => pin.watching = false,
            (None, Class::Monitor) => {
                pin.monitor = true;
                conn.monitor(&outbox, worker.shared.connector.sides());
            }
            (None, Class::Subscribe | Class::Unsubscribe) => {
                if let Some(command) = command.filter(|_| takes) {
                    let expected = Confirmation::expected(command.name, arguments.len() - 1);
                    conn.subscribe(frame, expected, &outbox);
                    return;
                }
            }
            _ => {}
        }
        if matches!(class, Class::Subscribe | Class::Unsubscribe) {
            conn.watch(&outbox);
        }
        let multi = pin.multi.as_ref().map_or(-1, |multi| multi.queued as i64);
        self.info.multi.store(multi, Ordering::Relaxed);
        match class {
            Class::Flush => conn.submit(&as_meant(frame), 1, writes, target),
            _ => conn.submit(frame, 1, writes, target),
        }
        if let Some(ms) = pause {
            self.worker.shared.pause(ms);
        }
    }

    /// The client's own connection, taken from the pool if it has none.
    pub fn take_pin(&mut self) -> Result<&mut Pin, Lost> {
        if self.pin.is_none() {
            let conn = self.worker.pool.pin(&self.key)?;
            self.publish_id(&conn);
            self.pin = Some(Pin::new(conn));
        }
        self.pin.as_mut().ok_or(Lost::Unknown)
    }

    /// Lets other clients know the id that `conn` has in Redis, as soon as it has one.
    fn publish_id(&self, conn: &Rc<Conn>) {
        if conn.is_ready() {
            self.info.redis_id.store(conn.facts().id, Ordering::Relaxed);
            return;
        }
        let (conn, info) = (Rc::clone(conn), Arc::clone(&self.info));
        tokio::task::spawn_local(async move {
            if conn.opened().await.is_ok() && conn.usable() {
                info.redis_id.store(conn.facts().id, Ordering::Relaxed);
            }
        });
    }

    /// Gives the client's own connection back, clean as it is.
    pub fn give_back(&mut self) {
        if let Some(pin) = self.pin.take() {
            self.info.redis_id.store(0, Ordering::Relaxed);
            pin.conn.unwatch();
            self.worker.pool.release(pin.conn);
        }
    }

    /// Closes the client's own connection with everything that Redis keeps there.
    pub fn drop_pin(&mut self) {
        if let Some(pin) = self.pin.take() {
            self.info.redis_id.store(0, Ordering::Relaxed);
            self.info.push_id.store(0, Ordering::Relaxed);
            self.info.multi.store(-1, Ordering::Relaxed);
            pin.conn.close();
        }
    }
}
