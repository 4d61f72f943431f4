use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::Outbox;
use crate::resp::push_command;
use crate::strategy::{BarrierSource, CommitGate};

/// One connection's barriers, and the clients whose replies wait for them.
pub struct Source {
    barriers: RefCell<BarrierSource>,
    issued: Cell<u64>,
    waiting: RefCell<Vec<Weak<Outbox>>>,
    lost: Cell<bool>,
}

impl Source {
    pub(super) fn new(gate: &Arc<CommitGate>) -> Rc<Source> {
        let source = Rc::new(Source {
            barriers: RefCell::new(gate.source()),
            issued: Cell::new(0),
            waiting: RefCell::default(),
            lost: Cell::new(false),
        });
        let (weak, mut watcher) = (Rc::downgrade(&source), source.barriers.borrow().watcher());
        tokio::task::spawn_local(async move {
            while watcher.changed().await {
                let Some(source) = weak.upgrade() else { return };
                source.release();
            }
        });
        source
    }

    /// The number of the barrier that will follow the writes handed in now.
    pub(super) fn next(&self) -> u64 {
        self.issued.get() + 1
    }

    /// Appends the barrier that follows the writes in `out`.
    pub(super) fn issue(&self, out: &mut Vec<u8>) {
        let mut barriers = self.barriers.borrow_mut();
        let (number, message) = barriers.issue();
        self.issued.set(number);
        let channel = barriers.gate().channel().as_bytes();
        push_command(&[b"PUBLISH", channel, message.as_bytes()], out);
    }

    pub(super) fn released(&self, number: u64) -> bool {
        self.barriers.borrow().released(number)
    }

    /// True when the connection is gone: what was not committed by then has an unknown fate.
    pub(super) fn lost(&self) -> bool {
        self.lost.get()
    }

    pub(super) fn wait(&self, outbox: Weak<Outbox>) {
        self.waiting.borrow_mut().push(outbox);
    }

    /// Redis is gone: held replies whose barrier has not been committed turn into errors.
    pub(super) fn lose(&self) {
        self.lost.set(true);
        self.release();
    }

    fn release(&self) {
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
