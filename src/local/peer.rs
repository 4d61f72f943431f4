use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::tracking::Tracked;
use crate::acl::DEFAULT;
use crate::resp::{Protocol, Reply, encode};

/// How a blocked client goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unblock {
    Timeout,
    Error,
}

/// What others see of a connection, and how they reach it.
pub(super) struct Peer {
    pub id: u64,
    pub created: Instant,
    pub name: RefCell<Bytes>,
    pub protocol: Cell<Protocol>,
    /// Replies and messages that are not written yet.
    pub out: RefCell<Vec<u8>>,
    /// Something is in `out`, or was said to the connection.
    pub wake: Arc<Notify>,
    pub killed: Cell<bool>,
    pub blocked: Cell<bool>,
    pub unblock: Cell<Option<Unblock>>,
    pub monitor: Cell<bool>,
    pub subscribed: Cell<bool>,
    pub user: RefCell<String>,
    /// `CLIENT TRACKING`.
    pub tracked: RefCell<Option<Tracked>>,
}

impl Peer {
    pub fn new(id: u64, wake: Arc<Notify>) -> Peer {
        Peer {
            id,
            created: Instant::now(),
            name: RefCell::default(),
            protocol: Cell::default(),
            out: RefCell::default(),
            wake,
            killed: Cell::new(false),
            blocked: Cell::new(false),
            unblock: Cell::new(None),
            monitor: Cell::new(false),
            subscribed: Cell::new(false),
            user: RefCell::new(DEFAULT.into()),
            tracked: RefCell::default(),
        }
    }

    /// Appends a reply or message; the connection's own task writes it.
    pub fn push(&self, reply: &Reply) {
        encode(reply, self.protocol.get(), &mut self.out.borrow_mut());
        self.wake.notify_one();
    }
}
