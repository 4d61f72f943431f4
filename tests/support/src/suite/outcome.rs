use std::collections::BTreeMap;

/// What one run of one test file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How often each test passed; a file may use one name several times.
    pub passed: BTreeMap<String, u32>,
    /// Failed tests with the message.
    pub failed: Vec<(String, String)>,
    /// Why the file ended before its end, if it did.
    pub broken_off: Option<String>,
}

impl Outcome {
    pub fn count(&self) -> u32 {
        self.passed.values().sum()
    }

    /// The tests that passed in `straight` and not (as often) here, each with what is known about it.
    pub fn missing(&self, straight: &Outcome) -> Vec<(String, String)> {
        let lost = straight
            .passed
            .iter()
            .filter(|(name, count)| self.passed.get(*name).copied().unwrap_or(0) < **count);
        lost.map(|(name, _)| {
            let failed = self.failed.iter().find(|(failed, _)| failed == name);
            let why = failed.map(|(_, message)| message.clone()).unwrap_or_else(|| {
                let end = self.broken_off.as_deref().unwrap_or("the file had ended");
                format!("not run: {end}")
            });
            (name.clone(), why)
        })
        .collect()
    }
}

/// Reads the output of `runtest`.
pub fn parse(output: &str) -> Outcome {
    let output = strip_colours(output);
    let mut outcome = Outcome::default();
    let mut lines = output.lines().peekable();
    let mut finished = false;
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("[ok]: ") {
            *outcome.passed.entry(without_duration(name)).or_default() += 1;
        } else if let Some(rest) = line.strip_prefix("[err]: ") {
            let name = rest.rsplit_once(" in tests/").map_or(rest, |(name, _)| name).to_owned();
            let mut message = String::new();
            // The list of failed tests at the end repeats the name, with a `***` before it.
            while let Some(more) = lines.next_if(|l| !l.starts_with('[') && !l.is_empty()) {
                message.push_str(more.trim());
                message.push(' ');
            }
            outcome.failed.push((name, message.trim_end().to_owned()));
        } else if line.starts_with("[exception]") {
            let text = lines.by_ref().take(2).collect::<Vec<_>>().join(" ");
            let text = format!("{} {text}", line.trim_start_matches("[exception]: "));
            outcome.broken_off.get_or_insert(text);
        } else if line.starts_with("Execution time of different units") {
            finished = true;
        }
    }
    if !finished {
        outcome.broken_off.get_or_insert_with(|| "the run did not come to its end".into());
    }
    outcome
}

/// `name (12 ms)` → `name`.
fn without_duration(line: &str) -> String {
    let name = line.rsplit_once(" (").filter(|(_, rest)| rest.ends_with(" ms)"));
    name.map_or(line, |(name, _)| name).trim_end().to_owned()
}

fn strip_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, tail)| tail);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "\x1b[1mTesting unit/x\x1b[0m\n[\x1b[0;32mok\x1b[0m]: a (b) (3 ms)\n\
        [\x1b[0;32mok\x1b[0m]: twice (0 ms)\n[\x1b[0;32mok\x1b[0m]: twice (1 ms)\n\
        [\x1b[0;31merr\x1b[0m]: bad one in tests/unit/x.tcl\nExpected 1 to be 2\n\n";

    #[test]
    fn outcomes() {
        let whole = parse(&format!("{RUN}Execution time of different units:\n"));
        assert_eq!(whole.count(), 3);
        assert_eq!(whole.passed["a (b)"], 1);
        assert_eq!(whole.failed, [("bad one".into(), "Expected 1 to be 2".into())]);
        assert_eq!(whole.broken_off, None);
        let cut = parse("[ok]: twice (0 ms)\n[exception]: Executing test client: I/O error.\n");
        let missing = cut.missing(&whole);
        assert_eq!(missing.len(), 2);
        assert!(missing[0].1.contains("I/O error"), "{missing:?}");
    }
}
