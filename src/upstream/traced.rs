use std::rc::Rc;
use std::time::Instant;

use super::Context;
use crate::traces::{self, CommandSpan, Traces};

/// Makes spans of commands that are timed on one connection.
pub(super) struct Traced {
    traces: &'static Traces,
    context: Rc<Context>,
    connection: &'static str,
}

/// When a command was where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub arrived: Instant,
    pub sent: Instant,
    pub answered: Instant,
}

impl Traced {
    /// `None` where no spans are made.
    pub fn new(context: &Rc<Context>, connection: &'static str) -> Option<Traced> {
        let traces = traces::get()?;
        Some(Traced { traces, context: Rc::clone(context), connection })
    }

    /// The span of a command whose answer has been handed on just now, if it is to have one.
    pub fn span(&self, writes: bool, times: Times) -> Option<CommandSpan> {
        let status = &self.context.status;
        self.traces.chooses().then(|| CommandSpan {
            traces: self.traces,
            writes,
            strategy: status.strategy().as_str(),
            mode: status.mode(),
            connection: self.connection,
            server: self.context.connector.server(),
            arrived: times.arrived,
            sent: times.sent,
            answered: times.answered,
            handed_on: Instant::now(),
        })
    }
}
