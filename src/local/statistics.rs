use std::collections::BTreeMap;
use std::time::Duration;

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
}

impl Statistics {
    /// A command has run, for this long.
    pub fn ran(&mut self, command: &'static str, took: Duration, error: Option<&str>) {
        let counts = self.commands.entry(command).or_default();
        counts.calls += 1;
        counts.took += took;
        if let Some(error) = error {
            counts.failed += 1;
            self.count_error(error);
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

    pub fn errors(&self) -> Vec<(String, String)> {
        let line = |(code, count): (&String, &u64)| {
            (format!("errorstat_{code}"), format!("count={count}"))
        };
        self.errors.iter().map(line).collect()
    }
}
