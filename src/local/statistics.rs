use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::script::Tally;
use crate::resp::Reply;

/// What `INFO commandstats` and `INFO errorstats` show.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    commands: BTreeMap<&'static str, Counts>,
    /// By the first word of the error.
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: u64,
    took: Duration,
    /// Errors before the command ran.
    rejected: u64,
    /// Errors of the command itself.
    failed: u64,
    /// How many took up to 1 µs, 2 µs, 4 µs and so on.
    up_to: [u64; BUCKETS],
}

const BUCKETS: usize = 32;

impl Statistics {
    /// A command has run, for this long.
    pub fn ran(&mut self, command: &'static str, took: Duration, error: Option<&str>) {
        let counts = self.commands.entry(command).or_default();
        counts.calls += 1;
        counts.took += took;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let bucket = micros.next_power_of_two().trailing_zeros() as usize;
        counts.up_to[bucket.min(BUCKETS - 1)] += 1;
        if let Some(error) = error {
            counts.failed += 1;
            self.count_error(error);
        }
    }

    /// A command that was counted when it began to wait has ended with an error.
    pub fn failed(&mut self, command: &'static str, error: &str) {
        self.commands.entry(command).or_default().failed += 1;
        self.count_error(error);
    }

    /// What a script has called.
    pub fn called(&mut self, command: &'static str, tally: &Tally) {
        let counts = self.commands.entry(command).or_default();
        counts.calls += tally.calls;
        counts.took += tally.took;
        for (code, count) in &tally.errors {
            counts.failed += count;
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    /// A command was refused.
    pub fn rejected(&mut self, command: Option<&'static str>, error: &str) {
        if let Some(command) = command {
            self.commands.entry(command).or_default().rejected += 1;
        }
        self.count_error(error);
    }

    fn count_error(&mut self, error: &str) {
        let code = error.split(' ').next().unwrap_or_default();
        *self.errors.entry(code.to_owned()).or_default() += 1;
    }

    pub fn reset(&mut self) {
        *self = Statistics::default();
    }

    pub fn commands(&self) -> Vec<(String, String)> {
        let line = |(name, counts): (&&'static str, &Counts)| {
            let usec = counts.took.as_micros();
            let each = usec as f64 / counts.calls.max(1) as f64;
            let text = format!(
                "calls={},usec={usec},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
                counts.calls, counts.rejected, counts.failed
            );
            (format!("cmdstat_{name}"), text)
        };
        self.commands.iter().map(line).collect()
    }

    /// `LATENCY HISTOGRAM`, of the commands that are wanted.
    pub fn histograms(&self, wanted: impl Fn(&str) -> bool) -> Reply {
        let one = |(name, counts): (&&'static str, &Counts)| {
            let mut sum = 0;
            let mut shown = Vec::new();
            for (power, count) in counts.up_to.iter().enumerate().filter(|(_, count)| **count > 0) {
                sum += count;
                shown.push((Reply::Int(1 << power), Reply::Int(sum as i64)));
            }
            let of_command = vec![
                (Reply::bulk("calls"), Reply::Int(counts.calls as i64)),
                (Reply::bulk("histogram_usec"), Reply::Map(shown)),
            ];
            (Reply::bulk(*name), Reply::Map(of_command))
        };
        let ran = self.commands.iter().filter(|(name, counts)| counts.calls > 0 && wanted(name));
        Reply::Map(ran.map(one).collect())
    }

    /// Errors of all kinds.
    pub fn error_replies(&self) -> u64 {
        self.errors.values().sum()
    }

    pub fn errors(&self) -> Vec<(String, String)> {
        let line = |(code, count): (&String, &u64)| {
            (format!("errorstat_{code}"), format!("count={count}"))
        };
        self.errors.iter().map(line).collect()
    }
}
