use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::strategy::Meter;

/// Times one command after the other on a lane: the next one is chosen when the last one's answer has
/// been handed on. That is a look at the clock per round trip and not per command.
pub(super) struct Stopwatch {
    meter: Option<Arc<Meter>>,
    state: Cell<State>,
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
        at: Instant,
        redis: Duration,
    },
}

impl Stopwatch {
    /// Without a `meter` nothing is timed.
    pub fn new(meter: Option<Arc<Meter>>) -> Stopwatch {
        Stopwatch { meter, state: Cell::new(State::Idle), owed: Cell::new(0), come: Cell::new(0) }
    }

    /// Commands with `replies` replies have been handed in; a client waits for them.
    pub fn entered(&self, replies: usize, writes: bool) {
        let number = self.owed.get() + 1;
        self.owe(replies);
        if self.meter.is_some() && matches!(self.state.get(), State::Idle) {
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

    /// `replies` of them have come, at `now`.
    pub fn answered(&self, replies: usize, now: Instant) {
        self.come.set(self.come.get() + replies as u64);
        if let State::Sent { number, writes, at, sent } = self.state.get()
            && self.come.get() >= number
        {
            let redis = now.saturating_duration_since(sent);
            self.state.set(State::Answered { writes, at, redis });
        }
    }

    /// What has come is handed on.
    pub fn handed_on(&self) {
        if let (State::Answered { writes, at, redis }, Some(meter)) =
            (self.state.get(), &self.meter)
        {
            meter.timed(writes, at.elapsed(), redis);
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
        let watch = Stopwatch::new(Some(Arc::clone(&meter)));
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
