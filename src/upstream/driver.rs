use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Conn, Context, Lost, OpenError, Stream, handshake};

/// The buffer for commands is given back when it has grown beyond this and is empty.
const KEEP: usize = 256 * 1024;

/// Opens `conn` and keeps it going until it is closed or lost. The error is why it never opened.
pub(super) async fn run(conn: Rc<Conn>, context: Rc<Context>) -> Result<(), OpenError> {
    let (mut stream, facts) = match handshake::open(&context.connector, conn.key()).await {
        Ok(opened) => opened,
        Err(error) => {
            let lost = match &error {
                OpenError::Database { reply } | OpenError::Refused { reply } => {
                    Lost::Refused(reply.clone())
                }
                error => Lost::Unreachable(error.to_string()),
            };
            conn.set_lost(lost);
            return Err(error);
        }
    };
    context.learn(&facts);
    conn.set_ready(facts);
    let mut sent = 0;
    let end = poll_fn(|cx| poll(&conn, &context, &mut stream, &mut sent, cx)).await;
    if let Err(error) = end
        && !conn.end_is_expected()
    {
        tracing::warn!(%error, redis = context.connector.address(), "connection to Redis lost");
    }
    conn.set_lost(Lost::Unknown);
    Ok(())
}

/// One turn: a write of everything that clients have handed in, and reads of what has come.
fn poll(
    conn: &Conn,
    context: &Context,
    stream: &mut Stream,
    sent: &mut usize,
    cx: &mut Task<'_>,
) -> Poll<io::Result<()>> {
    conn.register(cx.waker());
    loop {
        if conn.is_shut() {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(Err(error)) = poll_write(conn, stream, sent, cx) {
            return Poll::Ready(Err(error));
        }
        let mut buffer = context.read_buffer.borrow_mut();
        let mut filled = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut filled))?;
        if filled.filled().is_empty() {
            return Poll::Ready(Err(io::Error::other("Redis closed the connection")));
        }
        conn.progress.set(Instant::now());
        conn.take(filled.filled()).map_err(io::Error::other)?;
    }
}

fn poll_write(
    conn: &Conn,
    stream: &mut Stream,
    sent: &mut usize,
    cx: &mut Task<'_>,
) -> Poll<io::Result<()>> {
    conn.issue_barrier();
    let mut out = conn.out.borrow_mut();
    if out.is_empty() {
        return Poll::Ready(Ok(()));
    }
    while *sent < out.len() {
        *sent += ready!(Pin::new(&mut *stream).poll_write(cx, &out[*sent..]))?;
    }
    *sent = 0;
    out.clear();
    out.shrink_to(KEEP);
    Pin::new(stream).poll_flush(cx)
}
