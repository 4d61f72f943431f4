//! What a connection owes, and to whom.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::barrier::Hold;
use super::pubsub::Confirmation;
use super::{Lost, Outbox, Source};
use crate::strategy::Ticket;

/// A reply that somebody looks at before a client sees it.
pub struct Captured {
    pub frame: Vec<u8>,
    /// What the reply has to wait for.
    pub hold: Option<Hold>,
}

/// Who gets the replies.
pub enum Target {
    Client(Rc<Outbox>),
    /// A client that wants no replies (`CLIENT REPLY OFF`).
    Silent(Rc<Outbox>),
    Capture(oneshot::Sender<Result<Captured, Lost>>),
    /// The reply to a barrier of this source.
    Barrier(Rc<Source>),
    Nobody,
}

/// Whether replies wait for PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// None of the commands writes, or the gate was open.
    No,
    /// For the barrier behind the commands.
    Behind(Ticket),
    /// For one that is asked for when the reply has come. When the command was sent with the gate closed, Redis must
    /// still be in the history of then ([`CommitGate::histories`](crate::strategy::CommitGate::histories)).
    Afterwards(Option<u64>),
}

pub(super) struct Pending {
    pub target: Target,
    /// Replies still to come.
    pub replies: usize,
    /// Some of the commands write.
    pub writes: bool,
    pub wait: Wait,
    /// Set for the subscribe family, whose commands answer once per channel.
    pub confirmations: Option<Confirmation>,
}
