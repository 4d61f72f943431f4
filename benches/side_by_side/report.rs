use std::fmt::Write;
use std::process::Command;

/// One line of the table.
struct Line {
    load: String,
    measured: String,
    target: String,
    met: Option<bool>,
}

/// The table of everything measured in this run.
pub struct Report {
    rounds: usize,
    lines: Vec<Line>,
}

impl Report {
    pub fn new(rounds: usize) -> Report {
        Report { rounds, lines: Vec::new() }
    }

    /// Adds a line; `met` is None where nothing was promised.
    pub fn add(&mut self, load: &str, measured: &str, target: &str, met: Option<bool>) {
        let verdict = met.map_or("", |met| if met { "met" } else { "MISSED" });
        println!("{load}: {measured} {target} {verdict}");
        let (load, measured, target) = (load.into(), measured.into(), target.into());
        self.lines.push(Line { load, measured, target, met });
    }

    pub fn text(&self) -> String {
        let mut text = String::from("# Measured side by side\n\n");
        let commit = command("git", &["rev-parse", "--short", "HEAD"]);
        let changed = command("git", &["status", "--porcelain", "--", "src", "Cargo.lock"]);
        let changed = if changed.is_empty() { "" } else { " with local changes" };
        let date = command("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
        let cpu = cpu.map_or("unknown CPU", |(_, name)| name);
        let versions = [
            command("redis-server", &["--version"])
                .split_whitespace()
                .nth(2)
                .unwrap_or("")
                .to_owned(),
            command("psql", &["--version"]),
            command("haproxy", &["-v"]).lines().next().unwrap_or("").to_owned(),
        ];
        let rounds = self.rounds;
        let _ = writeln!(
            text,
            "`./dev bench` on {date}, commit {commit}{changed}; {cores} cores ({cpu}), shared by the load, the servers\n\
             and the proxies. Medians of {rounds} alternating rounds. Redis {}; nutcracker 0.5.\n\
             fsync and synchronous_commit are on.\n",
            versions.join("; ")
        );
        text.push_str("| load | measured | target | |\n| --- | --- | --- | --- |\n");
        for line in &self.lines {
            let verdict = line.met.map_or("", |met| if met { "met" } else { "**missed**" });
            let _ = writeln!(
                text,
                "| {} | {} | {} | {verdict} |",
                line.load, line.measured, line.target
            );
        }
        text.push_str("\n[PROFILE.md](PROFILE.md) says where the time goes.\n");
        text
    }
}

fn command(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => numbers[n / 2],
        n => f64::midpoint(numbers[n / 2 - 1], numbers[n / 2]),
    }
}

/// `123456.7` → `123,457`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0
            && (digits.len() - index).is_multiple_of(3)
            && digits.as_bytes()[index - 1] != b'-'
        {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
