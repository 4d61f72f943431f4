use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Outcome, parse};
use crate::compare::Sides;
use crate::{Port, Postgres, Redis, Scratch, Tandem};

/// How long the mirror may take to catch up after a file: some end with a million effects in one script.
const EQUAL_LIMIT: Duration = Duration::from_secs(120);

/// How a file reaches Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Straight,
    Through(&'static str),
}

impl Mode {
    pub const ALL: [Mode; 5] = [
        Mode::Straight,
        Mode::Through("redis_only"),
        Mode::Through("cache_first"),
        Mode::Through("dual_write"),
        Mode::Through("postgres_only"),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Straight => "straight",
            Mode::Through(strategy) => strategy,
        }
    }

    /// Tests that wait without end, or leave the rest of their file no chance, because of something that
    /// this strategy cannot have. They are not run, and so they count as not passed.
    fn endless(self) -> &'static [&'static str] {
        match self {
            Mode::Through("postgres_only") => &[
                // Nothing is evicted for good.
                "Keyspace notifications: evicted events",
                "Tracking invalidation message of eviction keys should be before response",
                // How often a key is used is not counted.
                "RESTORE can set LFU",
            ],
            _ => &[],
        }
    }

    pub fn has_mirror(self) -> bool {
        matches!(self, Mode::Through("cache_first" | "dual_write"))
    }

    /// PostgreSQL answers, and no Redis runs.
    pub fn is_local(self) -> bool {
        self == Mode::Through("postgres_only")
    }
}

/// Runs test files, each against servers of its own.
#[derive(Clone, Debug)]
pub struct Runner {
    /// The unpacked source of Redis, with links to the installed programs in `src/`.
    pub source: PathBuf,
    /// Where each run's output goes.
    pub out: PathBuf,
    pub tandem: PathBuf,
    pub limit: Duration,
    /// How often a run with differences is repeated.
    pub again: u32,
    pub compare: bool,
}

/// One run, and what the comparer said afterwards in the modes that mirror.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub outcome: Outcome,
    pub mirror: Option<Result<usize, String>>,
    pub log_warnings: Vec<String>,
    /// Tests that passed in some of several runs only: they race with the server by themselves.
    pub unsteady: Vec<String>,
}

impl Runner {
    /// Runs `file` (such as `unit/scan`) in `mode`. A server that does not start spoils this run only.
    pub fn run_caught(&self, file: &str, mode: Mode) -> Run {
        let run = std::panic::AssertUnwindSafe(|| self.run(file, mode));
        std::panic::catch_unwind(run).unwrap_or_else(|_| {
            let broken_off = Some("the servers did not run: see stderr".to_owned());
            Run { outcome: Outcome { broken_off, ..Outcome::default() }, ..Run::default() }
        })
    }

    /// Repeats a run in which tests were lost, and counts what passed in any of the runs.
    pub fn run_steadily(&self, file: &str, mode: Mode, straight: &Outcome) -> Run {
        let mut run = self.run_caught(file, mode);
        for _ in 0..self.again {
            let lost = run.outcome.missing(straight);
            if lost.is_empty() {
                break;
            }
            let next = self.run_caught(file, mode);
            for (test, _) in lost {
                if let Some(count) = next.outcome.passed.get(&test) {
                    run.outcome.passed.insert(test.clone(), *count);
                    run.unsteady.push(test);
                }
            }
            if run.mirror.as_ref().is_none_or(Result::is_ok) {
                run.mirror = next.mirror;
            }
        }
        run
    }

    fn run(&self, file: &str, mode: Mode) -> Run {
        let redis = (!mode.is_local()).then(Redis::start);
        let (redis, strategy) = match (&redis, mode) {
            (Some(redis), Mode::Straight) => {
                return Run { outcome: self.runtest(file, mode, redis.port()), ..Run::default() };
            }
            (redis, mode) => (redis, mode.name()),
        };
        let postgres = (mode.has_mirror() || mode.is_local()).then(Postgres::start);
        let mut options = Tandem::new(&self.tandem).mode(strategy).allow("");
        if let Some(redis) = redis {
            options = options.redis(redis);
        }
        // As an operator has it: the tests' own default is another.
        options = options.set("listen", "workers", 0);
        if let Some(postgres) = &postgres {
            options = options.postgres(postgres);
        }
        let mut tandem = options.start();
        let mut outcome = self.runtest(file, mode, tandem.port());
        let mut mirror = None;
        if let Some(status) = tandem.ended() {
            outcome.broken_off = Some(format!("tandem ended: {status}"));
        } else if let (Some(redis), Some(postgres), true) = (redis, &postgres, self.compare) {
            let sides = Sides::new(redis, postgres);
            mirror = Some(sides.equal(EQUAL_LIMIT).map_err(|why| why.to_string()));
        }
        let log_warnings = tandem.warnings();
        let log = self.log_path(file, mode).with_extension("tandem.log");
        let _ = std::fs::write(log, tandem.log());
        Run { outcome, mirror, log_warnings, unsteady: Vec::new() }
    }

    fn log_path(&self, file: &str, mode: Mode) -> PathBuf {
        self.out.join(format!("{}.{}.txt", file.replace('/', "_"), mode.name()))
    }

    fn runtest(&self, file: &str, mode: Mode, port: u16) -> Outcome {
        let log = self.log_path(file, mode);
        // The suite writes into its own tree, so each run gets a copy.
        let scratch = Scratch::new("suite");
        let result = copy_tree(&self.source, scratch.path())
            .and_then(|()| self.spawn(file, mode, port, scratch.path(), &log))
            .and_then(|mut child| wait(&mut child, self.limit));
        let output = std::fs::read(&log).unwrap_or_default();
        let mut outcome = parse(&String::from_utf8_lossy(&output));
        match result {
            Ok(true) => {}
            Ok(false) => outcome.broken_off = Some(format!("no end after {:?}", self.limit)),
            Err(e) => outcome.broken_off = Some(format!("could not be run: {e}")),
        }
        outcome
    }

    fn spawn(
        &self,
        file: &str,
        mode: Mode,
        port: u16,
        tree: &Path,
        log: &Path,
    ) -> io::Result<Child> {
        let endless = mode.endless().iter();
        let log = File::create(log)?;
        let base_port = Port::take();
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "./runtest"])
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--single", file, "--ignore-encoding", "--ignore-digest"])
            .args(["--tags", "-slow -needs:debug -needs:repl -external:skip -cluster:skip"])
            .args(["--baseport", &base_port.number().to_string(), "--portcount", "200"])
            .args(endless.flat_map(|test| ["--skiptest", test]))
            .current_dir(tree)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let paths = ["runtest", "tests", "src/redis-cli", "src/redis-server", "src/redis-benchmark"];
    let mut command = Command::new("cp");
    let status =
        command.args(["-a", "--parents"]).args(paths).arg(to).current_dir(from).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}

/// True when the run ended by itself.
fn wait(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // The whole group: `runtest` starts tclsh, which starts more of itself.
    let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL)?;
    child.wait()?;
    Ok(false)
}
