use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Conn, Context, Lost, OpenError, ServerFacts, Stream, handshake};

/// The buffer for commands is given back when it has grown beyond this and is empty.
const KEEP: usize = 256 * 1024;

/// Opens `conn` and keeps it going until it is closed or lost. The error is why it never opened.
pub(super) async fn run(conn: Rc<Conn>, context: Rc<Context>) -> Result<(), OpenError> {
    let (stream, facts) = match open(&conn, &context).await {
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
        if let Some(route) = context.connector.route() {
            route.trouble.notify_one();
        }
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

/// Connects to whoever answers. When that changes meanwhile, or may change because there is no answer, once more:
/// nothing of the connection's commands has been sent yet.
async fn open(conn: &Conn, context: &Context) -> Result<(Stream, ServerFacts), OpenError> {
    let Some(route) = context.connector.route() else {
        return handshake::open(&context.connector, conn.key()).await;
    };
    let began = Instant::now();
    let mut turns = route.watch();
    loop {
        let before = turns.borrow_and_update().number;
        let opened = handshake::open(&context.connector, conn.key()).await;
        if route.number() != before {
            continue;
        }
        let hopeless = match &opened {
            Ok(_) | Err(OpenError::Refused { .. } | OpenError::Database { .. }) => true,
            Err(_) => !route.is_patient() || began.elapsed() > PATIENCE,
        };
        if hopeless {
            return opened;
        }
        route.trouble.notify_one();
        // Another try, or somebody else.
        let _ = tokio::time::timeout(AGAIN, turns.changed()).await;
    }
}

/// How long a connection is tried for while somebody else may come to answer.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(50);

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
