use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use super::peer::{Keying, LABEL};

/// A client's connection with TLS; both halves share it.
#[derive(Debug)]
pub struct Secure {
    stream: TcpStream,
    tls: RefCell<ServerConnection>,
}

/// Most bytes that are encrypted ahead of a socket that does not take them.
const AHEAD: usize = 64 * 1024;

impl Secure {
    pub fn new(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Rc<Secure>> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(AHEAD));
        Ok(Rc::new(Secure { stream, tls: RefCell::new(tls) }))
    }

    /// What only both ends of this connection know, when it is established.
    pub fn keying(&self) -> Option<Keying> {
        let tls = self.tls.borrow();
        tls.export_keying_material(Keying::default(), LABEL, None).ok()
    }

    /// Reads what the client has said: the number of bytes, 0 at the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut tls = self.tls.borrow_mut();
        loop {
            match tls.reader().read(buffer) {
                Ok(read) => return Poll::Ready(Ok(read)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // Without a farewell, as clients that are closed in a hurry leave.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                Err(e) => return Poll::Ready(Err(e)),
            }
            // The handshake and what it takes to answer the client's own records.
            while tls.wants_write() {
                match tls.write_tls(&mut Socket(&self.stream)) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        match self.stream.poll_write_ready(cx) {
                            Poll::Ready(ready) => ready?,
                            Poll::Pending => break,
                        }
                    }
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
            match tls.read_tls(&mut Socket(&self.stream)) {
                Ok(_) => {
                    if let Err(error) = tls.process_new_packets() {
                        // Says to the client what is wrong, if it takes it.
                        let _ = tls.write_tls(&mut Socket(&self.stream));
                        tracing::debug!(%error, "a client does not get on with TLS");
                        return Poll::Ready(Err(io::Error::other(error)));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_read_ready(cx) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Takes as much as fits. What it has taken may still wait for the socket: see [`Secure::try_flush`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        let taken = self.tls.borrow_mut().writer().write(bytes)?;
        match self.try_flush() {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            _ => Ok(taken),
        }
    }

    /// `WouldBlock`: the socket does not take everything now.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        let mut tls = self.tls.borrow_mut();
        while tls.wants_write() {
            tls.write_tls(&mut Socket(&self.stream))?;
        }
        Ok(())
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let tls = self.tls.get_mut();
        tls.send_close_notify();
        let _ = tls.write_tls(&mut Socket(&self.stream));
    }
}

/// The socket as rustls wants it: never waiting.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
