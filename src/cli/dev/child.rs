//! Programs that run as long as this one: they end with it, however it ends.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// What takes longest is PostgreSQL's recovery after a crash.
const START: Duration = Duration::from_secs(120);

/// After that a program that was asked to end is killed.
const END: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(50);

/// What to start.
pub struct Program {
    name: &'static str,
    path: PathBuf,
    args: Vec<OsString>,
    /// Run as this user; None: as ourselves.
    user: Option<&'static str>,
    /// Where its output goes; None: to our standard error.
    log: Option<PathBuf>,
    /// Asks it to end.
    end: Signal,
    without: Vec<String>,
}

impl Program {
    pub fn new(name: &'static str, path: impl Into<PathBuf>) -> Program {
        Program {
            name,
            path: path.into(),
            args: Vec::new(),
            user: None,
            log: None,
            end: Signal::TERM,
            without: Vec::new(),
        }
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn user(mut self, user: Option<&'static str>) -> Program {
        self.user = user;
        self
    }

    pub fn log(mut self, path: PathBuf) -> Program {
        self.log = Some(path);
        self
    }

    pub fn end(mut self, signal: Signal) -> Program {
        self.end = signal;
        self
    }

    /// These variables are not handed on.
    pub fn without(mut self, names: Vec<String>) -> Program {
        self.without = names;
        self
    }

    /// Ctrl-C is for this process alone, which ends the others in order.
    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new("setpriv");
        if let Some(user) = self.user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        let end = if self.end == Signal::INT { "INT" } else { "TERM" };
        command.args(["--pdeathsig", end, "--"]).arg(&self.path).args(&self.args);
        for name in &self.without {
            command.env_remove(name);
        }
        command.process_group(0).stdin(Stdio::null());
        let Some(log) = &self.log else {
            command.stdout(Stdio::from(std::io::stderr()));
            return Ok(command);
        };
        let cannot = || format!("cannot write {}", log.display());
        let file = OpenOptions::new().create(true).append(true).open(log).with_context(cannot)?;
        command.stdout(file.try_clone().with_context(cannot)?).stderr(file).current_dir("/");
        Ok(command)
    }
}

struct Child {
    name: &'static str,
    log: Option<PathBuf>,
    end: Signal,
    process: std::process::Child,
}

impl Child {
    fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    async fn stop(&mut self) {
        let began = Instant::now();
        if let Ok(pid) = i32::try_from(self.process.id())
            && let Some(pid) = Pid::from_raw(pid)
            && !self.has_ended()
        {
            // An error says that it has just ended.
            let _ = kill_process(pid, self.end);
        }
        while !self.has_ended() {
            if began.elapsed() > END {
                let _ = self.process.kill();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// In the order in which they were started.
#[derive(Default)]
pub struct Children(Vec<Child>);

impl Children {
    /// Starts a program and says its process's number.
    pub fn start(&mut self, program: &Program) -> anyhow::Result<u32> {
        let process = program.command()?.spawn().with_context(|| {
            format!("cannot start {} by setpriv (package util-linux)", program.name)
        })?;
        let pid = process.id();
        let Program { name, log, end, .. } = program;
        self.0.push(Child { name, log: log.clone(), end: *end, process });
        Ok(pid)
    }

    /// Waits until `ready`; an error when a child ends before that, or when it takes too long.
    pub async fn until(&mut self, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !ready() {
            self.all_run()?;
            if began.elapsed() > START {
                let name = self.0.last().map_or("nothing", |child| child.name);
                bail!("{name} is not ready after {} s", START.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits for the end of one of them, which nobody has asked for.
    pub async fn until_one_ends(&mut self) -> anyhow::Result<()> {
        loop {
            self.all_run()?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn all_run(&mut self) -> anyhow::Result<()> {
        match self.0.iter_mut().find_map(|child| child.has_ended().then_some(&*child)) {
            None => Ok(()),
            Some(Child { name, log: None, .. }) => bail!("{name} has ended"),
            Some(Child { name, log: Some(log), .. }) => {
                bail!("{name} has ended; the end of {}:\n{}", log.display(), tail(log))
            }
        }
    }

    /// Asks them to end, the last one first, each when the one before has ended.
    pub async fn stop(&mut self) {
        for child in self.0.iter_mut().rev() {
            child.stop().await;
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
