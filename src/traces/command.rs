use std::time::Instant;

use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status, Tracer};
use opentelemetry::{Context, KeyValue};

use super::{Clock, Traces};

/// A client's command that has been answered, on its way to become a span.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpan {
    pub traces: &'static Traces,
    pub writes: bool,
    pub strategy: &'static str,
    /// What the strategy has come to.
    pub mode: &'static str,
    /// `lane` or `pinned`.
    pub connection: &'static str,
    /// Who has answered.
    pub server: &'static str,
    pub arrived: Instant,
    /// Written to whoever answers.
    pub sent: Instant,
    pub answered: Instant,
    /// The answer has been handed on to the client, or waits for PostgreSQL.
    pub handed_on: Instant,
}

/// What became of an answer that had been handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It waited for nothing.
    Sent,
    /// It waited until PostgreSQL had committed the write.
    Committed,
    /// It waited, and became the error that the outcome is unknown.
    Unknown,
}

impl CommandSpan {
    /// Makes the spans: the command, and in it the answer and the wait for PostgreSQL; the rest is the proxy's own time.
    pub fn end(&self, ending: Ending) {
        let clock = Clock::new();
        let end = if ending == Ending::Sent { self.handed_on } else { clock.now };
        let class = if self.writes { "write" } else { "read" };
        let builder = SpanBuilder::from_name("command")
            .with_kind(SpanKind::Server)
            .with_start_time(clock.time(self.arrived))
            .with_attributes([
                KeyValue::new("tandem.class", class),
                KeyValue::new("tandem.strategy", self.strategy),
                KeyValue::new("tandem.mode", self.mode),
                KeyValue::new("tandem.connection", self.connection),
                KeyValue::new("tandem.server", self.server),
            ]);
        let mut span = self.traces.tracer.build_with_context(builder, &Context::new());
        let context = span.span_context().clone();
        self.traces.child(&context, "answer", &clock, (self.sent, self.answered));
        if ending != Ending::Sent {
            self.traces.child(&context, "commit wait", &clock, (self.handed_on, end));
        }
        if ending == Ending::Unknown {
            span.set_status(Status::error("unknown outcome"));
        }
        span.end_with_timestamp(clock.time(end));
    }
}
