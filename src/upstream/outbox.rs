use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::net::{tcp, unix};

use super::Source;
use super::conn::{Captured, UNKNOWN_OUTCOME};
use crate::resp::encode_error;

/// The writing half of a client's connection.
#[derive(Debug)]
pub enum ClientWriter {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl ClientWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ClientWriter::Tcp(half) => half.try_write(bytes),
            ClientWriter::Unix(half) => half.try_write(bytes),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ClientWriter::Tcp(half) => half.as_ref().poll_write_ready(cx),
            ClientWriter::Unix(half) => half.as_ref().poll_write_ready(cx),
        }
    }
}

/// Buffers larger than this are given back when they are empty.
const KEEP: usize = 16 * 1024;

/// Replies on their way to one client, in order: ready bytes, and behind them replies that wait for
/// a commit. Never more than one writer: everything is on the worker's thread.
pub struct Outbox {
    writer: ClientWriter,
    me: Weak<Outbox>,
    ready: RefCell<Ready>,
    held: RefCell<VecDeque<Held>>,
    /// Replies asked of Redis that have not come to their end.
    outstanding: Cell<usize>,
    /// The connection is of no use any more; the session ends.
    dead: Cell<bool>,
    touched: Cell<bool>,
    blocked: Cell<bool>,
    /// The session waits for its replies.
    awaited: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    limit: usize,
}

#[derive(Default)]
struct Ready {
    bytes: Vec<u8>,
    sent: usize,
    held: usize,
}

/// Replies that wait for a barrier; `source` is none for what only has to keep its place.
struct Held {
    source: Option<(Rc<Source>, u64)>,
    /// Complete replies in `bytes`.
    replies: usize,
    bytes: Vec<u8>,
    /// An unfinished reply is at the end of `bytes`.
    open: bool,
}

impl Outbox {
    /// `limit`: most bytes that may wait for the client before it is cut off.
    pub fn new(writer: ClientWriter, limit: usize) -> Rc<Outbox> {
        Rc::new_cyclic(|me| Outbox {
            writer,
            me: me.clone(),
            ready: RefCell::default(),
            held: RefCell::default(),
            outstanding: Cell::new(0),
            dead: Cell::new(false),
            touched: Cell::new(false),
            blocked: Cell::new(false),
            awaited: Cell::new(false),
            waker: RefCell::default(),
            limit,
        })
    }

    /// Registers the session's task, which is woken when the last outstanding reply has come, when
    /// the client's socket was full, and when the connection is dead.
    pub fn register(&self, waker: &Waker) {
        let mut mine = self.waker.borrow_mut();
        if !mine.as_ref().is_some_and(|mine| mine.will_wake(waker)) {
            *mine = Some(waker.clone());
        }
    }

    /// Says whether the session waits for its replies; it is not woken for them otherwise.
    pub fn set_awaited(&self, awaited: bool) {
        self.awaited.set(awaited);
    }

    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.get()
    }

    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Nothing waits to be written or committed.
    pub fn is_empty(&self) -> bool {
        let ready = self.ready.borrow();
        ready.sent == ready.bytes.len() && self.held.borrow().is_empty()
    }

    /// Bytes that wait for the client.
    pub fn pending_bytes(&self) -> usize {
        let ready = self.ready.borrow();
        ready.bytes.len() - ready.sent + ready.held
    }

    pub(super) fn expect(&self, replies: usize) {
        self.outstanding.set(self.outstanding.get() + replies);
    }

    /// `replies` expected replies have come to their end (or never will).
    pub(super) fn settle(&self, replies: usize) {
        let left = self.outstanding.get().saturating_sub(replies);
        self.outstanding.set(left);
        if left == 0 && replies > 0 {
            self.wake_waiter();
        }
    }

    /// Ends the client's connection.
    pub fn kill(&self) {
        self.dead.set(true);
        self.wake();
    }

    /// A reply of the proxy's own, behind everything that came before it.
    pub fn push(&self, bytes: &[u8]) {
        self.deliver(None, bytes, 1, false);
    }

    /// A reply that was captured and looked at, held as it would have been.
    pub fn push_captured(&self, captured: &Captured) {
        let hold = captured.hold.as_ref().map(|(source, number)| (source, *number));
        self.deliver(hold, &captured.frame, 1, false);
    }

    /// Appends bytes of replies: `replies` come to their end in them, `open` when another has begun.
    /// With a source they wait for its barrier.
    pub(super) fn deliver(
        &self,
        hold: Option<(&Rc<Source>, u64)>,
        bytes: &[u8],
        replies: usize,
        open: bool,
    ) {
        if self.dead.get() {
            return;
        }
        let mut held = self.held.borrow_mut();
        let hold = hold.filter(|(source, number)| !source.released(*number));
        let mut ready = self.ready.borrow_mut();
        match hold {
            None if held.is_empty() => ready.bytes.extend_from_slice(bytes),
            _ => {
                ready.held += bytes.len();
                let same = |last: &Held| match (&last.source, &hold) {
                    (Some((a, n)), Some((b, m))) => Rc::ptr_eq(a, b) && n == m,
                    (_, None) => true,
                    _ => false,
                };
                match held.back_mut().filter(|last| last.open || same(last)) {
                    Some(last) => {
                        last.bytes.extend_from_slice(bytes);
                        last.replies += replies;
                        last.open = open;
                    }
                    None => {
                        if let Some((source, _)) = hold {
                            source.wait(self.me.clone());
                        }
                        let source = hold.map(|(source, number)| (Rc::clone(source), number));
                        held.push_back(Held { source, replies, bytes: bytes.to_vec(), open });
                    }
                }
            }
        }
        if ready.bytes.len() - ready.sent + ready.held > self.limit {
            drop((held, ready));
            tracing::warn!(limit = self.limit, "client closed: its output buffer is full");
            self.kill();
        }
    }

    /// Lets go what may go; true when replies are still held.
    pub(super) fn release(&self) -> bool {
        let mut held = self.held.borrow_mut();
        let mut ready = self.ready.borrow_mut();
        while let Some(front) = held.front() {
            let free = match &front.source {
                None => true,
                Some((source, number)) => source.released(*number) || source.lost(),
            };
            if !free || front.open && front.source.as_ref().is_some_and(|(s, _)| !s.lost()) {
                break;
            }
            let Some(front) = held.pop_front() else { break };
            ready.held -= front.bytes.len();
            match &front.source {
                Some((source, number)) if !source.released(*number) => {
                    for _ in 0..front.replies {
                        encode_error(UNKNOWN_OUTCOME, &mut ready.bytes);
                    }
                }
                _ => ready.bytes.extend_from_slice(&front.bytes),
            }
        }
        if held.is_empty() {
            self.wake_waiter();
        }
        !held.is_empty()
    }

    /// Marks the outbox as written to; true the first time since the last flush.
    pub(super) fn touch(&self) -> bool {
        !self.touched.replace(true)
    }

    /// Writes what is ready, without waiting. A full socket leaves the rest to the session.
    pub fn flush(&self) {
        self.touched.set(false);
        if self.blocked.get() || self.dead.get() {
            return;
        }
        if self.write().is_err() {
            self.kill();
        } else if self.blocked.get() {
            self.wake();
        }
    }

    /// For the session's task: goes on writing when the socket was full.
    pub fn poll_flush(&self, cx: &mut Context<'_>) {
        while self.blocked.get() && !self.dead.get() {
            match self.writer.poll_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => self.dead.set(true),
                Poll::Ready(Ok(())) => {
                    self.blocked.set(false);
                    if self.write().is_err() {
                        self.dead.set(true);
                    }
                }
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut ready = self.ready.borrow_mut();
        while ready.sent < ready.bytes.len() {
            match self.writer.try_write(&ready.bytes[ready.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => ready.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.set(true);
                    // A slow reader must not make every write move what is already sent.
                    if ready.sent > ready.bytes.len() / 2 {
                        let sent = std::mem::take(&mut ready.sent);
                        ready.bytes.drain(..sent);
                    }
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        ready.sent = 0;
        ready.bytes.clear();
        ready.bytes.shrink_to(KEEP);
        Ok(())
    }

    fn wake_waiter(&self) {
        if self.awaited.get() {
            self.wake();
        }
    }
}
