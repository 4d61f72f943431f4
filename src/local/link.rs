use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use super::peer::Peer;
use super::period::Period;
use super::session::{Flow, Session};
use crate::resp::{RequestScanner, Scan};

/// Read at once, in bytes.
const READ: usize = 64 * 1024;
/// Buffers larger than this are given back when they are empty.
const KEEP: usize = 256 * 1024;

/// The bytes of one connection.
pub(super) struct Link {
    period: Rc<Period>,
    peer: Rc<Peer>,
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    input: Vec<u8>,
    scanner: RequestScanner,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) struct Closed;

/// Serves a connection in a task of its own.
pub(super) fn serve(period: &Rc<Period>, stream: DuplexStream) {
    let id = period.last_peer.get() + 1;
    period.last_peer.set(id);
    let peer = Rc::new(Peer::new(id));
    period.peers.borrow_mut().insert(id, Rc::clone(&peer));
    let (reader, writer) = tokio::io::split(stream);
    let link = Link {
        period: Rc::clone(period),
        peer: Rc::clone(&peer),
        reader,
        writer,
        input: Vec::new(),
        scanner: RequestScanner::default(),
    };
    let session = Session::new(Rc::clone(period), peer);
    tokio::task::spawn_local(link.run(session));
}

impl Link {
    async fn run(mut self, mut session: Session) {
        let over = self.period.over.clone();
        tokio::select! {
            _ = self.talk(&mut session) => {}
            () = over.cancelled() => {}
        }
        session.leave();
        self.period.peers.borrow_mut().remove(&self.peer.id);
    }

    async fn talk(&mut self, session: &mut Session) -> Result<(), Closed> {
        let mut commands = Vec::new();
        loop {
            let broken = self.take_commands(&mut commands);
            session.look_ahead(&commands).await.map_err(|_| Closed)?;
            for args in commands.drain(..) {
                let flow = session.handle(args, self).await.map_err(|_| Closed)?;
                if flow == Flow::Close {
                    self.write().await?;
                    return Err(Closed);
                }
            }
            self.period.deliver();
            self.write().await?;
            if broken {
                return Err(Closed);
            }
            self.wait().await?;
        }
    }

    /// The whole commands that have come; true when what follows is none.
    fn take_commands(&mut self, commands: &mut Vec<Vec<Bytes>>) -> bool {
        if self.input.is_empty() {
            return false;
        }
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        let broken = loop {
            match self.scanner.scan(&input[at..], &self.period.limits, true) {
                Ok(Scan::Incomplete) => break false,
                Ok(Scan::Nothing(length)) => at += length,
                Ok(Scan::Inline(length, words)) => {
                    at += length;
                    commands.push(words.into_iter().map(Bytes::from).collect());
                }
                Ok(Scan::Command(length)) => {
                    // What stays in memory must not hold on to everything that was read with it.
                    let frame = Bytes::copy_from_slice(&input[at..at + length]);
                    let argument =
                        |&(from, to): &(u32, u32)| frame.slice(from as usize..to as usize);
                    commands.push(self.scanner.arguments().iter().map(argument).collect());
                    at += length;
                }
                Err(error) => {
                    error.push_reply(&mut self.peer.out.borrow_mut());
                    break true;
                }
            }
        };
        input.drain(..at);
        self.input = input;
        broken
    }

    /// Waits until there is something to read, and reads it; writes what others send meanwhile.
    async fn wait(&mut self) -> Result<(), Closed> {
        loop {
            self.input.reserve(READ.min(self.scanner.awaited().max(4096)));
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => {
                    return match read {
                        Ok(1..) => Ok(()),
                        _ => Err(Closed),
                    };
                }
                () = self.peer.wake.notified() => {}
            }
            if self.peer.killed.get() {
                return Err(Closed);
            }
            self.write().await?;
        }
    }

    /// As [`Link::wait`] for a blocked client, until somebody says something to it: more commands are only kept.
    pub async fn idle(&mut self) -> Result<(), Closed> {
        self.write().await?;
        loop {
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => match read {
                    Ok(1..) => {}
                    _ => return Err(Closed),
                },
                () = self.peer.wake.notified() => return Ok(()),
            }
        }
    }

    async fn write(&mut self) -> Result<(), Closed> {
        let mut bytes = self.peer.out.take();
        if !bytes.is_empty() {
            self.writer.write_all(&bytes).await.map_err(|_| Closed)?;
            bytes.clear();
            let mut out = self.peer.out.borrow_mut();
            if out.is_empty() && bytes.capacity() <= KEEP {
                *out = bytes;
            }
        }
        Ok(())
    }
}
