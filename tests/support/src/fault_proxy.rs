//! A TCP relay between Tandem and a backend, whose behaviour can be changed while it runs.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::Port;

/// What the relay does with connections and bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// Hands everything on at once.
    Clear,
    /// New connections are refused and those that were open are cut.
    Refused,
    /// Connections are accepted and nothing is handed on, until the line is another: the bytes come late.
    Silent,
    /// The backend's side is cut and nobody tells the other: what was open stays dead. New connections are
    /// accepted and nothing is handed on.
    HalfOpen,
    /// Each piece comes so much later.
    Delayed(Duration),
    /// Bytes per second in each direction.
    Throttled(u64),
    /// Pieces of so many bytes at most.
    Split(usize),
}

/// The longest wait between two looks at a relay that ends.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct State {
    line: Line,
    links: Vec<Arc<Link>>,
    over: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    backend: u16,
}

/// One connection through the relay.
#[derive(Debug)]
struct Link {
    near: TcpStream,
    far: TcpStream,
    /// The far side is gone, which the near side does not learn.
    dead: AtomicBool,
}

/// The relay. It ends when dropped, with all connections.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    port: Port,
}

impl FaultProxy {
    /// A relay to this port of 127.0.0.1, with a port of its own.
    pub fn new(backend: u16) -> FaultProxy {
        let port = Port::take();
        let state = State { line: Line::Clear, links: Vec::new(), over: false };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), backend });
        let proxy = FaultProxy { shared, port };
        proxy.listen();
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `url` with the relay's port in place of the backend's.
    pub fn url(&self, url: &str) -> String {
        url.replace(&format!(":{}/", self.shared.backend), &format!(":{}/", self.port()))
    }

    /// Changes what it does, for open connections too.
    pub fn set(&self, line: Line) {
        let mut state = self.shared.lock();
        let before = std::mem::replace(&mut state.line, line);
        match line {
            Line::Refused => state.links.drain(..).for_each(|link| link.close()),
            Line::HalfOpen => state.links.drain(..).for_each(|link| {
                link.dead.store(true, Ordering::Relaxed);
                let _ = link.far.shutdown(Shutdown::Both);
            }),
            _ => {}
        }
        drop(state);
        self.shared.changed.notify_all();
        if before == Line::Refused && line != Line::Refused {
            self.listen();
        }
    }

    /// Cuts what is open; new connections go through.
    pub fn cut(&self) {
        self.shared.lock().links.drain(..).for_each(|link| link.close());
    }

    fn listen(&self) {
        let listener = loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port())) {
                Ok(listener) => break listener,
                // The listener of before has yet to notice that it is not wanted.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(TICK),
                Err(error) => panic!("the relay cannot listen: {error}"),
            }
        };
        listener.set_nonblocking(true).unwrap_or_else(|e| panic!("the relay's port: {e}"));
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            while shared.listens() {
                match listener.accept() {
                    Ok((near, _)) => shared.welcome(near),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        state.links.drain(..).for_each(|link| link.close());
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Link {
    fn close(&self) {
        for side in [&self.near, &self.far] {
            let _ = side.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listens(&self) -> bool {
        let state = self.lock();
        !state.over && state.line != Line::Refused
    }

    fn welcome(self: &Arc<Self>, near: TcpStream) {
        let _ = near.set_nonblocking(false);
        // A backend that refuses is one that closes at once.
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.backend)) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let link = Arc::new(Link { near, far, dead: AtomicBool::new(false) });
        let mut state = self.lock();
        if matches!(state.line, Line::HalfOpen) {
            link.dead.store(true, Ordering::Relaxed);
            let _ = link.far.shutdown(Shutdown::Both);
        }
        state.links.push(Arc::clone(&link));
        drop(state);
        for outward in [true, false] {
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            std::thread::spawn(move || shared.pump(&link, outward));
        }
    }

    /// Hands on one direction until one side ends.
    fn pump(&self, link: &Link, outward: bool) {
        let (mut from, mut to) =
            if outward { (&link.near, &link.far) } else { (&link.far, &link.near) };
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if !link.dead.load(Ordering::Relaxed) && self.hand_on(&mut to, &buffer[..read]).is_err()
            {
                break;
            }
        }
        if link.dead.load(Ordering::Relaxed) && !outward {
            return;
        }
        link.close();
        self.lock().links.retain(|other| !std::ptr::eq(&**other, link));
    }

    fn hand_on(&self, to: &mut &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut state = self.lock();
            while matches!(state.line, Line::Silent) && !state.over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let line = state.line;
            drop(state);
            let most = match line {
                Line::Delayed(by) => {
                    std::thread::sleep(by);
                    bytes.len()
                }
                Line::Throttled(rate) => {
                    std::thread::sleep(Duration::from_millis(10));
                    usize::try_from(rate / 100).unwrap_or(usize::MAX).max(1)
                }
                Line::Split(most) => most.max(1),
                _ => bytes.len(),
            };
            let (piece, rest) = bytes.split_at(most.min(bytes.len()));
            to.write_all(piece)?;
            bytes = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let (mut from, mut to) = (&stream, &stream);
                    let _ = io::copy(&mut from, &mut to);
                });
            }
        });
        port
    }

    fn connect(proxy: &FaultProxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("connected");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
        stream
    }

    fn answer(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
        stream.write_all(b"hello")?;
        let mut back = [0; 5];
        stream.read_exact(&mut back)?;
        Ok(back.to_vec())
    }

    #[test]
    fn the_line_changes_under_open_connections() {
        let proxy = FaultProxy::new(echo());
        let stream = connect(&proxy);
        for line in [Line::Clear, Line::Split(1), Line::Throttled(10_000)] {
            proxy.set(line);
            assert_eq!(answer(&stream).expect("answered"), b"hello", "{line:?}");
        }
        proxy.set(Line::Silent);
        assert!(answer(&stream).is_err());
        proxy.set(Line::Clear);
        let mut late = [0; 5];
        (&stream).read_exact(&mut late).expect("late, and not lost");
        proxy.set(Line::HalfOpen);
        assert_eq!(answer(&stream).expect_err("silent").kind(), io::ErrorKind::WouldBlock);
        proxy.set(Line::Clear);
        assert_eq!(answer(&stream).expect_err("for good").kind(), io::ErrorKind::WouldBlock);
        let stream = connect(&proxy);
        assert_eq!(answer(&stream).expect("a new one goes through"), b"hello");
        proxy.set(Line::Refused);
        assert!(answer(&stream).is_err());
        std::thread::sleep(Duration::from_millis(20));
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).is_err());
        proxy.set(Line::Clear);
        assert_eq!(answer(&connect(&proxy)).expect("again"), b"hello");
    }
}
