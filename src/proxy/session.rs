use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::pinned::{Pin, Transaction};
use super::reader::ClientReader;
use super::registry::ClientInfo;
use super::request::{End, Request, Stop};
use super::worker::Worker;
use crate::commands::{self, Class, Command};
use crate::resp::{RequestScanner, Scan, encode_error, push_command};
use crate::upstream::{Confirmation, Conn, Key, Lost, Outbox, Target};

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
    reader: ClientReader,
    /// Bytes of requests that are not under way yet.
    input: Vec<u8>,
    scanner: RequestScanner,
    /// Database, protocol and user: which lane serves the client.
    pub key: Key,
    pub home: Key,
    pub trusted: bool,
    lane: Option<Rc<Conn>>,
    pub pin: Option<Pin>,
    pub replies: ReplyMode,
    /// The connection that held the client's MULTI is gone: EXEC has to say so.
    pub broken_multi: bool,
    /// The client sends nothing more; what it has sent is still answered, as Redis does.
    ended: bool,
}

/// Where a command goes.
enum Route {
    Lane,
    Pin,
    Slow,
}

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
        let trusted = !worker.shared.access.asks();
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
            lane: None,
            pin: None,
            replies: ReplyMode::On,
            broken_multi: false,
            ended: false,
        }
    }

    /// Serves the client until it leaves or is cut off.
    pub async fn run(mut self) {
        let end = self.serve().await;
        if let End::Finish = end {
            // Bounded by the client's own pace; a shutdown cuts it short.
            let _ = tokio::time::timeout(Duration::from_secs(5), self.finish()).await;
        }
    }

    async fn serve(&mut self) -> End {
        let mut stop = Stop::More;
        loop {
            let next = match stop {
                Stop::More => self.read().await,
                Stop::Drain => self.drained().await.map(|()| self.process()),
                Stop::Slow(request) => self.slow(request).await.map(|()| self.process()),
                Stop::Protocol(error) => {
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
        let shutdown = worker.shared.shutdown.cancelled();
        tokio::pin!(shutdown);
        let mut looked = false;
        poll_fn(|cx| {
            self.check(cx)?;
            // The shutdown is rare; its waker need not be renewed at each request.
            if !std::mem::replace(&mut looked, true) && shutdown.as_mut().poll(cx).is_ready() {
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
        .await
    }

    /// What a wake-up may be about besides requests. An error ends the session.
    fn check(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        self.outbox.register(cx.waker());
        self.info.waker.register(cx.waker());
        self.outbox.poll_flush(cx);
        if self.outbox.is_dead() || self.info.is_killed() {
            return Err(End::Closed);
        }
        if self.info.take_pin_request() {
            self.keep_pin();
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

    /// The quick path: hands whole requests to the lane in runs, as they are. Returns how many bytes
    /// are dealt with, and why it stopped.
    fn forward(&mut self, data: &[u8]) -> (usize, Stop) {
        let shared = Arc::clone(&self.worker.shared);
        let mut run = Run::default();
        let mut at = 0;
        let mut total = 0;
        let mut name = "";
        let stop = loop {
            let rest = &data[at..];
            match self.scanner.scan(rest, &shared.limits, self.trusted) {
                Err(error) => break Stop::Protocol(error),
                Ok(Scan::Incomplete) => break Stop::More,
                Ok(Scan::Nothing(length)) => {
                    self.send_run(&mut run, data);
                    at += length;
                }
                Ok(Scan::Inline(length, words)) => {
                    self.send_run(&mut run, data);
                    let mut frame = Vec::new();
                    push_command(&words, &mut frame);
                    let (used, stop) = self.forward(&frame);
                    at += if used > 0 || !matches!(stop, Stop::Drain) { length } else { 0 };
                    if !matches!(stop, Stop::More) {
                        break stop;
                    }
                }
                Ok(Scan::Command(length)) => {
                    let frame = &rest[..length];
                    let arguments = self.scanner.take_arguments();
                    let (from, to) = arguments[0];
                    let command = commands::lookup(&frame[from as usize..to as usize]);
                    let route = self.route(command, frame, &arguments);
                    let stop = match route {
                        Route::Lane => {
                            let writes = command.is_some_and(|command| command.writes);
                            let alone = self.replies != ReplyMode::On;
                            if alone || writes && !run.writes && shared.gate.holding() {
                                self.send_run(&mut run, data);
                            }
                            if run.count == 0 {
                                run.from = at;
                            }
                            run.to = at + length;
                            run.count += 1;
                            run.writes |= writes;
                            run.script |= command.is_some_and(|command| command.is_script());
                            if alone {
                                self.send_run(&mut run, data);
                            }
                            None
                        }
                        Route::Pin => {
                            self.send_run(&mut run, data);
                            // Requests ahead of it may just have been handed to a lane.
                            if self.pin.is_none() && self.outbox.outstanding() > 0 {
                                Some(Stop::Drain)
                            } else {
                                self.send_pinned(command, frame, &arguments);
                                None
                            }
                        }
                        Route::Slow => {
                            self.send_run(&mut run, data);
                            Some(Stop::Slow(Request::new(command, frame, &arguments)))
                        }
                    };
                    self.scanner.recycle(arguments);
                    if let Some(Stop::Drain) = stop {
                        break Stop::Drain;
                    }
                    at += length;
                    total += 1;
                    name = command.map_or(name, |command| command.name);
                    if let Some(stop) = stop {
                        break stop;
                    }
                }
            }
        };
        self.send_run(&mut run, data);
        if total > 0 {
            shared.status.commands_total.fetch_add(total, Ordering::Relaxed);
            self.info.touch(name);
        }
        (at, stop)
    }

    /// Decides without side effects, except that a pin that holds nothing is given back.
    fn route(
        &mut self,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) -> Route {
        if !self.trusted || self.broken_multi {
            return Route::Slow;
        }
        let class = command.map_or(Class::Unknown, |command| command.class);
        if let Some(pin) = &self.pin {
            if !pin.conn.usable() {
                return Route::Slow;
            }
            let leaving = command.is_some_and(|c| c.name == "quit" || c.name == "reset");
            if pin.multi.is_some() && !leaving {
                let selects = pin.multi.as_ref().is_some_and(|multi| !multi.selects.is_empty());
                let slow = class == Class::Exec && selects;
                return if slow { Route::Slow } else { Route::Pin };
            }
            if matches!(class, Class::Own | Class::Unknown | Class::Replication) {
                return Route::Slow;
            }
            if pin.holds() || self.outbox.outstanding() > 0 {
                return Route::Pin;
            }
            self.give_back();
        }
        match class {
            Class::Plain | Class::Exec | Class::Discard | Class::Unwatch => self.shared_route(),
            Class::BlockingOption => {
                let blocks = arguments.iter().skip(1).any(|&(from, to)| {
                    frame[from as usize..to as usize].eq_ignore_ascii_case(b"block")
                });
                if blocks { self.own_route() } else { self.shared_route() }
            }
            Class::Own | Class::Unknown | Class::Replication => Route::Slow,
            _ => self.own_route(),
        }
    }

    /// While a CLIENT PAUSE is in force, a waiting client must not hold up the others of its lane.
    fn shared_route(&self) -> Route {
        if self.worker.shared.paused() { self.own_route() } else { Route::Lane }
    }

    fn own_route(&self) -> Route {
        Route::Pin
    }

    fn send_run(&mut self, run: &mut Run, data: &[u8]) {
        if run.count == 0 {
            return;
        }
        let run = std::mem::take(run);
        let target = self.target();
        match self.current_lane() {
            Ok(lane) => {
                lane.submit(&data[run.from..run.to], run.count, run.writes, target);
                if run.script {
                    self.worker.pool.stand_by(&self.key);
                }
            }
            Err(lost) => self.refuse(&lost, run.count),
        }
    }

    /// The lane that the client is bound to. It changes only when nothing is outstanding.
    pub fn current_lane(&mut self) -> Result<Rc<Conn>, Lost> {
        if let Some(lane) = &self.lane {
            let busy = self.outbox.outstanding() > 0;
            if lane.usable() && lane.key() == &self.key && (busy || !lane.stalled()) {
                return Ok(Rc::clone(lane));
            }
        }
        let lane = self.worker.pool.lane(&self.key)?;
        self.lane = Some(Rc::clone(&lane));
        Ok(lane)
    }

    fn target(&mut self) -> Target {
        match self.replies {
            ReplyMode::On => Target::Client(Rc::clone(&self.outbox)),
            mode => {
                if mode == ReplyMode::Skip {
                    self.replies = ReplyMode::On;
                }
                Target::Silent(Rc::clone(&self.outbox))
            }
        }
    }

    /// One command to the client's own connection, keeping track of what it does to the state there.
    fn send_pinned(
        &mut self,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) {
        let target = self.target();
        let outbox = Rc::clone(&self.outbox);
        let pin = match self.take_pin() {
            Ok(pin) => pin,
            Err(lost) => return self.refuse(&lost, 1),
        };
        let conn = Rc::clone(&pin.conn);
        let takes = command.is_some_and(|command| command.takes(arguments.len()));
        let class = command.map_or(Class::Unknown, |command| command.class);
        let mut writes = command.is_none_or(|command| command.writes);
        let waits = matches!(class, Class::Blocking | Class::BlockingOption) && pin.multi.is_none();
        pin.may_block = waits || pin.may_block && outbox.outstanding() > 0;
        match (&mut pin.multi, class) {
            (Some(multi), Class::Exec) if takes => {
                writes = multi.writes;
                (pin.multi, pin.watching) = (None, false);
            }
            (Some(_), Class::Discard) if takes => (pin.multi, pin.watching) = (None, false),
            (Some(multi), _) => {
                multi.note(command, frame, arguments);
                writes = false;
            }
            (None, Class::Multi) if takes => pin.multi = Some(Transaction::default()),
            (None, Class::Exec | Class::Discard) => {}
            (None, Class::Watch) if takes => pin.watching = true,
            (None, Class::Unwatch) if takes => pin.watching = false,
            (None, Class::Monitor) => {
                pin.monitor = true;
                conn.monitor(&outbox);
            }
            (None, Class::Subscribe | Class::Unsubscribe) => {
                if let Some(command) = command.filter(|_| takes) {
                    let expected = Confirmation::expected(command.name, arguments.len() - 1);
                    conn.subscribe(frame, expected, &outbox);
                    return;
                }
            }
            _ => {}
        }
        if matches!(class, Class::Subscribe | Class::Unsubscribe) {
            conn.watch(&outbox);
        }
        let multi = pin.multi.as_ref().map_or(-1, |multi| multi.queued as i64);
        self.info.multi.store(multi, Ordering::Relaxed);
        conn.submit(frame, 1, writes, target);
    }

    /// The client's own connection, taken from the pool if it has none.
    pub fn take_pin(&mut self) -> Result<&mut Pin, Lost> {
        if self.pin.is_none() {
            let conn = self.worker.pool.pin(&self.key)?;
            self.publish_id(&conn);
            self.pin = Some(Pin::new(conn));
        }
        self.pin.as_mut().ok_or(Lost::Unknown)
    }

    /// Lets other clients know the id that `conn` has in Redis, as soon as it has one.
    fn publish_id(&self, conn: &Rc<Conn>) {
        if conn.is_ready() {
            self.info.redis_id.store(conn.facts().id, Ordering::Relaxed);
            return;
        }
        let (conn, info) = (Rc::clone(conn), Arc::clone(&self.info));
        tokio::task::spawn_local(async move {
            if conn.opened().await.is_ok() && conn.usable() {
                info.redis_id.store(conn.facts().id, Ordering::Relaxed);
            }
        });
    }

    /// Gives the client's own connection back, clean as it is.
    pub fn give_back(&mut self) {
        if let Some(pin) = self.pin.take() {
            self.info.redis_id.store(0, Ordering::Relaxed);
            pin.conn.unwatch();
            self.worker.pool.release(pin.conn);
        }
    }

    /// Closes the client's own connection with everything that Redis keeps there.
    pub fn drop_pin(&mut self) {
        if let Some(pin) = self.pin.take() {
            self.info.redis_id.store(0, Ordering::Relaxed);
            self.info.push_id.store(0, Ordering::Relaxed);
            self.info.multi.store(-1, Ordering::Relaxed);
            pin.conn.close();
        }
    }

    /// An error for each of `count` commands that cannot be sent.
    pub fn refuse(&mut self, lost: &Lost, count: usize) {
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

/// Consecutive requests for the lane, sent as one piece.
#[derive(Default)]
struct Run {
    from: usize,
    to: usize,
    count: usize,
    writes: bool,
    script: bool,
}
