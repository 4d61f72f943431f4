use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::unistd::{User, getuid};

use crate::process::{Process, Recipe, find_program, tail};
use crate::{Port, Scratch, SmallDisk, wait_for};

/// A private PostgreSQL with its defaults for durability: fsync and `synchronous_commit` are on.
/// Any local user may log in as `postgres`, without a password.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    recipe: Recipe,
    bin: PathBuf,
    port: Port,
    data: PathBuf,
    scratch: Scratch,
}

impl Postgres {
    pub fn start() -> Postgres {
        Self::with_settings(&[])
    }

    /// Starts a server with additional settings, such as `("max_connections", "20")`.
    pub fn with_settings(settings: &[(&str, &str)]) -> Postgres {
        let scratch = Scratch::new("postgres");
        let data = scratch.path().join("data");
        Self::in_directory(scratch, data, settings)
    }

    /// Starts a server whose data are on `disk`, which has to outlive it and needs 128 MiB.
    pub fn on_disk(disk: &SmallDisk, settings: &[(&str, &str)]) -> Postgres {
        Self::in_directory(Scratch::new("postgres"), disk.path().join("data"), settings)
    }

    fn in_directory(scratch: Scratch, data: PathBuf, settings: &[(&str, &str)]) -> Postgres {
        let bin = bin_dir();
        let user = server_user();
        let template = template(&bin, user.as_deref());
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(&data));
        let sockets = scratch.path().join("sockets");
        std::fs::create_dir(&sockets).unwrap_or_else(|e| panic!("{}: {e}", sockets.display()));
        if let Some(user) = &user {
            run(Command::new("chown").arg(user).arg(&sockets));
        }
        let port = Port::take();
        let mut args = vec!["-D".to_owned(), data.display().to_string()];
        let ours = [
            ("port", port.number().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", sockets.display().to_string()),
        ];
        let theirs = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        for (name, value) in ours.into_iter().chain(theirs) {
            args.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let recipe = Recipe {
            program: bin.join("postgres"),
            args,
            env: vec![("LC_ALL".into(), "C".into())],
            log: scratch.path().join("postgres.log"),
            user,
            // Immediate shutdown: also frees its shared memory.
            last_signal: Signal::SIGQUIT,
        };
        let mut postgres = Postgres { process: None, recipe, bin, port, data, scratch };
        postgres.restart();
        postgres
    }

    /// Starts the server on the same data and port, after its own crash recovery where that is due.
    pub fn restart(&mut self) {
        self.process = None;
        let mut process = Process::spawn(&self.recipe);
        let log = self.recipe.log.clone();
        let pid_file = self.data_dir().join("postmaster.pid");
        wait_for("PostgreSQL to accept connections", Duration::from_secs(60), || {
            assert!(process.exited().is_none(), "postgres ended:\n{}", tail(&log));
            // The file's last line says what the server itself thinks; its first, whose file it is.
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            let own = text.lines().next() == Some(&process.pid().to_string());
            own && text.lines().last().is_some_and(|line| line.trim() == "ready")
        });
        self.process = Some(process);
    }

    /// SIGKILL for the server and all its backends.
    pub fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
        self.process = None;
    }

    /// Fast shutdown: ends all sessions, writes a checkpoint.
    pub fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.stop(Signal::SIGINT, Duration::from_secs(60));
        }
        self.process = None;
    }

    pub fn pause(&self) {
        self.process().pause();
    }

    pub fn resume(&self) {
        self.process().resume();
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("PostgreSQL is stopped"))
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `postgres://…/postgres`, over TCP.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data.clone()
    }

    /// Its directory, with `postgres.log`.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// True when the server has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.exited().is_some())
    }

    /// Sets a parameter for all sessions, those that are open too; `None` takes it back.
    pub fn alter_system(&self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'")),
            None => self.sql(&format!("ALTER SYSTEM RESET {name}")),
        };
        self.sql("SELECT pg_reload_conf()");
    }

    /// From now on nobody gets in over TCP, or everybody again; sessions that are open end.
    pub fn let_in(&self, everybody: bool) {
        let rule = if everybody { "trust" } else { "reject" };
        let rules = format!("local all all trust\nhost all all 127.0.0.1/32 {rule}\n");
        let path = self.data.join("pg_hba.conf");
        std::fs::write(&path, rules).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.sql_locally(
            "SELECT pg_reload_conf(); SELECT pg_sleep(0.05);
             SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        );
    }

    /// The directory with `psql`, `pgbench` and their kin.
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.recipe.log).unwrap_or_default()).into_owned()
    }

    /// Runs SQL with `psql`; the rows come as lines, columns separated by `|`.
    pub fn sql(&self, text: &str) -> String {
        self.psql(text, &self.url())
    }

    /// The same over the Unix socket.
    fn sql_locally(&self, text: &str) -> String {
        let sockets = self.dir().join("sockets");
        let address = format!(
            "postgresql:///postgres?host={}&port={}&user=postgres",
            sockets.display(),
            self.port()
        );
        self.psql(text, &address)
    }

    fn psql(&self, text: &str, address: &str) -> String {
        // The server's own where it has one: packages with the server alone do without.
        let own = self.bin.join("psql");
        let program = if own.is_file() { own } else { "psql".into() };
        run(Command::new(program)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text])
            .arg(address))
    }
}

/// The newest PostgreSQL of this machine; `TANDEM_TEST_PG_BIN` chooses another.
fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("TANDEM_TEST_PG_BIN") {
        return dir.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut dirs: Vec<(u32, PathBuf)> = versions
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    dirs.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
    let dirs: Vec<PathBuf> = dirs.into_iter().map(|(_, dir)| dir).collect();
    let server = dirs.iter().map(|d| d.join("postgres")).find(|p| p.is_file());
    let server = server.or_else(|| find_program("postgres", &[]));
    let server = server.unwrap_or_else(|| panic!("postgres not found: apt install postgresql"));
    // A link in PATH leads to the directory that has initdb beside it.
    let server = server.canonicalize().unwrap_or(server);
    server.parent().unwrap_or(Path::new("/")).to_owned()
}

/// PostgreSQL refuses to run as root.
pub(crate) fn server_user() -> Option<String> {
    if !getuid().is_root() {
        return None;
    }
    let known = |name: &&str| matches!(User::from_name(name), Ok(Some(_)));
    let user = ["postgres", "nobody"].into_iter().find(known);
    Some(user.unwrap_or_else(|| panic!("no user `postgres` or `nobody` to run postgres as")).into())
}

/// An initdb'd data directory, made once per version and copied for each server.
fn template(bin: &Path, user: Option<&str>) -> PathBuf {
    let version = run(Command::new(bin.join("postgres")).arg("--version"));
    let number = version.split_whitespace().nth(2).unwrap_or("unknown");
    let base = std::env::temp_dir().join(format!("tandem-pg-{number}-{}", getuid()));
    std::fs::create_dir_all(&base).unwrap_or_else(|e| panic!("{}: {e}", base.display()));
    let lock =
        File::create(base.join("lock")).unwrap_or_else(|e| panic!("{}: {e}", base.display()));
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .unwrap_or_else(|(_, e)| panic!("lock {}: {e}", base.display()));
    let done = base.join("data");
    if done.exists() {
        return done;
    }
    let fresh = base.join("fresh");
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir(&fresh).unwrap_or_else(|e| panic!("{}: {e}", fresh.display()));
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        run(Command::new("chown").arg(user).arg(&fresh));
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--pdeathsig").arg("KILL").arg("--").arg(bin.join("initdb")).arg("-D").arg(&fresh);
    command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
    run(command.current_dir("/"));
    std::fs::rename(&fresh, &done).unwrap_or_else(|e| panic!("{}: {e}", done.display()));
    done
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
