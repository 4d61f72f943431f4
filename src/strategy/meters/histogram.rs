use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a latency histogram, in microseconds: 5 µs to 10 s.
const LATENCY: [u64; BOUNDS] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Upper bounds of a histogram of numbers: 1 to 500,000.
pub const SIZES: [u64; BOUNDS] = [
    1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000,
    50_000, 500_000,
];

const BOUNDS: usize = 20;

/// Counts values between fixed bounds; those of latencies unless made otherwise.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; BOUNDS],
    /// The last one counts what is above all bounds.
    counts: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new(&LATENCY)
    }
}

impl Histogram {
    pub fn new(bounds: &'static [u64; BOUNDS]) -> Histogram {
        Histogram { bounds, counts: Default::default(), sum: AtomicU64::new(0) }
    }

    pub fn record(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Records in microseconds.
    pub fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn read(&self) -> Buckets {
        Buckets {
            bounds: self.bounds,
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What a [`Histogram`] held when it was read.
#[derive(Clone, Debug)]
pub struct Buckets {
    bounds: &'static [u64; BOUNDS],
    counts: [u64; BOUNDS + 1],
    pub sum: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        Histogram::default().read()
    }
}

impl Buckets {
    /// Adds another one with the same bounds.
    pub fn add(&mut self, other: &Buckets) {
        self.bounds = other.bounds;
        self.sum += other.sum;
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds, each with how many values are at or below it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((*bound, *below))
        })
    }

    /// The value that a share `q` of all is at or below, interpolated within its bucket; `None` when
    /// nothing was recorded. Above the last bound, the last bound.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count() as f64;
        if self.count() == 0 {
            return None;
        }
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, upto) in self.cumulative() {
            let (bound, upto) = (bound as f64, upto as f64);
            if upto >= rank && upto > below {
                return Some(lower + (bound - lower) * (rank - below) / (upto - below));
            }
            (lower, below) = (bound, upto);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_between_their_bounds() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.5), None);
        for micros in [5, 6, 10, 11, 20_000_000] {
            histogram.record_duration(Duration::from_micros(micros));
        }
        let buckets = histogram.read();
        let cumulative: Vec<_> = buckets.cumulative().take(3).collect();
        assert_eq!(cumulative, [(5, 1), (10, 3), (25, 4)]);
        assert_eq!((buckets.count(), buckets.sum), (5, 20_000_032));
        assert_eq!(buckets.quantile(0.2), Some(5.0));
        assert_eq!(buckets.quantile(0.4), Some(7.5));
        assert_eq!(buckets.quantile(1.0), Some(10_000_000.0));
        let mut twice = Buckets::default();
        twice.add(&buckets);
        twice.add(&buckets);
        assert_eq!(twice.count(), 10);
    }
}
