//! The bytes of one connection. Its own task reads and writes them; while a slow script holds the thread,
//! [`super::busy`] does.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWrite, DuplexStream};
use tokio::sync::Notify;

use crate::resp::{Protocol, ProtocolError, RequestLimits, RequestScanner, Scan};

/// Read at once, in bytes.
const READ: usize = 64 * 1024;

/// Why a connection ends.
#[derive(Debug)]
pub(super) struct Closed;

/// What was dealt with while a script was slow, and has yet to have its effect.
#[derive(Debug)]
pub(super) enum Taken {
    /// The command was answered; it is run without a reply.
    Answered(Vec<Bytes>),
    /// A command was refused, which breaks a transaction.
    Refused,
}

pub(super) struct Wire {
    pub id: u64,
    stream: DuplexStream,
    input: Vec<u8>,
    scanner: RequestScanner,
    /// Replies that are not written yet.
    pub out: Vec<u8>,
    /// The task waits for commands, and owes no reply to any.
    pub idle: bool,
    /// What the session was when it became idle.
    pub trusted: bool,
    pub in_multi: bool,
    pub protocol: Protocol,
    pub taken: VecDeque<Taken>,
    /// Something was read by somebody else than the task.
    read_ahead: bool,
    /// There is something to do besides reading.
    pub wake: Arc<Notify>,
}

pub(super) type SharedWire = Arc<Mutex<Wire>>;

impl Wire {
    pub fn new(id: u64, stream: DuplexStream, trusted: bool) -> Wire {
        Wire {
            id,
            stream,
            input: Vec::new(),
            scanner: RequestScanner::default(),
            out: Vec::new(),
            idle: true,
            trusted,
            in_multi: false,
            protocol: Protocol::Resp2,
            taken: VecDeque::new(),
            read_ahead: false,
            wake: Arc::new(Notify::new()),
        }
    }

    /// True once after something was read ahead of the task.
    pub fn is_read_ahead(&mut self) -> bool {
        std::mem::take(&mut self.read_ahead)
    }

    /// Reads ahead of the task, which is woken to look at what that has left.
    pub fn read_ahead(&mut self, cx: &mut Context<'_>) -> bool {
        let read = matches!(self.poll_read(cx), Poll::Ready(Ok(())));
        self.read_ahead |= read;
        self.wake.notify_one();
        read
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.input.reserve(READ.min(self.scanner.awaited().max(4096)));
        let read = pin!(self.stream.read_buf(&mut self.input));
        read.poll(cx).map(|read| match read {
            Ok(1..) => Ok(()),
            _ => Err(Closed),
        })
    }

    /// Writes all of `out`.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut written = 0;
        let done = loop {
            if written == self.out.len() {
                break Poll::Ready(Ok(()));
            }
            match pin!(&mut self.stream).poll_write(cx, &self.out[written..]) {
                Poll::Ready(Ok(count)) if count > 0 => written += count,
                Poll::Ready(_) => break Poll::Ready(Err(Closed)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.out.drain(..written);
        done
    }

    /// The whole commands that have come; an error when what follows is none.
    pub fn take_commands(
        &mut self,
        limits: &RequestLimits,
        commands: &mut Vec<Vec<Bytes>>,
    ) -> Result<(), ProtocolError> {
        let mut at = 0;
        let result = loop {
            if at == self.input.len() {
                break Ok(());
            }
            match self.scanner.scan(&self.input[at..], limits, true) {
                Ok(Scan::Incomplete) => break Ok(()),
                Ok(Scan::Nothing(length)) => at += length,
                Ok(Scan::Inline(length, words)) => {
                    at += length;
                    commands.push(words.into_iter().map(Bytes::from).collect());
                }
                Ok(Scan::Command(length)) => {
                    // What stays in memory must not hold on to everything that was read with it.
                    let frame = Bytes::copy_from_slice(&self.input[at..at + length]);
                    let argument =
                        |&(from, to): &(u32, u32)| frame.slice(from as usize..to as usize);
                    commands.push(self.scanner.arguments().iter().map(argument).collect());
                    at += length;
                }
                Err(error) => break Err(error),
            }
        };
        self.input.drain(..at);
        result
    }
}
