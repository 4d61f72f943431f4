use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::barrier::{Barriers, Hold};
use super::pending::{Pending, Wait};
use super::pubsub::{Confirmation, Subscriptions};
use super::sides::Sides;
use super::stopwatch::Stopwatch;
use super::{Captured, Key, Lost, Outbox, ServerFacts, Source, Target, Watching};
use crate::resp::{ReplyScanner, command, encode_error};
use crate::strategy::{CommitGate, Meter};

/// A lane whose oldest command has waited this long holds up whoever comes behind it.
const STALL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
enum Phase {
    Opening,
    Ready,
    Lost(Lost),
}

/// One connection to Redis: commands go in, replies come out to their targets in order.
pub struct Conn {
    key: Key,
    gate: Arc<CommitGate>,
    phase: RefCell<Phase>,
    facts: RefCell<ServerFacts>,
    pub(super) out: RefCell<Vec<u8>>,
    pub(super) pending: RefCell<VecDeque<Pending>>,
    pub(super) reader: RefCell<Reader>,
    barriers: Barriers,
    pub(super) progress: Cell<Instant>,
    pub(super) stopwatch: Stopwatch,
    meter: Arc<Meter>,
    pub(super) watching: RefCell<Option<Watching>>,
    /// Frames have to be looked at: subscriptions, MONITOR.
    pub(super) inspects: Cell<bool>,
    shut: Cell<bool>,
    /// Redis has been asked to close it.
    ending: Cell<bool>,
    /// Its server answers no more.
    abandoned: Cell<bool>,
    /// A command that may block has been handed in since it was last idle.
    may_block: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    waiters: RefCell<Vec<oneshot::Sender<()>>>,
}

/// Where the reading side stands.
#[derive(Default)]
pub(super) struct Reader {
    pub scanner: ReplyScanner,
    /// A frame that is looked at, as far as it has come.
    pub special: Vec<u8>,
    pub in_special: bool,
    /// A captured reply, or that to a barrier, as far as it has come.
    pub captured: Vec<u8>,
    pub touched: Vec<Rc<Outbox>>,
}

impl Conn {
    pub(super) fn new(
        key: Key,
        gate: Arc<CommitGate>,
        barriers: Barriers,
        meter: Arc<Meter>,
        stopwatch: Stopwatch,
    ) -> Rc<Conn> {
        Rc::new(Conn {
            key,
            gate,
            phase: RefCell::new(Phase::Opening),
            facts: RefCell::default(),
            out: RefCell::default(),
            pending: RefCell::default(),
            reader: RefCell::default(),
            barriers,
            progress: Cell::new(Instant::now()),
            stopwatch,
            meter,
            watching: RefCell::default(),
            inspects: Cell::new(false),
            shut: Cell::new(false),
            ending: Cell::new(false),
            abandoned: Cell::new(false),
            may_block: Cell::new(false),
            waker: RefCell::default(),
            waiters: RefCell::default(),
        })
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What the server said of itself; empty until the connection is ready.
    pub fn facts(&self) -> Ref<'_, ServerFacts> {
        self.facts.borrow()
    }

    /// True while commands may be handed in.
    pub fn usable(&self) -> bool {
        !matches!(*self.phase.borrow(), Phase::Lost(_)) && !self.shut.get()
    }

    /// Why it takes no commands any more.
    pub fn why_lost(&self) -> Option<Lost> {
        match &*self.phase.borrow() {
            Phase::Lost(lost) => Some(lost.clone()),
            _ => None,
        }
    }

    pub fn is_ready(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ready) && !self.shut.get()
    }

    /// True when the oldest command has been waiting for long.
    pub fn stalled(&self) -> bool {
        self.progress.get().elapsed() > STALL && !self.pending.borrow().is_empty()
    }

    /// True when it owes no replies.
    pub fn idle(&self) -> bool {
        self.pending.borrow().is_empty()
    }

    /// True when it owes no replies, and none of those that it has had waits for PostgreSQL.
    pub(super) fn is_settled(&self) -> bool {
        let held = match &self.barriers {
            Barriers::Behind(source) => source.get().is_some_and(|source| source.is_waited_for()),
            Barriers::Afterwards(_) => false,
        };
        self.idle() && self.unsent() == 0 && !held
    }

    /// A command that may block is handed in next.
    pub fn set_may_block(&self) {
        self.may_block.set(true);
    }

    /// True when what it owes may be the reply to a command that blocks.
    pub(super) fn may_block(&self) -> bool {
        let may = self.may_block.get() && !self.idle();
        self.may_block.set(may);
        may
    }

    /// Bytes that Redis has not taken yet.
    pub fn unsent(&self) -> usize {
        self.out.borrow().len()
    }

    /// Hands in whole commands that answer `replies` times. `writes`: some of them may change data.
    /// On a connection that is lost the target gets errors.
    pub fn submit(&self, bytes: &[u8], replies: usize, writes: bool, target: Target) {
        self.enter(bytes, replies, writes, target, None);
    }

    /// Hands in one command of the subscribe family.
    pub fn subscribe(&self, bytes: &[u8], expected: Confirmation, owner: &Rc<Outbox>) {
        self.watch(owner);
        self.enter(bytes, 1, false, Target::Client(Rc::clone(owner)), Some(expected));
    }

    /// Hands in one command and waits for its reply.
    pub async fn call(&self, bytes: &[u8], writes: bool) -> Result<Captured, Lost> {
        let (sender, receiver) = oneshot::channel();
        self.submit(bytes, 1, writes, Target::Capture(sender));
        receiver.await.unwrap_or(Err(Lost::Unknown))
    }

    /// From now on every frame is looked at, and messages go to `owner`.
    pub fn watch(&self, owner: &Rc<Outbox>) {
        self.inspects.set(true);
        let mut watching = self.watching.borrow_mut();
        watching.get_or_insert_with(|| Watching::new(Rc::clone(owner), self.gate.channel()));
    }

    /// Like [`Conn::watch`], for a client that sends `MONITOR`.
    pub fn monitor(&self, owner: &Rc<Outbox>, sides: &Sides) {
        self.watch(owner);
        if let Some(watching) = self.watching.borrow_mut().as_mut() {
            watching.monitor = Some(sides.clone());
        }
    }

    pub fn subscriptions(&self) -> Subscriptions {
        self.watching.borrow().as_ref().map_or_else(Subscriptions::default, |w| w.subscriptions)
    }

    /// Stops looking at frames, when nothing is subscribed.
    pub fn unwatch(&self) {
        self.inspects.set(false);
        *self.watching.borrow_mut() = None;
    }

    /// Waits until the connection is ready or lost.
    pub async fn opened(&self) -> Result<(), Lost> {
        loop {
            let receiver = match &*self.phase.borrow() {
                Phase::Ready => return Ok(()),
                Phase::Lost(lost) => return Err(lost.clone()),
                Phase::Opening => {
                    let (sender, receiver) = oneshot::channel();
                    self.waiters.borrow_mut().push(sender);
                    receiver
                }
            };
            if receiver.await.is_err() {
                return Err(Lost::Unknown);
            }
        }
    }

    /// Closes the connection; Redis drops what it kept for it.
    pub fn close(&self) {
        self.shut.set(true);
        self.wake();
    }

    /// Closes it because its server answers no more: what is in flight has an unknown fate.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
        self.close();
    }

    /// Has Redis close the connection, and waits until Redis has dropped what it kept for it.
    pub async fn quit(&self) {
        self.ending.set(true);
        // Whatever the answer, the connection ends here.
        let _ = self.call(&command(&["QUIT"]), false).await;
        self.close();
    }

    pub(super) fn end_is_expected(&self) -> bool {
        self.shut.get() || self.ending.get()
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.get()
    }

    pub(super) fn register(&self, waker: &Waker) {
        let mut mine = self.waker.borrow_mut();
        if !mine.as_ref().is_some_and(|mine| mine.will_wake(waker)) {
            *mine = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn enter(
        &self,
        bytes: &[u8],
        replies: usize,
        writes: bool,
        target: Target,
        confirmations: Option<Confirmation>,
    ) {
        if let Target::Client(outbox) | Target::Silent(outbox) = &target {
            outbox.expect(replies);
        }
        if let Phase::Lost(lost) = &*self.phase.borrow() {
            let lost = lost.clone();
            self.fail(Pending { target, replies, writes, wait: Wait::No, confirmations }, &lost);
            return;
        }
        let wait = if writes { self.wait() } else { Wait::No };
        match &target {
            Target::Client(_) => self.stopwatch.entered(replies, writes),
            _ => self.stopwatch.owe(replies),
        }
        let mut pending = self.owe();
        match (pending.back_mut(), &target) {
            (
                Some(Pending {
                    target: Target::Client(last),
                    replies: n,
                    writes: also,
                    wait: w,
                    confirmations: None,
                }),
                Target::Client(outbox),
            ) if *w == wait && confirmations.is_none() && Rc::ptr_eq(last, outbox) => {
                *n += replies;
                *also |= writes;
            }
            _ => pending.push_back(Pending { target, replies, writes, wait, confirmations }),
        }
        self.out.borrow_mut().extend_from_slice(bytes);
        self.wake();
    }

    /// For adding to what Redis owes: time is counted from when it owes anything.
    fn owe(&self) -> RefMut<'_, VecDeque<Pending>> {
        let pending = self.pending.borrow_mut();
        if pending.is_empty() {
            self.progress.set(Instant::now());
        }
        pending
    }

    /// What replies to writes that are handed in now wait for.
    fn wait(&self) -> Wait {
        match &self.barriers {
            Barriers::Afterwards(_) => {
                Wait::Afterwards(self.gate.holding().then(|| self.gate.histories()))
            }
            Barriers::Behind(_) if !self.gate.holding() => Wait::No,
            Barriers::Behind(source) => {
                let source = source.get_or_init(|| Source::new(&self.gate));
                source.ticket().map_or(Wait::No, Wait::Behind)
            }
        }
    }

    /// What a reply waits for that is coming in.
    pub(super) fn hold(&self, wait: Wait) -> Option<Hold> {
        match (wait, &self.barriers) {
            (Wait::Behind(ticket), Barriers::Behind(source)) => {
                source.get().map(|source| (Rc::clone(source), ticket))
            }
            (Wait::Afterwards(Some(history)), _) if history != self.gate.histories() => {
                Some(Source::hopeless(&self.gate))
            }
            (Wait::Afterwards(_), Barriers::Afterwards(pool)) if self.gate.holding() => {
                match pool.upgrade().and_then(|pool| pool.home_lane().ok()) {
                    Some(lane) => lane.ask_for_barrier(),
                    None => Some(Source::hopeless(&self.gate)),
                }
            }
            _ => None,
        }
    }

    /// Sends a barrier behind everything that Redis has answered by now.
    fn ask_for_barrier(&self) -> Option<Hold> {
        let wait = self.wait();
        self.wake();
        let hold = self.hold(wait);
        if let Some((source, _)) = &hold {
            source.awaited();
        }
        hold
    }

    /// Somebody waits for a barrier that has not been sent.
    pub(super) fn barrier_due(&self) -> bool {
        match &self.barriers {
            Barriers::Behind(source) => source.get().is_some_and(|source| source.is_due()),
            Barriers::Afterwards(_) => false,
        }
    }

    pub(super) fn issue_barrier(&self) {
        let Barriers::Behind(source) = &self.barriers else { return };
        let Some(source) = source.get() else { return };
        if source.issue(&mut self.out.borrow_mut()) {
            let target = Target::Barrier(Rc::clone(source));
            let barrier =
                Pending { target, replies: 1, writes: false, wait: Wait::No, confirmations: None };
            self.stopwatch.owe(1);
            self.owe().push_back(barrier);
        }
    }

    pub(super) fn driver(&self) -> Option<Waker> {
        self.waker.borrow().clone()
    }

    pub(super) fn set_ready(&self, facts: ServerFacts) {
        *self.facts.borrow_mut() = facts;
        // Nothing has been sent yet, and whoever answers may be another than when it was handed in.
        for entry in self.pending.borrow_mut().iter_mut().filter(|entry| entry.writes) {
            entry.wait = self.wait();
        }
        *self.phase.borrow_mut() = Phase::Ready;
        self.progress.set(Instant::now());
        self.notify();
    }

    /// The connection is gone (or never came): everything in flight ends with `lost`.
    pub(super) fn set_lost(&self, lost: Lost) {
        *self.phase.borrow_mut() = Phase::Lost(lost.clone());
        let in_frame = self.reader.borrow().scanner.in_frame();
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        for (i, entry) in pending.into_iter().enumerate() {
            // Half a reply cannot be taken back: that client's stream is broken.
            if let (0, true, Target::Client(outbox)) = (i, in_frame, &entry.target) {
                outbox.kill();
            }
            self.fail(entry, &lost);
        }
        if let Barriers::Behind(source) = &self.barriers
            && let Some(source) = source.get()
        {
            source.lose();
        }
        if let Some(watching) = self.watching.borrow_mut().take() {
            // Its subscriptions are gone; the client has to know.
            watching.lost(self.end_is_expected() && !self.abandoned.get());
        }
        self.notify();
    }

    fn notify(&self) {
        for waiter in self.waiters.borrow_mut().drain(..) {
            // A waiter that has gone needs no word.
            let _ = waiter.send(());
        }
    }

    fn fail(&self, entry: Pending, lost: &Lost) {
        match entry.target {
            Target::Client(outbox) if *lost == Lost::Unknown && outbox.lose(entry.replies) => {}
            Target::Client(outbox) => {
                self.meter.fault(lost.fault(), entry.replies as u64);
                let mut bytes = Vec::new();
                for _ in 0..entry.replies {
                    encode_error(&lost.to_string(), &mut bytes);
                }
                outbox.deliver(None, &bytes, entry.replies, false);
                outbox.settle(entry.replies);
                outbox.flush();
            }
            Target::Silent(outbox) => outbox.settle(entry.replies),
            Target::Capture(sender) => {
                // The session that asked may be gone.
                let _ = sender.send(Err(lost.clone()));
            }
            Target::Barrier(_) | Target::Nobody => {}
        }
    }
}
