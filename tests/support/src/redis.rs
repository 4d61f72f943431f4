use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::{Process, Recipe, find_program, tail};
use crate::{Client, Port, Scratch, Value, wait_for};

/// How a private Redis is started.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    args: Vec<String>,
    program: Option<PathBuf>,
}

impl RedisOptions {
    /// Adds a `redis-server` option, such as `.with("maxmemory", "50mb")`.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.args.push(format!("--{name}"));
        self.args.extend(value.split(' ').map(str::to_owned));
        self
    }

    /// Another server than the `redis-server` in `PATH`.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    pub fn start(self) -> Redis {
        Redis::with_options(self)
    }
}

/// A private `redis-server` without persistence (unless an option or [`Redis::save`] says otherwise).
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    recipe: Recipe,
    port: Port,
    password: Option<String>,
    scratch: Scratch,
}

impl Redis {
    pub fn start() -> Redis {
        RedisOptions::default().start()
    }

    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    fn with_options(options: RedisOptions) -> Redis {
        let scratch = Scratch::new("redis");
        let port = Port::take();
        let program = options.program.or_else(|| find_program("redis-server", &[]));
        let program =
            program.unwrap_or_else(|| panic!("redis-server not found: apt install redis-server"));
        let dir = scratch.path().display().to_string();
        let mut args: Vec<String> = [
            ["--port", &port.number().to_string()],
            ["--bind", "127.0.0.1"],
            ["--dir", &dir],
            ["--unixsocket", &format!("{dir}/redis.sock")],
            ["--save", ""],
            ["--repl-diskless-sync-delay", "0"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        args.extend(options.args.iter().cloned());
        let password = args.iter().position(|a| a == "--requirepass");
        let password = password.and_then(|at| args.get(at + 1).cloned());
        let recipe = Recipe {
            program,
            args,
            env: Vec::new(),
            log: scratch.path().join("redis.log"),
            user: None,
            last_signal: Signal::SIGKILL,
        };
        let mut redis = Redis { process: None, recipe, port, password, scratch };
        redis.restart();
        redis
    }

    /// Starts the server again on the same port, with what its directory holds, and waits until it has loaded it.
    pub fn restart(&mut self) {
        self.process = None;
        let mut process = Process::spawn(&self.recipe);
        let log = self.recipe.log.clone();
        wait_for("Redis to answer", Duration::from_secs(30), || {
            assert!(process.exited().is_none(), "redis-server ended:\n{}", tail(&log));
            self.try_client().is_some_and(|mut client| {
                client.try_call(["PING"]).is_ok_and(|r| r == Value::Simple("PONG".into()))
            })
        });
        self.process = Some(process);
    }

    fn try_client(&self) -> Option<Client> {
        let mut client = Client::connect(("127.0.0.1", self.port())).ok()?;
        if let Some(password) = &self.password {
            client.try_call(["AUTH", password]).ok()?;
        }
        Some(client)
    }

    /// SIGKILL; what was not on disk is lost.
    pub fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
        self.process = None;
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.stop(Signal::SIGTERM, Duration::from_secs(30));
        }
        self.process = None;
    }

    /// Removes everything that a restart would load.
    pub fn wipe_disk(&self) {
        assert!(self.process.is_none(), "stop Redis before its disk is wiped");
        let dir = self.dir();
        let _ = std::fs::remove_file(dir.join("dump.rdb"));
        let _ = std::fs::remove_dir_all(dir.join("appendonlydir"));
    }

    /// Writes `dump.rdb` now, so that a restart finds the data.
    pub fn save(&self) {
        assert_eq!(self.client().call(["SAVE"]), Value::ok());
    }

    pub fn pause(&self) {
        self.process().pause();
    }

    pub fn resume(&self) {
        self.process().resume();
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("Redis is stopped"))
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Its directory, with `dump.rdb` and `redis.log`.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn unix_socket(&self) -> PathBuf {
        self.dir().join("redis.sock")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.recipe.log).unwrap_or_default()).into_owned()
    }

    /// `redis://…/0`, with the password when there is one.
    pub fn url(&self) -> String {
        let auth = self.password.as_ref().map(|p| format!(":{p}@")).unwrap_or_default();
        format!("redis://{auth}127.0.0.1:{}/0", self.port())
    }

    /// A new connection straight to Redis, authenticated.
    pub fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|| panic!("connect to Redis:\n{}", tail(&self.recipe.log)))
    }
}
