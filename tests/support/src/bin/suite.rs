//! Redis's own test suite, file by file: passed straight, passed through the proxy, and the name of every difference.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;
use support::suite::{FILES, Known, Mode, Row, Runner, known_differences, print_rows, write_json};

#[derive(Parser)]
#[command(about, name = "./dev suite")]
struct Options {
    /// Test files, such as unit/scan or scan; all when none is named.
    files: Vec<String>,
    /// The unpacked source of Redis.
    #[arg(long)]
    source: PathBuf,
    /// Outputs, logs and results.json go here.
    #[arg(long)]
    out: PathBuf,
    /// The proxy.
    #[arg(long)]
    tandem: PathBuf,
    /// Strategies to run through; repeat for several. None: all in which Redis answers.
    #[arg(long = "mode", value_parser = ["redis_only", "cache_first", "dual_write", "postgres_only"])]
    modes: Vec<String>,
    /// Files at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seconds that one run of one file may take.
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// How often a file with differences is run again; a test that passes once is reported as unsteady.
    #[arg(long, default_value_t = 2)]
    again: u32,
    /// Do not compare both sides after a file.
    #[arg(long)]
    no_compare: bool,
    /// The table of differences that are known and explained.
    #[arg(long, default_value = "docs/suite-differences.md")]
    known: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> std::io::Result<bool> {
    std::fs::create_dir_all(&options.out)?;
    let runner = Runner {
        source: options.source.canonicalize()?,
        out: options.out.canonicalize()?,
        tandem: options.tandem.canonicalize()?,
        limit: Duration::from_secs(options.limit),
        again: options.again,
        compare: !options.no_compare,
    };
    let known = known_differences(&options.known)?;
    let wanted = |mode: &Mode| match options.modes.is_empty() {
        true => !mode.is_local(),
        false => options.modes.iter().any(|m| m == mode.name()),
    };
    let modes: Vec<Mode> =
        Mode::ALL.into_iter().filter(|m| *m != Mode::Straight && wanted(m)).collect();
    let mut rows = all(&runner, &files(&options.files), &modes, options.jobs, &known);
    let order = |file: &str| FILES.iter().position(|f| *f == file);
    rows.sort_by_key(|row| order(&row.file));
    println!();
    let fine = print_rows(&rows, &known);
    write_json(&options.out.join("results.json"), &rows, &known)?;
    println!("details: {}", options.out.display());
    Ok(fine)
}

fn files(named: &[String]) -> Vec<String> {
    let full = |name: &String| {
        let known = FILES.iter().find(|f| **f == name || f.strip_prefix("unit/") == Some(name));
        let short = || FILES.iter().find(|f| f.rsplit('/').next() == Some(name));
        known.or_else(short).map_or_else(|| name.clone(), |f| (*f).to_owned())
    };
    if named.is_empty() {
        FILES.iter().map(|f| (*f).into()).collect()
    } else {
        named.iter().map(full).collect()
    }
}

fn all(runner: &Runner, files: &[String], modes: &[Mode], jobs: usize, known: &Known) -> Vec<Row> {
    let queue: Mutex<VecDeque<&String>> = Mutex::new(files.iter().collect());
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(file) = next else { break };
                    let straight = runner.run_caught(file, Mode::Straight).outcome;
                    let through = modes
                        .iter()
                        .map(|mode| (*mode, runner.run_steadily(file, *mode, &straight)))
                        .collect();
                    let row = Row { file: file.clone(), straight, through };
                    if let Ok(mut rows) = rows.lock() {
                        row.print(known);
                        rows.push(row);
                    }
                }
            });
        }
    });
    rows.into_inner().unwrap_or_default()
}
