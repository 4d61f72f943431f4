use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::strategy::Status;

const TICK: Duration = Duration::from_secs(1);
/// Rates are means over this many ticks.
const TICKS: usize = 10;

/// Totals at one moment.
#[derive(Clone, Copy)]
struct Totals {
    at: Instant,
    operations: u64,
    errors: u64,
}

/// How much happens per second, as the mean of the last ten.
#[derive(Default)]
pub struct Rates(Mutex<VecDeque<Totals>>);

impl Rates {
    pub async fn watch(&self, status: &Status) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let mut totals = self.0.lock();
            totals.push_back(now(status));
            if totals.len() > TICKS {
                totals.pop_front();
            }
        }
    }

    /// Operations and errors per second.
    pub fn per_second(&self, status: &Status) -> (f64, f64) {
        let Some(first) = self.0.lock().front().copied() else { return (0.0, 0.0) };
        let last = now(status);
        let seconds = last.at.duration_since(first.at).as_secs_f64().max(0.001);
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        (rate(first.operations, last.operations), rate(first.errors, last.errors))
    }
}

fn now(status: &Status) -> Totals {
    let (operations, errors) = (status.meters.all_commands(), status.meters.all_faults());
    Totals { at: Instant::now(), operations, errors }
}
