//! What other connections hear while a script is slow. The script holds the thread, so it answers for
//! the server from time to time, as in Redis: `SCRIPT KILL` and its kin are run, what only concerns the
//! connection is acknowledged and takes effect later, everything else is refused.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};

use super::users::Users;
use super::wire::{SharedWire, Taken, Wire};
use crate::engine::Stop;
use crate::engine::script::{Kind, Running};
use crate::resp::{Protocol, Reply, RequestLimits, encode};

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(5);

/// Connections on their way in.
pub(super) struct Incoming {
    streams: Mutex<mpsc::UnboundedReceiver<DuplexStream>>,
    /// A script may have looked in the task's stead.
    again: Notify,
}

impl Incoming {
    pub fn new(streams: mpsc::UnboundedReceiver<DuplexStream>) -> Incoming {
        Incoming { streams: Mutex::new(streams), again: Notify::new() }
    }

    pub async fn recv(&self) -> Option<DuplexStream> {
        loop {
            tokio::select! {
                stream = poll_fn(|cx| self.streams.lock().poll_recv(cx)) => return stream,
                () = self.again.notified() => {}
            }
        }
    }
}

/// Everybody who is connected, as far as a script can reach them.
pub(super) struct Doorway {
    incoming: Arc<Incoming>,
    users: Arc<Mutex<Users>>,
    limits: RequestLimits,
    wires: Mutex<Vec<Weak<Mutex<Wire>>>>,
    /// Those whom a script has let in.
    begun: Mutex<Vec<SharedWire>>,
    last_id: AtomicU64,
    /// From here on a script is slow, in ms.
    threshold: AtomicU64,
    last_round: Mutex<Option<Instant>>,
}

impl Doorway {
    pub fn new(
        incoming: Arc<Incoming>,
        users: Arc<Mutex<Users>>,
        limits: RequestLimits,
    ) -> Doorway {
        Doorway {
            incoming,
            users,
            limits,
            wires: Mutex::default(),
            begun: Mutex::default(),
            last_id: AtomicU64::new(0),
            threshold: AtomicU64::new(5000),
            last_round: Mutex::default(),
        }
    }

    pub fn set_threshold(&self, ms: u64) {
        self.threshold.store(ms, Ordering::Relaxed);
    }

    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn enter(&self, wire: &SharedWire) {
        let mut wires = self.wires.lock();
        wires.retain(|wire| wire.strong_count() > 0);
        wires.push(Arc::downgrade(wire));
    }

    /// Those whom a script has let in since the last call.
    pub fn take_begun(&self) -> Vec<SharedWire> {
        std::mem::take(&mut self.begun.lock())
    }

    /// Called now and then by the script that runs.
    pub fn look(&self, running: &Running) {
        let threshold = Duration::from_millis(self.threshold.load(Ordering::Relaxed));
        let Some(busy) = running.busy(threshold) else { return };
        let now = Instant::now();
        if self.last_round.lock().is_some_and(|last| now.duration_since(last) < PAUSE) {
            return;
        }
        *self.last_round.lock() = Some(now);
        // Beyond the share of one task: nobody else runs meanwhile.
        let mut round = pin!(tokio::task::unconstrained(poll_fn(|cx| {
            self.round(running, &busy, cx);
            Poll::Ready(())
        })));
        let _ = round.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    fn round(&self, running: &Running, busy: &Stop, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(stream)) = self.incoming.streams.lock().poll_recv(cx) {
            let trusted = !self.users.lock().ask();
            let wire = Arc::new(Mutex::new(Wire::new(self.next_id(), stream, trusted)));
            self.enter(&wire);
            self.begun.lock().push(wire);
        }
        self.incoming.again.notify_one();
        let wires: Vec<SharedWire> = self.wires.lock().iter().filter_map(Weak::upgrade).collect();
        for wire in wires {
            // Nobody else holds it: its task is on this thread.
            let Some(mut wire) = wire.try_lock() else { continue };
            if wire.idle {
                self.serve(&mut wire, running, busy, cx);
            }
        }
    }

    fn serve(&self, wire: &mut Wire, running: &Running, busy: &Stop, cx: &mut Context<'_>) {
        let mut commands = Vec::new();
        while wire.read_ahead(cx) {
            // What is no command is left to the task.
            let broken = wire.take_commands(&self.limits, &mut commands).is_err();
            for args in commands.drain(..) {
                let reply = self.answer(wire, &args, running, busy);
                encode(&reply, wire.protocol, &mut wire.out);
            }
            if broken {
                break;
            }
        }
        let _ = wire.poll_write(cx);
    }

    fn answer(&self, wire: &mut Wire, args: &[Bytes], running: &Running, busy: &Stop) -> Reply {
        let word =
            |at: usize| args.get(at).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        let (name, sub) = (word(0), word(1));
        let answer = match (&name[..], &sub[..], args.len()) {
            (b"auth", _, 2..=3) => self.auth(wire, &args[1..]),
            (b"hello", ..) => self.hello(wire, args),
            _ if !wire.trusted => Err(Stop::error("NOAUTH Authentication required.")),
            (b"script", b"kill", 2) => return replied(running.kill(Kind::Eval)),
            (b"function", b"kill", 2) => return replied(running.kill(Kind::Function)),
            (b"function", b"stats", 2) => return replied(running.function_stats()),
            (b"exec", ..) => {
                wire.in_multi = false;
                wire.taken.push_back(Taken::Answered(vec![Bytes::from_static(b"DISCARD")]));
                return Reply::error(format!(
                    "EXECABORT Transaction discarded because of: {}",
                    text(busy)
                ));
            }
            (b"multi", _, 1) if !wire.in_multi => {
                wire.in_multi = true;
                Ok(Reply::OK)
            }
            (b"discard", _, 1) if wire.in_multi => {
                wire.in_multi = false;
                Ok(Reply::OK)
            }
            (b"select", _, 2) if !wire.in_multi && is_database(&sub) => Ok(Reply::OK),
            (b"watch", ..) if args.len() > 1 && !wire.in_multi => Ok(Reply::OK),
            (b"unwatch" | b"quit", _, 1) => Ok(Reply::OK),
            _ => {
                wire.taken.push_back(Taken::Refused);
                return replied(Err(busy.clone()));
            }
        };
        if answer.is_ok() {
            wire.taken.push_back(Taken::Answered(args.to_vec()));
        }
        replied(answer)
    }

    fn auth(&self, wire: &mut Wire, words: &[Bytes]) -> Result<Reply, Stop> {
        self.users.lock().authenticate(words)?;
        wire.trusted = true;
        Ok(Reply::OK)
    }

    /// `HELLO [2|3] [AUTH user password] [SETNAME name]`.
    fn hello(&self, wire: &mut Wire, args: &[Bytes]) -> Result<Reply, Stop> {
        let protocol = match args.get(1).map(|version| &version[..]) {
            None => wire.protocol,
            Some(b"2") => Protocol::Resp2,
            Some(b"3") => Protocol::Resp3,
            Some(_) => return Err(Stop::error("NOPROTO unsupported protocol version")),
        };
        let mut rest = args.get(2..).unwrap_or_default();
        loop {
            rest = match rest {
                [] => break,
                [option, user, password, more @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                    self.auth(wire, &[user.clone(), password.clone()])?;
                    more
                }
                [option, _, more @ ..] if option.eq_ignore_ascii_case(b"setname") => more,
                _ => return Err(Stop::SYNTAX),
            };
        }
        if !wire.trusted {
            return Err(super::greeting::NOT_TRUSTED);
        }
        wire.protocol = protocol;
        Ok(super::greeting::greeting(protocol, wire.id))
    }
}

fn is_database(word: &[u8]) -> bool {
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse::<u32>().ok());
    number.is_some_and(|db| db < super::config::DATABASES)
}

fn text(stop: &Stop) -> &str {
    match stop {
        Stop::Error(text) => text,
        Stop::NotLoaded(_) => "",
    }
}

fn replied(answer: Result<Reply, Stop>) -> Reply {
    answer.unwrap_or_else(|stop| Reply::error(text(&stop).to_owned()))
}
