use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::{Outbox, Pool};
use crate::resp::push_command;
use crate::strategy::{BarrierSource, CommitGate, Meter, Ticket};
use crate::traces::{CommandSpan, Ending};

/// After Redis has refused a barrier (a script holds it up, or the user may not publish), the next
/// one is tried so much later.
const RETRY: Duration = Duration::from_millis(50);

/// Answers whose wait is timed at a time; further ones are not.
const MAX_TIMED: usize = 256;

/// What a reply waits for.
pub type Hold = (Rc<Source>, Ticket);

/// How the replies to a connection's writes are held.
pub(super) enum Barriers {
    /// Barriers go behind the writes, in the same flush. For lanes of the proxy's own user: what a
    /// client has for itself may be in a MULTI when a flush ends, and another user may not be
    /// allowed to publish.
    Behind(OnceCell<Rc<Source>>),
    /// When a reply has come, a lane of the proxy's own is asked for a barrier. Such commands may
    /// also have waited in Redis (blocking ones, EXEC) while the gate opened and closed.
    Afterwards(Weak<Pool>),
}

/// One connection's barriers, and the clients whose replies wait for them.
pub struct Source {
    barriers: BarrierSource,
    /// Somebody waits for the barrier that is issued next.
    due: Cell<bool>,
    /// Redis has refused the last barrier.
    refused: Cell<bool>,
    waiting: RefCell<Vec<Weak<Outbox>>>,
    /// Commands whose wait is timed.
    timed: RefCell<Vec<(Ticket, Waiting)>>,
    /// Wakes who sends barriers, when it has sent one before.
    driver: RefCell<Option<Waker>>,
    /// The connection is gone.
    lost: Cell<Option<Loss>>,
}

/// How long what Redis answered before a connection was lost may take to be committed, if nobody else comes to answer
/// before.
const FATE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Loss {
    /// [`CommitGate::turns`] at that time.
    turns: u64,
    /// Nothing more of it will be committed.
    over: bool,
}

/// What becomes of a reply that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Waits,
    /// The client may have it.
    Acknowledged,
    /// It was given up while Redis was there.
    NotConfirmed,
    /// The connection is gone, and the write is not in what the mirror had received.
    Unknown,
}

/// An answer that waits, and who wants to know for how long.
pub(super) struct Waiting {
    pub since: Instant,
    pub meter: Option<Arc<Meter>>,
    pub span: Option<CommandSpan>,
}

impl Waiting {
    fn end(&self, committed: bool) {
        if let (Some(meter), true) = (&self.meter, committed) {
            meter.commit_waits.record_duration(self.since.elapsed());
        }
        if let Some(span) = &self.span {
            span.end(if committed { Ending::Committed } else { Ending::Unknown });
        }
    }
}

impl Source {
    pub(super) fn new(gate: &Arc<CommitGate>) -> Rc<Source> {
        let source = Rc::new(Source {
            barriers: gate.source(),
            due: Cell::new(false),
            refused: Cell::new(false),
            waiting: RefCell::default(),
            timed: RefCell::default(),
            driver: RefCell::default(),
            lost: Cell::new(None),
        });
        let (weak, mut watcher) = (Rc::downgrade(&source), source.barriers.watcher());
        tokio::task::spawn_local(async move {
            while watcher.changed().await {
                let Some(source) = weak.upgrade() else { return };
                source.release();
                if source.barriers.take_nudge() {
                    source.due.set(true);
                    source.driver.borrow().iter().for_each(Waker::wake_by_ref);
                }
            }
        });
        source
    }

    /// What waits for this turns into an error: nobody can tell whether it will be committed.
    pub(super) fn hopeless(gate: &Arc<CommitGate>) -> Hold {
        let source = Source::new(gate);
        source.lost.set(Some(Loss { turns: gate.turns(), over: true }));
        (source, Ticket::NEVER)
    }

    /// What replies to the writes handed in now wait for; the barrier behind them is due with it.
    /// None while the gate is open.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        let ticket = self.barriers.ticket();
        if ticket.is_some() {
            self.due.set(true);
        }
        ticket
    }

    /// Replies wait for it, or will.
    pub(super) fn is_waited_for(&self) -> bool {
        self.due.get() || self.waiting.borrow().iter().any(|outbox| outbox.strong_count() > 0)
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.get()
    }

    /// The reply to the write is there already.
    pub(super) fn awaited(&self) {
        self.barriers.awaited();
    }

    /// Appends the barrier that follows the writes in `out`, if one is due.
    pub(super) fn issue(&self, out: &mut Vec<u8>) -> bool {
        let due = self.due.take();
        if due {
            let message = self.barriers.issue();
            let channel = self.barriers.gate().channel().as_bytes();
            push_command(&[b"PUBLISH", channel, message.as_bytes()], out);
        }
        due
    }

    /// Redis's answer to the oldest barrier that it had not answered. One that is refused never comes
    /// by; a later one serves who waits for it. `driver` is woken to send it.
    pub(super) fn answered(self: &Rc<Self>, reply: &[u8], driver: Option<Waker>) {
        let refused = matches!(reply.first(), Some(b'-' | b'!'));
        self.barriers.answered(!refused);
        let again = self.refused.replace(refused);
        self.driver.borrow_mut().clone_from(&driver);
        if !refused || !self.barriers.gate().holding() {
            return;
        }
        // While a script runs Redis refuses everything, writes too.
        if !again && !reply.starts_with(b"-BUSY") {
            tracing::warn!(
                reply = %reply.escape_ascii(),
                channel = self.barriers.gate().channel(),
                "Redis refuses the PUBLISH by which the proxy learns that writes are in PostgreSQL; their replies wait meanwhile"
            );
        }
        let weak = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(RETRY).await;
            if let (Some(source), Some(driver)) = (weak.upgrade(), driver) {
                source.due.set(true);
                driver.wake();
            }
        });
    }

    /// What becomes of what waits with this ticket.
    pub(super) fn fate(&self, ticket: Ticket) -> Fate {
        if self.barriers.committed(ticket) {
            return Fate::Acknowledged;
        }
        let ended = self.barriers.is_over(ticket);
        match self.lost.get() {
            Some(Loss { turns, over })
                if ended || over || turns != self.barriers.gate().turns() =>
            {
                Fate::Unknown
            }
            None if ended && self.barriers.given_up(ticket) => Fate::NotConfirmed,
            None if ended => Fate::Acknowledged,
            _ => Fate::Waits,
        }
    }

    pub(super) fn wait(&self, outbox: Weak<Outbox>) {
        self.waiting.borrow_mut().push(outbox);
    }

    /// Times the wait of an answer that has been handed on.
    pub(super) fn time(&self, ticket: Ticket, waiting: Waiting) {
        let mut timed = self.timed.borrow_mut();
        if timed.len() < MAX_TIMED {
            timed.push((ticket, waiting));
        }
        drop(timed);
        self.end_timed();
    }

    fn end_timed(&self) {
        self.timed.borrow_mut().retain(|(ticket, waiting)| match self.fate(*ticket) {
            Fate::Waits => true,
            fate => {
                waiting.end(fate == Fate::Acknowledged);
                false
            }
        });
    }

    /// The connection is gone. Held replies are answers to what Redis has done: where that was received by the mirror
    /// it will still be committed, and the rest turns into errors when somebody else answers, or after [`FATE`].
    pub(super) fn lose(self: &Rc<Self>) {
        let loss = Loss { turns: self.barriers.gate().turns(), over: false };
        self.lost.set(Some(loss));
        self.barriers.retire();
        self.release();
        if self.waiting.borrow().is_empty() {
            return;
        }
        let source = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(FATE).await;
            source.lost.set(Some(Loss { over: true, ..loss }));
            source.release();
        });
    }

    fn release(&self) {
        self.end_timed();
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for weak in waiting {
            let Some(outbox) = weak.upgrade() else { continue };
            if outbox.release() {
                self.waiting.borrow_mut().push(weak);
            }
            outbox.flush();
        }
    }
}
