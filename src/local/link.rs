use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::DuplexStream;

use super::peer::Peer;
use super::period::Period;
use super::session::{Flow, Session};
use super::wire::{Closed, SharedWire, Taken, Wire};

/// Buffers larger than this are given back when they are empty.
const KEEP: usize = 256 * 1024;

/// One connection's way to its session.
pub(super) struct Link {
    period: Rc<Period>,
    peer: Rc<Peer>,
    wire: SharedWire,
}

/// Serves a connection in a task of its own.
pub(super) fn serve(period: &Rc<Period>, stream: DuplexStream) {
    let wire = Wire::new(period.doorway.next_id(), stream, !period.asks());
    let wire = Arc::new(Mutex::new(wire));
    period.doorway.enter(&wire);
    adopt(period, wire);
}

/// Serves a connection that a slow script has let in.
pub(super) fn adopt(period: &Rc<Period>, wire: SharedWire) {
    let (id, wake) = {
        let wire = wire.lock();
        (wire.id, Arc::clone(&wire.wake))
    };
    let peer = Rc::new(Peer::new(id, wake));
    period.peers.borrow_mut().insert(id, Rc::clone(&peer));
    let session = Session::new(Rc::clone(period), Rc::clone(&peer));
    let link = Link { period: Rc::clone(period), peer, wire };
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
            self.catch_up(session).await?;
            let broken = {
                let mut wire = self.wire.lock();
                wire.take_commands(&self.period.limits, &mut commands).err()
            };
            session.look_ahead(&commands).await.map_err(|_| Closed)?;
            for args in commands.drain(..) {
                let flow = session.handle(args, self).await.map_err(|_| Closed)?;
                if flow == Flow::Close {
                    self.write().await?;
                    return Err(Closed);
                }
            }
            self.period.deliver();
            for wire in self.period.doorway.take_begun() {
                adopt(&self.period, wire);
            }
            if let Some(error) = broken {
                error.push_reply(&mut self.peer.out.borrow_mut());
                self.write().await?;
                return Err(Closed);
            }
            self.write().await?;
            self.wait(session).await?;
        }
    }

    /// Lets what was answered while a script was slow have its effect.
    async fn catch_up(&mut self, session: &mut Session) -> Result<(), Closed> {
        loop {
            let taken = self.wire.lock().taken.pop_front();
            match taken {
                None => return Ok(()),
                Some(Taken::Refused) => session.break_multi(),
                Some(Taken::Answered(args)) => {
                    let before = self.peer.out.borrow().len();
                    let flow = session.handle(args, self).await.map_err(|_| Closed)?;
                    self.peer.out.borrow_mut().truncate(before);
                    if flow == Flow::Close {
                        self.write().await?;
                        return Err(Closed);
                    }
                }
            }
        }
    }

    /// Waits until there is something to read, and reads it; writes what others send meanwhile.
    async fn wait(&mut self, session: &Session) -> Result<(), Closed> {
        loop {
            {
                let mut wire = self.wire.lock();
                (wire.trusted, wire.in_multi) = (session.trusted, session.multi.is_some());
                wire.protocol = self.peer.protocol.get();
                wire.idle = true;
            }
            let read = tokio::select! {
                read = self.read() => Some(read),
                () = self.peer.wake.notified() => None,
            };
            let stirred = {
                let mut wire = self.wire.lock();
                wire.idle = false;
                !wire.taken.is_empty() || wire.is_read_ahead()
            };
            if self.peer.killed.get() {
                return Err(Closed);
            }
            match read {
                Some(read) => return read,
                None if stirred => return Ok(()),
                None => self.write().await?,
            }
        }
    }

    fn read(&self) -> impl Future<Output = Result<(), Closed>> {
        let wire = Arc::clone(&self.wire);
        poll_fn(move |cx| wire.lock().poll_read(cx))
    }

    /// As [`Link::wait`] for a blocked client, until somebody says something to it: more commands are only kept.
    pub async fn idle(&mut self) -> Result<(), Closed> {
        self.write().await?;
        loop {
            tokio::select! {
                read = self.read() => read?,
                () = self.peer.wake.notified() => return Ok(()),
            }
        }
    }

    async fn write(&mut self) -> Result<(), Closed> {
        {
            let mut wire = self.wire.lock();
            let mut out = self.peer.out.borrow_mut();
            if wire.out.is_empty() {
                std::mem::swap(&mut wire.out, &mut *out);
            } else {
                wire.out.append(&mut out);
            }
            if wire.out.is_empty() {
                return Ok(());
            }
        }
        poll_fn(|cx| self.wire.lock().poll_write(cx)).await?;
        let mut wire = self.wire.lock();
        if wire.out.capacity() > KEEP {
            wire.out = Vec::new();
        }
        Ok(())
    }
}
