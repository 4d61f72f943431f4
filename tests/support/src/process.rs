use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What to run, with its output appended to a log file.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub log: PathBuf,
    /// Run as this user; None: as ourselves.
    pub user: Option<String>,
    /// Sent by the kernel when the test process dies, and by [`Process`] when it is dropped.
    pub last_signal: Signal,
}

/// A running server process, killed when dropped and when the test process dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    last_signal: Signal,
    status: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn spawn(recipe: &Recipe) -> Process {
        let name = recipe.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let child = spawn_from_lasting_thread(recipe.clone())
            .unwrap_or_else(|e| panic!("start {}: {e}", recipe.program.display()));
        Process { name, child, last_signal: recipe.last_signal, status: None }
    }

    /// Starts another program, such as a proxy to compare with, with its output in `log`.
    pub fn start(program: &Path, args: &[&str], log: &Path) -> Process {
        Process::spawn(&Recipe {
            program: program.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            log: log.to_owned(),
            user: None,
            last_signal: Signal::SIGKILL,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, when the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap_or_else(|e| panic!("{}: {e}", self.name));
        }
        self.status
    }

    /// Waits for the process to end. Panics after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(start.elapsed() < limit, "{} still runs after {limit:?}", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal to the process and, for a server of several processes, to its children.
    pub fn signal_tree(&self, signal: Signal) {
        let pid = self.pid();
        // The parent first, so that it cannot replace a child that is already gone.
        send(pid, signal);
        for child in children(pid) {
            send(child, signal);
        }
    }

    /// SIGKILL for the process and its children, as if the power had failed for them.
    pub fn kill9(&mut self) {
        if self.exited().is_some() {
            return;
        }
        send(self.pid(), Signal::SIGSTOP);
        let children = children(self.pid());
        send(self.pid(), Signal::SIGKILL);
        children.iter().for_each(|child| send(*child, Signal::SIGKILL));
        self.wait(Duration::from_secs(10));
        crate::wait_for("children to end", Duration::from_secs(30), || {
            children.iter().all(|child| has_ended(*child))
        });
    }

    /// SIGSTOP: the process is there, and does not answer.
    pub fn pause(&self) {
        self.signal_tree(Signal::SIGSTOP);
    }

    /// SIGCONT after [`Process::pause`].
    pub fn resume(&self) {
        self.signal_tree(Signal::SIGCONT);
    }

    /// Sends `signal` and waits for the end.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> ExitStatus {
        if let Some(status) = self.exited() {
            return status;
        }
        send(self.pid(), signal);
        self.wait(limit)
    }

    /// Resident memory in bytes; 0 when the process has ended.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory in bytes that was ever resident; 0 when the process has ended.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok());
        kib.unwrap_or(0u64) * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_some() {
            return;
        }
        self.resume();
        send(self.pid(), self.last_signal);
        let start = Instant::now();
        while self.exited().is_none() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kill9();
    }
}

fn send(pid: u32, signal: Signal) {
    // ESRCH: it has just ended by itself.
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// State and parent of a process; `None`: there is none.
fn state(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state ppid …; the name may contain anything but its last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// A zombie has let go of everything: its parent may take its time to fetch the status.
fn has_ended(pid: u32) -> bool {
    state(pid).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| state(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

type Order = (Recipe, mpsc::Sender<io::Result<Child>>);

/// The kernel's parent-death signal fires when the *thread* that forked ends, so all processes are
/// started by one thread that lives as long as the test process.
fn spawn_from_lasting_thread(recipe: Recipe) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (recipe, reply) in orders {
                let _ = reply.send(spawn(&recipe));
            }
        });
        sender
    });
    let (sender, reply) = mpsc::channel();
    let gone = |_| io::Error::other("the spawner thread has ended");
    spawner.send((recipe, sender)).map_err(|_| io::Error::other("no spawner thread"))?;
    reply.recv().map_err(gone)?
}

fn spawn(recipe: &Recipe) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&recipe.log)?;
    let mut command = Command::new("setpriv");
    if let Some(user) = &recipe.user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    let signal = recipe.last_signal.as_str().trim_start_matches("SIG");
    command
        .args(["--pdeathsig", signal, "--"])
        .arg(&recipe.program)
        .args(&recipe.args)
        .envs(recipe.env.iter().map(|(k, v)| (k, v)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn()
}

/// The last lines of a log file, for the message of a failed test.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(30);
    format!("--- {} ---\n{}", log.display(), lines[from..].join("\n"))
}

/// Looks a program up in `PATH` and then in `extra` directories.
pub fn find_program(name: &str, extra: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(extra.iter().cloned());
    dirs.map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}
