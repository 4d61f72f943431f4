use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How busy a worker is. With many clients at once it pays to let them all hand in their requests before
/// the worker looks: they then share one write to Redis, and Redis one write back. A worker that
/// wakes up at the first request takes the processor from the very client that is about to send
/// the next. With few clients nothing is waited for.
#[derive(Debug, Default)]
pub struct Pace {
    /// Reads from clients since the worker last slept.
    reads: AtomicU32,
    busy: AtomicBool,
    /// Wake-ups to go before the processor is offered again.
    rest: AtomicU32,
}

/// Reads between two sleeps that make a worker busy.
const BUSY: u32 = 4;
/// An offer of the processor that took this long went to somebody who computes, not to a client that sends.
const HOGGED: Duration = Duration::from_millis(1);
/// Wake-ups for which it is then not offered: at most a thousandth of the requests pay for the try.
const REST: u32 = 1000;

impl Pace {
    /// A client's requests have been read.
    pub fn read(&self) {
        // One thread writes; a plain load and store are cheaper than an atomic addition.
        self.reads.store(self.reads.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// For the worker's runtime, when it has slept and goes to work.
    pub fn awake(&self) {
        let busy = self.reads.load(Ordering::Relaxed) >= BUSY;
        self.reads.store(0, Ordering::Relaxed);
        self.busy.store(busy, Ordering::Relaxed);
        let rest = self.rest.load(Ordering::Relaxed);
        if rest > 0 {
            self.rest.store(rest - 1, Ordering::Relaxed);
        } else if busy {
            let offered = Instant::now();
            std::thread::yield_now();
            if offered.elapsed() > HOGGED {
                self.rest.store(REST, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn many_reads_make_it_busy_until_they_are_few_again() {
        let pace = Pace::default();
        pace.read();
        pace.awake();
        assert!(!pace.is_busy());
        (0..super::BUSY).for_each(|_| pace.read());
        pace.awake();
        assert!(pace.is_busy());
        pace.awake();
        assert!(!pace.is_busy());
    }
}
