use std::time::{Duration, Instant};

/// Holds work to so many keys per second.
#[derive(Debug)]
pub struct Pace {
    /// Keys per second; 0: as fast as it goes.
    rate: u64,
    done: u64,
    since: Instant,
}

impl Pace {
    pub fn new(rate: u64) -> Pace {
        Pace { rate, done: 0, since: Instant::now() }
    }

    /// So many keys more have been dealt with; waits until they may have been.
    pub async fn after(&mut self, keys: usize) {
        if self.rate == 0 {
            return;
        }
        self.done += keys as u64;
        let due = Duration::from_secs_f64(self.done as f64 / self.rate as f64);
        if let Some(early) = due.checked_sub(self.since.elapsed()) {
            tokio::time::sleep(early).await;
        }
    }
}
