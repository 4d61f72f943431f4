use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Conn, Context, Lost, OpenError, Stream, handshake};

/// The buffer for commands is given back when it has grown beyond this and is empty.
const KEEP: usize = 256 * 1024;

/// Opens `conn` and keeps it going until it is closed or lost. The error is why it never opened.
pub(super) async fn run(conn: Rc<Conn>, context: Rc<Context>) -> Result<(), OpenError> {
    let (stream, facts) = match handshake::open(&context.connector, conn.key()).await {
        Ok(opened) => opened,
        Err(error) => {
            let lost = match &error {
                OpenError::Database { reply } | OpenError::Refused { reply } => {
                    Lost::Refused(reply.clone())
                }
                error => {
                    Lost::Unreachable { server: context.connector.server(), why: error.to_string() }
                }
            };
            conn.set_lost(lost);
            return Err(error);
        }
    };
    context.learn(&facts);
    conn.set_ready(facts);
    let mut turn = Turn::new(stream);
    let end = poll_fn(|cx| turn.poll(&conn, &context, cx)).await;
    if let Err(error) = end
        && !conn.end_is_expected()
    {
        tracing::warn!(
            %error,
            address = context.connector.address(),
            "connection to {} lost",
            context.connector.server()
        );
    }
    conn.set_lost(Lost::Unknown);
    Ok(())
}

/// Where reading and writing stand.
struct Turn {
    stream: Stream,
    /// Bytes of the connection's buffer that are written already.
    sent: usize,
    /// Written bytes may still be in a buffer of TLS.
    flushing: bool,
    /// Set while something is put off until the sockets have been looked at once more.
    later: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// When the last write ended whose answer is looked for without sleeping.
    asked: Option<Instant>,
    /// Writes to go before that is tried again: the last try was in vain.
    rest: u32,
}

/// So long a reply is looked for without sleeping, while there is hardly anything to do: to be woken
/// costs more than a Redis on the same machine takes to answer.
const LOOK: Duration = Duration::from_micros(40);
/// Writes after which it is tried again when Redis was slower than that.
const REST: u32 = 200;

impl Turn {
    fn new(stream: Stream) -> Turn {
        Turn { stream, sent: 0, flushing: false, later: None, asked: None, rest: 0 }
    }

    /// A write of everything that clients have handed in, and reads of what has come.
    fn poll(&mut self, conn: &Conn, context: &Context, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        conn.register(cx.waker());
        let mut put_off = context.pace.is_busy() && self.sent == 0;
        loop {
            if conn.is_shut() {
                return Poll::Ready(Ok(()));
            }
            let due = conn.unsent() > 0 || conn.barrier_due() || self.flushing;
            if due && !(put_off && self.put_off(cx)) {
                if let Poll::Ready(Err(error)) = self.write(conn, cx) {
                    return Poll::Ready(Err(error));
                }
                if !context.pace.is_busy() {
                    self.look();
                }
            }
            put_off = false;
            let mut buffer = context.read_buffer.borrow_mut();
            let mut filled = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut filled) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    self.look_again(cx);
                    return Poll::Pending;
                }
            }
            if filled.filled().is_empty() {
                return Poll::Ready(Err(io::Error::other("Redis closed the connection")));
            }
            self.asked = None;
            conn.progress.set(Instant::now());
            conn.take(filled.filled()).map_err(io::Error::other)?;
        }
    }

    /// True when the write has to wait: other clients' requests, which have come meanwhile, join it.
    fn put_off(&mut self, cx: &mut Task<'_>) -> bool {
        let later = self.later.get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
        let waits = later.as_mut().poll(cx).is_pending();
        if !waits {
            self.later = None;
        }
        waits
    }

    /// From now on the reply is looked for.
    fn look(&mut self) {
        match self.rest {
            0 => self.asked = Some(Instant::now()),
            _ => self.rest -= 1,
        }
    }

    /// Has the task polled again at once while the reply is looked for.
    fn look_again(&mut self, cx: &mut Task<'_>) {
        let Some(asked) = self.asked else { return };
        if asked.elapsed() > LOOK {
            (self.asked, self.later, self.rest) = (None, None, REST);
            return;
        }
        self.later = None;
        self.put_off(cx);
    }

    fn write(&mut self, conn: &Conn, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        conn.issue_barrier();
        let mut out = conn.out.borrow_mut();
        while self.sent < out.len() {
            self.sent += ready!(Pin::new(&mut self.stream).poll_write(cx, &out[self.sent..]))?;
            self.flushing = true;
        }
        if self.sent > 0 {
            conn.stopwatch.sent();
        }
        self.sent = 0;
        out.clear();
        out.shrink_to(KEEP);
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.flushing = false;
        Poll::Ready(Ok(()))
    }
}
