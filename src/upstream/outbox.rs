use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::net::{tcp, unix};

use super::Captured;
use super::barrier::{Fate, Hold};
use super::chunks::Chunks;
use super::lost::{NOT_CONFIRMED, UNKNOWN_OUTCOME};
use super::secure::Secure;
use crate::resp::encode_error;

/// The writing half of a client's connection.
#[derive(Debug)]
pub enum ClientWriter {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    Tls(Rc<Secure>),
}

impl ClientWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ClientWriter::Tcp(half) => half.try_write(bytes),
            ClientWriter::Unix(half) => half.try_write(bytes),
            ClientWriter::Tls(secure) => secure.try_write(bytes),
        }
    }

    /// `WouldBlock`: what was written has not all reached the socket.
    fn try_flush(&self) -> io::Result<()> {
        match self {
            ClientWriter::Tcp(_) | ClientWriter::Unix(_) => Ok(()),
            ClientWriter::Tls(secure) => secure.try_flush(),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ClientWriter::Tcp(half) => half.as_ref().poll_write_ready(cx),
            ClientWriter::Unix(half) => half.as_ref().poll_write_ready(cx),
            ClientWriter::Tls(secure) => secure.poll_write_ready(cx),
        }
    }
}

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
    /// Everything that is outstanding only reads, and the session keeps it.
    only_reads: Cell<bool>,
    /// Outstanding replies that will not come; the session decides what becomes of them.
    lost: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    limit: usize,
}

#[derive(Default)]
struct Ready {
    bytes: Chunks,
    /// Bytes in `Outbox::held`.
    held: usize,
    /// A reply has begun in `bytes`: the rest of it belongs there too.
    open: bool,
}

/// Replies that wait for a barrier, and those behind them that only have to keep their place.
struct Held {
    hold: Hold,
    /// Complete replies in `bytes`.
    replies: usize,
    bytes: Chunks,
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
            only_reads: Cell::new(false),
            lost: Cell::new(0),
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
        let written = !self.blocked.get() && self.ready.borrow().bytes.is_empty();
        written && self.held.borrow().is_empty()
    }

    /// Bytes that wait for the client.
    pub fn pending_bytes(&self) -> usize {
        let ready = self.ready.borrow();
        ready.bytes.len() + ready.held
    }

    pub(super) fn expect(&self, replies: usize) {
        self.outstanding.set(self.outstanding.get() + replies);
    }

    /// `replies` expected replies have come to their end (or never will).
    pub fn settle(&self, replies: usize) {
        let left = self.outstanding.get().saturating_sub(replies);
        self.outstanding.set(left);
        if left == 0 && replies > 0 {
            self.wake_waiter();
        }
    }

    /// Says whether the session could ask for all that is outstanding again.
    pub fn set_only_reads(&self, only: bool) {
        self.only_reads.set(only);
    }

    /// The next outstanding replies will not come; false: nobody can ask for them again.
    pub(super) fn lose(&self, replies: usize) -> bool {
        if self.only_reads.get() {
            self.lost.set(self.lost.get() + replies);
            self.wake();
        }
        self.only_reads.get()
    }

    /// How many of the outstanding replies have been lost since this was asked; they are outstanding until
    /// [`Outbox::settle`].
    pub fn take_lost(&self) -> usize {
        self.lost.take()
    }

    /// Ends the client's connection. What it has not read is given back at once.
    pub fn kill(&self) {
        self.dead.set(true);
        if let (Ok(mut ready), Ok(mut held)) =
            (self.ready.try_borrow_mut(), self.held.try_borrow_mut())
        {
            *ready = Ready::default();
            held.clear();
        }
        self.wake();
    }

    /// A reply of the proxy's own, behind everything that came before it.
    pub fn push(&self, bytes: &[u8]) {
        self.deliver(None, bytes, 1, false);
    }

    /// A reply that was captured and looked at, held as it would have been.
    pub fn push_captured(&self, captured: &Captured) {
        self.deliver(captured.hold.clone(), &captured.frame, 1, false);
    }

    /// Appends bytes of replies: `replies` come to their end in them, `open` when another has begun;
    /// the rest of that one comes alone. With a hold they wait for its barrier.
    pub(super) fn deliver(&self, hold: Option<Hold>, bytes: &[u8], replies: usize, open: bool) {
        if self.dead.get() {
            return;
        }
        let mut held = self.held.borrow_mut();
        let mut ready = self.ready.borrow_mut();
        let fate = hold.as_ref().map(|(source, ticket)| source.fate(*ticket));
        let hold = hold.filter(|_| !ready.open && fate != Some(Fate::Acknowledged));
        // Nobody else looks again at what is decided.
        let decided = fate.is_some_and(|fate| fate != Fate::Waits);
        let same = |last: &Held, (source, ticket): &Hold| {
            Rc::ptr_eq(&last.hold.0, source) && last.hold.1 == *ticket
        };
        match (held.back_mut(), hold) {
            (None, None) => {
                ready.bytes.push(bytes);
                ready.open = open;
            }
            (Some(last), hold) if last.open || hold.as_ref().is_none_or(|h| same(last, h)) => {
                last.bytes.push(bytes);
                last.replies += replies;
                last.open = open;
                ready.held += bytes.len();
            }
            (_, hold) => {
                if let Some(hold) = hold {
                    hold.0.wait(self.me.clone());
                    ready.held += bytes.len();
                    let bytes = Chunks::from(bytes);
                    held.push_back(Held { hold, replies, bytes, open });
                }
            }
        }
        let full = ready.bytes.len() + ready.held > self.limit;
        drop((held, ready));
        if decided {
            self.release();
        }
        if full {
            tracing::warn!(limit = self.limit, "client closed: its output buffer is full");
            self.kill();
        }
    }

    /// Lets go what may go; true when replies are still held.
    pub(super) fn release(&self) -> bool {
        let mut held = self.held.borrow_mut();
        let mut ready = self.ready.borrow_mut();
        while let Some(Held { hold: (source, ticket), .. }) = held.front() {
            let error = match source.fate(*ticket) {
                Fate::Waits => break,
                Fate::Acknowledged => None,
                Fate::NotConfirmed => Some(NOT_CONFIRMED),
                Fate::Unknown => Some(UNKNOWN_OUTCOME),
            };
            let Some(front) = held.pop_front() else { break };
            ready.held -= front.bytes.len();
            let Some(error) = error else {
                ready.bytes.append(front.bytes);
                ready.open = front.open;
                continue;
            };
            if front.open {
                // Half a reply cannot be made an error of.
                self.dead.set(true);
                self.wake();
                return false;
            }
            for _ in 0..front.replies {
                ready.bytes.push_with(|bytes| encode_error(error, bytes));
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
        while !ready.bytes.is_empty() {
            match self.writer.try_write(ready.bytes.front()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => ready.bytes.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.set(true);
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        match self.writer.try_flush() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.blocked.set(true);
                Ok(())
            }
            result => result,
        }
    }

    fn wake_waiter(&self) {
        if self.awaited.get() {
            self.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{Barrier, CommitGate};
    use crate::upstream::Source;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    /// The barrier of a write is committed between two pieces of the reply behind it.
    #[tokio::test(flavor = "local")]
    async fn a_long_reply_goes_on_when_what_it_waited_behind_is_released() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("connected");
        let (_, writer) = listener.accept().await.expect("accepted").0.into_split();
        let gate = CommitGate::new("test");
        gate.close();
        let (source, outbox) = (Source::new(&gate), Outbox::new(ClientWriter::Tcp(writer), 1000));
        let ticket = source.ticket().expect("the gate is closed");
        source.issue(&mut Vec::new());
        outbox.deliver(Some((Rc::clone(&source), ticket)), b"+OK\r\n", 1, false);
        outbox.deliver(None, b"$6\r\nabc", 0, true);
        assert_eq!(outbox.pending_bytes(), 12);
        gate.commit(&[Barrier { source: 1, number: 1 }]);
        let mut read = [0; 20];
        client.read_exact(&mut read[..12]).await.expect("released");
        outbox.deliver(None, b"def\r\n", 1, false);
        outbox.flush();
        client.read_exact(&mut read[12..17]).await.expect("the rest");
        assert_eq!(&read[..17], b"+OK\r\n$6\r\nabcdef\r\n");
        assert!(outbox.is_empty());
    }
}
