use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use super::Hold;
use super::barrier::Waiting;
use super::traced::{Times, Traced};
use crate::strategy::Meter;
use crate::traces::Ending;

/// Times one command after the other on a connection: the next one is chosen when the last one's answer has
/// been handed on. That is a look at the clock per round trip and not per command.
pub(super) struct Stopwatch {
    meter: Option<Arc<Meter>>,
    traced: Option<Traced>,
    /// There is somebody to tell.
    used: bool,
    state: Cell<State>,
    /// What the answer waits for.
    hold: Cell<Option<Hold>>,
    /// Replies that Redis owes or owed, and those that have come, since the connection is there.
    owed: Cell<u64>,
    come: Cell<u64>,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    /// Handed in; `number` is that of its reply.
    Entered {
        number: u64,
        writes: bool,
        at: Instant,
    },
    Sent {
        number: u64,
        writes: bool,
        at: Instant,
        sent: Instant,
    },
    Answered {
        writes: bool,
        times: Times,
    },
}

impl Stopwatch {
    /// With neither nothing is timed.
    pub fn new(meter: Option<Arc<Meter>>, traced: Option<Traced>) -> Stopwatch {
        Stopwatch {
            used: meter.is_some() || traced.is_some(),
            meter,
            traced,
            state: Cell::new(State::Idle),
            hold: Cell::default(),
            owed: Cell::new(0),
            come: Cell::new(0),
        }
    }

    /// Commands with `replies` replies have been handed in; a client waits for them.
    pub fn entered(&self, replies: usize, writes: bool) {
        let number = self.owed.get() + 1;
        self.owe(replies);
        if self.used && matches!(self.state.get(), State::Idle) {
            self.state.set(State::Entered { number, writes, at: Instant::now() });
        }
    }

    /// Redis owes `replies` more, which nobody times.
    pub fn owe(&self, replies: usize) {
        self.owed.set(self.owed.get() + replies as u64);
    }

    /// Everything that was handed in is written.
    pub fn sent(&self) {
        if let State::Entered { number, writes, at } = self.state.get() {
            self.state.set(State::Sent { number, writes, at, sent: Instant::now() });
        }
    }

    /// `replies` of them have come, at `now`; true when the one that is timed is among them.
    pub fn answered(&self, replies: usize, now: Instant) -> bool {
        self.come.set(self.come.get() + replies as u64);
        match self.state.get() {
            State::Sent { number, writes, at, sent } if self.come.get() >= number => {
                let times = Times { arrived: at, sent, answered: now.max(sent) };
                self.state.set(State::Answered { writes, times });
                true
            }
            _ => false,
        }
    }

    /// The answer to the command that is timed waits for PostgreSQL.
    pub fn held(&self, hold: &Hold) {
        self.hold.set(Some(hold.clone()));
    }

    /// What has come is handed on.
    pub fn handed_on(&self) {
        if let State::Answered { writes, times } = self.state.get() {
            if let Some(meter) = &self.meter {
                let redis = times.answered.saturating_duration_since(times.sent);
                meter.timed(writes, times.arrived.elapsed(), redis);
            }
            let span = self.traced.as_ref().and_then(|traced| traced.span(writes, times));
            if let Some((source, ticket)) = self.hold.take() {
                let waiting = Waiting { since: Instant::now(), meter: self.meter.clone(), span };
                source.time(ticket, waiting);
            } else if let Some(span) = span {
                span.end(Ending::Sent);
            }
            self.state.set(State::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_at_a_time_is_timed() {
        let meter = Arc::new(Meter::default());
        let watch = Stopwatch::new(Some(Arc::clone(&meter)), None);
        watch.owe(1);
        watch.entered(2, false);
        watch.entered(1, true);
        watch.answered(1, Instant::now());
        watch.handed_on();
        assert_eq!(meter.reads.read().count(), 0, "that was somebody else's reply");
        watch.sent();
        watch.answered(1, Instant::now());
        watch.handed_on();
        assert_eq!((meter.reads.read().count(), meter.redis.read().count()), (1, 1));
        watch.answered(2, Instant::now());
        watch.handed_on();
        assert_eq!(meter.writes.read().count(), 0, "it came while another was timed");
        watch.entered(1, true);
        watch.sent();
        watch.answered(1, Instant::now());
        watch.handed_on();
        assert_eq!((meter.writes.read().count(), meter.own.read().count()), (1, 2));
    }
}
