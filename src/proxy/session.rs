use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::access::Listed;
use super::asked::Asked;
use super::pinned::Pin;
use super::reader::ClientReader;
use super::registry::ClientInfo;
use super::request::{End, Stop};
use super::worker::Worker;
use crate::resp::{RequestScanner, encode_error};
use crate::strategy::Fault;
use crate::upstream::{Conn, Key, Lost, Outbox};

/// Which of the client's commands are answered (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyMode {
    On,
    Off,
    /// The next command is not.
    Skip,
}

/// One client.
pub(super) struct Session {
    pub worker: Rc<Worker>,
    pub outbox: Rc<Outbox>,
    pub info: Arc<ClientInfo>,
    pub reader: ClientReader,
    /// Bytes of requests that are not under way yet.
    input: Vec<u8>,
    pub scanner: RequestScanner,
    /// Database, protocol and user: which lane serves the client.
    pub key: Key,
    pub home: Key,
    pub trusted: bool,
    /// Whose rights the client has; none: those of the lane's user in Redis.
    pub user: Option<Listed>,
    /// It is another proxy, which hands on what its clients ask.
    pub peer: bool,
    /// The lane that the client is bound to.
    pub lane: Option<Rc<Conn>>,
    pub pin: Option<Pin>,
    pub replies: ReplyMode,
    /// The connection that held the client's MULTI is gone, and why: EXEC has to say so.
    pub broken_multi: Option<Lost>,
    /// What came of bringing back the keys of the command that is next, which goes to the pin.
    pub placed: Option<Result<(), String>>,
    /// The client sends nothing more; what it has sent is still answered, as Redis does.
    ended: bool,
    /// It has sent something.
    greeted: bool,
    pub asked: Asked,
    /// Requests to be sent once more, ahead of what comes next.
    again: Vec<u8>,
    /// It waits for requests, and has nothing else to do.
    reading: bool,
}

/// How long a client that has connected when the process ends has for its first request.
const FIRST_REQUEST: Duration = Duration::from_millis(250);
/// Most room made ahead for a bulk that has only been announced.
const RESERVE: usize = 32 * 1024;
/// Requests are not read while Redis has this many bytes of the lane still to take.
const LANE_BACKLOG: usize = 16 * 1024 * 1024;
/// Most bytes of unread replies before authentication.
const UNAUTHENTICATED_OUTPUT: usize = 64 * 1024;
/// Buffers larger than this are given back when they are empty.
const KEEP: usize = 64 * 1024;

impl Session {
    pub fn new(
        worker: Rc<Worker>,
        outbox: Rc<Outbox>,
        reader: ClientReader,
        info: Arc<ClientInfo>,
        home: Key,
    ) -> Session {
        let (user, trusted) = worker.shared.access.stranger();
        Session {
            worker,
            outbox,
            info,
            reader,
            input: Vec::new(),
            scanner: RequestScanner::default(),
            key: home.clone(),
            home,
            trusted,
            user,
            peer: false,
            lane: None,
            pin: None,
            replies: ReplyMode::On,
            broken_multi: None,
            placed: None,
            ended: false,
            greeted: false,
            asked: Asked::default(),
            again: Vec::new(),
            reading: false,
        }
    }

    /// Serves the client until it leaves or is cut off.
    pub async fn run(mut self) {
        let end = self.serve().await;
        if let End::Finish = end {
            // Bounded by the client's own pace; a shutdown cuts it short.
            let limit = self.worker.shared.config.now().drain_timeout;
            let _ = tokio::time::timeout(limit, self.finish()).await;
        }
    }

    async fn serve(&mut self) -> End {
        let mut stop = Stop::More;
        loop {
            let next = match stop {
                Stop::More => self.read().await,
                Stop::Drain => self.drained().await.map(|()| self.process()),
                Stop::Settle => self.settled().await.map(|()| self.process()),
                Stop::Careful(batch) => self.careful(batch).await.map(|()| self.process()),
                Stop::Place(keys) => self.put_in_place(keys).await.map(|()| self.process()),
                Stop::Slow(request) => self.slow(request).await.map(|()| self.process()),
                Stop::Protocol(error) => {
                    self.worker.pool.context().meter.fault(Fault::Protocol, 1);
                    if self.drained().await.is_ok() {
                        let mut reply = Vec::new();
                        error.push_reply(&mut reply);
                        self.answer_bytes(&reply);
                    }
                    Err(End::Finish)
                }
            };
            stop = match next {
                Ok(stop) => stop,
                Err(end) => return end,
            };
        }
    }

    /// Reads requests, and sends them on their way until something needs a closer look.
    async fn read(&mut self) -> Result<Stop, End> {
        if self.ended {
            return Err(self.farewell());
        }
        while self.lane.as_ref().is_some_and(|lane| lane.unsent() > LANE_BACKLOG) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let worker = Rc::clone(&self.worker);
        // Who has only just connected may say something first.
        let grace = if self.greeted { Duration::ZERO } else { FIRST_REQUEST };
        let token = worker.shared.shutdown.clone();
        let shutdown = async {
            token.cancelled().await;
            if !grace.is_zero() {
                tokio::time::sleep(grace).await;
            }
        };
        tokio::pin!(shutdown);
        let mut looked = false;
        self.reading = true;
        let result = poll_fn(|cx| {
            self.check(cx)?;
            if !self.again.is_empty() {
                self.input = std::mem::take(&mut self.again);
                return Poll::Ready(Ok(self.process()));
            }
            // The shutdown is rare; its waker need not be renewed at each request.
            let first = !std::mem::replace(&mut looked, true);
            let ends = token.is_cancelled();
            if ends && self.greeted || (first || ends) && shutdown.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(End::Finish));
            }
            loop {
                let mut scratch = worker.scratch.borrow_mut();
                let read = match self.reader.poll_read(cx, &mut scratch) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.farewell())),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Closed)),
                    Poll::Ready(Ok(read)) => read,
                };
                worker.pace.read();
                self.greeted = true;
                self.forget_tries();
                let stop = if self.input.is_empty() {
                    let (used, stop) = self.forward(&scratch[..read]);
                    let rest = &scratch[used..read];
                    if !rest.is_empty() {
                        // A header is a promise only: room for the whole bulk comes with its bytes.
                        let room = self.scanner.awaited().min(RESERVE);
                        self.input.reserve(rest.len().max(room));
                        self.input.extend_from_slice(rest);
                    }
                    stop
                } else {
                    self.input.extend_from_slice(&scratch[..read]);
                    drop(scratch);
                    self.process()
                };
                if self.input.len() > self.worker.shared.config.limits.query_buffer {
                    tracing::warn!(
                        client = self.info.id,
                        "client closed: its query buffer is full"
                    );
                    return Poll::Ready(Err(End::Closed));
                }
                if !matches!(stop, Stop::More) {
                    return Poll::Ready(Ok(stop));
                }
            }
        })
        .await;
        self.reading = false;
        result
    }

    /// What a wake-up may be about besides requests. An error ends the session.
    fn check(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        self.outbox.register(cx.waker());
        self.info.waker.register(cx.waker());
        self.outbox.poll_flush(cx);
        if self.outbox.is_dead() || self.info.is_killed() {
            return Err(End::Closed);
        }
        // Handed on once more, commands might go in a circle.
        if self.peer && !self.worker.shared.status.admits_others() {
            return Err(End::Closed);
        }
        if self.info.take_pin_request() {
            self.keep_pin();
        }
        let lost = self.outbox.take_lost();
        if lost > 0 {
            let free = self.reading && self.input.is_empty();
            match free.then(|| self.take_asked(lost)).flatten() {
                Some(again) => self.again = again,
                None => self.give_up_asked(lost),
            }
        }
        Ok(())
    }

    /// Keeps a connection that hands on what Redis pushes: with RESP3 the invalidations of a
    /// redirection come without any subscription. The asker repeats itself until there is one.
    fn keep_pin(&mut self) {
        if self.pin.is_none() && self.outbox.outstanding() > 0 {
            return;
        }
        let outbox = Rc::clone(&self.outbox);
        // Without Redis there is nothing to redirect to; the asker finds that out.
        let Ok(pin) = self.take_pin() else { return };
        pin.sticky = true;
        pin.conn.watch(&outbox);
        if pin.conn.is_ready() {
            let id = pin.conn.facts().id;
            self.info.push_id.store(id, Ordering::Release);
        }
    }

    /// Sends on what `input` holds.
    pub fn process(&mut self) -> Stop {
        if self.input.is_empty() {
            return Stop::More;
        }
        let mut input = std::mem::take(&mut self.input);
        let (used, stop) = self.forward(&input);
        if used == input.len() && input.capacity() > KEEP {
            input = Vec::new();
        } else {
            input.drain(..used);
        }
        self.input = input;
        stop
    }

    /// The request is looked at once more, ahead of everything that has come since.
    pub fn put_back(&mut self, frame: &[u8]) {
        // It may have begun with the request behind.
        self.scanner = RequestScanner::default();
        self.input.splice(0..0, frame.iter().copied());
    }

    /// Waits until Redis owes this client nothing. Goes on watching for the client's leaving.
    pub async fn drained(&mut self) -> Result<(), End> {
        self.outbox.set_awaited(true);
        let worker = Rc::clone(&self.worker);
        let limit = worker.shared.config.limits.query_buffer;
        let result = poll_fn(|cx| {
            self.check(cx)?;
            if self.outbox.outstanding() == 0 {
                return Poll::Ready(Ok(()));
            }
            while self.input.len() < limit && !self.ended {
                let mut scratch = worker.scratch.borrow_mut();
                match self.reader.poll_read(cx, &mut scratch) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(0)) => self.ended = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Closed)),
                    Poll::Ready(Ok(read)) => self.input.extend_from_slice(&scratch[..read]),
                }
            }
            match self.ended && self.blocks() {
                true => Poll::Ready(Err(End::Closed)),
                false => Poll::Pending,
            }
        })
        .await;
        self.outbox.set_awaited(false);
        result
    }

    /// True while the next command has to wait until it is decided who answers. A transaction that has begun goes on.
    pub fn has_to_settle(&self) -> bool {
        self.worker.shared.connector.is_held()
            && !self.pin.as_ref().is_some_and(|pin| pin.multi.is_some() && pin.conn.usable())
    }

    /// Waits until it is decided who answers.
    async fn settled(&mut self) -> Result<(), End> {
        self.drained().await?;
        let worker = Rc::clone(&self.worker);
        let Some(route) = worker.shared.connector.route() else { return Ok(()) };
        let mut settled = std::pin::pin!(route.settled());
        poll_fn(|cx| {
            self.check(cx)?;
            settled.as_mut().poll(cx).map(|_| Ok(()))
        })
        .await
    }

    /// True while a command of the client may be waiting in Redis for something to happen.
    fn blocks(&self) -> bool {
        self.outbox.outstanding() > 0 && self.pin.as_ref().is_some_and(|pin| pin.may_block)
    }

    /// How the session of a client that sends nothing more ends. Redis drops a blocked client at once:
    /// it must not take an element with it.
    fn farewell(&self) -> End {
        if self.blocks() { End::Closed } else { End::Finish }
    }

    /// Waits until everything that was asked is answered and written.
    async fn finish(&mut self) {
        self.outbox.set_awaited(true);
        self.outbox.flush();
        poll_fn(|cx| {
            if self.check(cx).is_err() {
                return Poll::Ready(());
            }
            match self.outbox.outstanding() == 0 && self.outbox.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// An error for each of `count` commands that cannot be sent.
    pub fn refuse(&mut self, lost: &Lost, count: usize) {
        self.worker.pool.context().meter.fault(lost.fault(), count as u64);
        for _ in 0..count {
            self.answer_error(&lost.to_string());
        }
    }

    pub fn answer_error(&mut self, text: &str) {
        let mut bytes = Vec::new();
        encode_error(text, &mut bytes);
        self.answer_bytes(&bytes);
    }

    /// A reply of the proxy's own, unless the client wants none.
    pub fn answer_bytes(&mut self, bytes: &[u8]) {
        match self.replies {
            ReplyMode::On => {
                self.outbox.push(bytes);
                self.outbox.flush();
                if !self.trusted && self.outbox.pending_bytes() > UNAUTHENTICATED_OUTPUT {
                    tracing::warn!(
                        client = self.info.id,
                        "client closed: it has not logged in and reads no replies"
                    );
                    self.outbox.kill();
                }
            }
            ReplyMode::Off => {}
            ReplyMode::Skip => self.replies = ReplyMode::On,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.outbox.kill();
        // What Redis keeps for the client goes with the connection; a clean one serves the next.
        match self.outbox.outstanding() == 0 && self.pin.as_ref().is_some_and(|pin| !pin.holds()) {
            true => self.give_back(),
            false => self.drop_pin(),
        }
    }
}
