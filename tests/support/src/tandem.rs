use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{Process, Recipe, tail};
use crate::{Client, Port, Postgres, Redis, Scratch, Value};

/// How the proxy is configured and started.
#[derive(Clone, Debug)]
pub struct TandemOptions {
    program: PathBuf,
    config: toml::Table,
    env: Vec<(String, String)>,
    password: Option<String>,
    allowed: Vec<String>,
}

impl TandemOptions {
    pub fn redis(self, redis: &Redis) -> Self {
        self.redis_url(&redis.url())
    }

    pub fn redis_url(mut self, url: &str) -> Self {
        let password = url.split_once('@').and_then(|(left, _)| left.rsplit_once(':'));
        self.password = password.map(|(_, p)| p.to_owned()).filter(|p| !p.is_empty());
        self.set("redis", "url", url)
    }

    pub fn postgres(self, postgres: &Postgres) -> Self {
        self.set("postgres", "url", postgres.url())
    }

    /// The strategy, such as `redis_only`. The default of the configuration is `dual_write`.
    pub fn mode(self, mode: &str) -> Self {
        self.set("strategy", "mode", mode)
    }

    /// Sets one key of proxy.toml: `.set("limits", "max_depth", 4)`.
    pub fn set(mut self, section: &str, key: &str, value: impl Into<toml::Value>) -> Self {
        let table = self.config.entry(section).or_insert_with(|| toml::Table::new().into());
        if let toml::Value::Table(table) = table {
            table.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Adds a `[[family]]` rule, given as the lines of its table.
    pub fn family(mut self, lines: &str) -> Self {
        let rule: toml::Table = lines.parse().unwrap_or_else(|e| panic!("{lines}: {e}"));
        let rules = self.config.entry("family").or_insert_with(|| Vec::<toml::Value>::new().into());
        if let toml::Value::Array(rules) = rules {
            rules.push(rule.into());
        }
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Expects log lines of level WARN or ERROR that contain `text`; the empty text turns the check off.
    pub fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Starts the proxy and waits until it answers PING.
    pub fn start(self) -> Tandem {
        let mut tandem = self.prepare();
        tandem.restart();
        tandem
    }

    /// Writes the configuration and takes the ports, but starts nothing yet.
    pub fn prepare(self) -> Tandem {
        let scratch = Scratch::new("tandem");
        let (port, admin) = (Port::take(), Port::take());
        let spool = scratch.path().join("spool").display().to_string();
        let TandemOptions { program, config: wanted, env, password, allowed } = self;
        let defaults = TandemOptions::new(program)
            .set("listen", "address", format!("127.0.0.1:{}", port.number()))
            .set("admin", "address", format!("127.0.0.1:{}", admin.number()))
            .set("mirror", "spool_dir", spool)
            // Tests ask for checks themselves.
            .set("sync", "on_startup", false)
            .set("sync", "interval_ms", 0)
            // More than one, so that clients on different workers meet.
            .set("listen", "workers", 2);
        let mut config = defaults.config;
        for (section, value) in wanted {
            match (config.get_mut(&section), value) {
                (Some(toml::Value::Table(table)), toml::Value::Table(more)) => table.extend(more),
                (_, value) => {
                    config.insert(section, value);
                }
            }
        }
        let path = scratch.path().join("proxy.toml");
        std::fs::write(&path, config.to_string()).unwrap_or_else(|e| panic!("proxy.toml: {e}"));
        let recipe = Recipe {
            program: defaults.program,
            args: vec!["serve".into(), "--config".into(), path.display().to_string()],
            env: env.into_iter().chain([("NO_COLOR".into(), "1".into())]).collect(),
            log: scratch.path().join("tandem.log"),
            user: None,
            last_signal: Signal::SIGKILL,
        };
        Tandem { process: None, recipe, port, admin, password, allowed, scratch }
    }

    fn new(program: impl Into<PathBuf>) -> Self {
        // A long run wants the release build, which cargo does not give to tests.
        let other = std::env::var_os("TANDEM_TEST_BIN").map(PathBuf::from);
        TandemOptions {
            program: other.unwrap_or_else(|| program.into()),
            config: toml::Table::new(),
            env: Vec::new(),
            password: None,
            allowed: Vec::new(),
        }
    }
}

/// The running proxy. When the guard is dropped, its log must hold no panic and no line of level WARN or
/// ERROR other than those allowed: otherwise the test fails.
#[derive(Debug)]
pub struct Tandem {
    process: Option<Process>,
    recipe: Recipe,
    port: Port,
    admin: Port,
    password: Option<String>,
    allowed: Vec<String>,
    scratch: Scratch,
}

impl Tandem {
    /// Options for the built binary: `Tandem::new(env!("CARGO_BIN_EXE_tandem"))`.
    #[allow(clippy::new_ret_no_self, reason = "reads as the beginning of what ends in start()")]
    pub fn new(program: impl Into<PathBuf>) -> TandemOptions {
        TandemOptions::new(program)
    }

    /// Starts the process again with the same configuration and ports, and waits until it answers PING.
    pub fn restart(&mut self) {
        self.spawn();
        let start = Instant::now();
        while !self.answers() {
            self.assert_running();
            let limit = Duration::from_secs(20);
            assert!(start.elapsed() < limit, "no answer from tandem:\n{}", tail(&self.recipe.log));
            std::thread::sleep(Duration::from_millis(5));
        }
        // PostgreSQL, where it leads, takes a while to be opened; it may not be there at all.
        let patience = Duration::from_secs(5);
        while start.elapsed() < patience && self.is_loading() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_loading(&self) -> bool {
        let Ok(mut client) = Client::connect(("127.0.0.1", self.port())) else { return false };
        client.set_timeout(Duration::from_secs(2));
        let answer = client.try_call(["PING"]);
        answer.is_ok_and(|reply| reply.is_error() && format!("{reply:?}").contains("LOADING"))
    }

    /// As [`Tandem::restart`], without waiting.
    pub fn spawn(&mut self) {
        self.process = None;
        self.process = Some(Process::spawn(&self.recipe));
    }

    /// What the proxy says about itself: names and values of `TANDEM STATUS`.
    pub fn status(&self) -> BTreeMap<String, String> {
        let items = self.client().call(["TANDEM", "STATUS"]).items();
        let text = |value: &Value| match value {
            Value::Int(n) => n.to_string(),
            other => other.text(),
        };
        items.chunks(2).filter_map(|p| Some((text(p.first()?), text(p.get(1)?)))).collect()
    }

    /// Waits until the mirror follows the replication stream.
    pub fn wait_streaming(&self) {
        crate::wait_for("the mirror to stream", Duration::from_secs(60), || {
            self.status().get("mirror_state").is_some_and(|state| state == "streaming")
        });
    }

    /// Waits until replies to writes wait for PostgreSQL, or until they do not. A first resync has to be
    /// over: they wait before it, and not while it is under way.
    pub fn wait_holding(&self, holding: bool) {
        if holding {
            self.wait_streaming();
        }
        let wanted = if holding { "1" } else { "0" };
        crate::wait_for("the gate", Duration::from_secs(60), || {
            self.status().get("ack_holding").is_some_and(|now| now == wanted)
        });
    }

    /// True when commands are answered from a backend. Each of the proxy's workers learns for itself that its server is
    /// back, and takes some of the clients.
    pub fn serves(&self) -> bool {
        self.answers() && (0..16).all(|_| !self.client().run("GET none").is_error())
    }

    pub fn wait_serving(&self) {
        crate::wait_for("clients to be served", Duration::from_secs(30), || self.serves());
    }

    /// Waits until `TANDEM STATUS` has this value in this field; the proxy may be away meanwhile.
    pub fn wait_status(&self, field: &str, value: &str) {
        crate::wait_for(&format!("{field} to be {value}"), Duration::from_secs(30), || {
            self.answers() && self.status()[field] == value
        });
    }

    /// True when the proxy answers PING, be it with an error such as NOAUTH.
    pub fn answers(&self) -> bool {
        let Ok(mut client) = Client::connect(("127.0.0.1", self.port())) else { return false };
        client.set_timeout(Duration::from_secs(2));
        client.try_call(["PING"]).is_ok()
    }

    /// Panics when the process has ended.
    pub fn assert_running(&mut self) {
        let status = self.ended();
        assert!(status.is_none(), "tandem ended ({status:?}):\n{}", tail(&self.recipe.log));
    }

    pub fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
        self.process = None;
    }

    /// SIGTERM; returns the exit status. Panics when the proxy has not ended after `limit`.
    pub fn stop(&mut self, limit: Duration) -> std::process::ExitStatus {
        let mut process = self.process.take().unwrap_or_else(|| panic!("tandem is stopped"));
        process.stop(Signal::SIGTERM, limit)
    }

    pub fn pause(&self) {
        self.process().pause();
    }

    pub fn resume(&self) {
        self.process().resume();
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("tandem is stopped"))
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn admin_port(&self) -> u16 {
        self.admin.number()
    }

    /// Its directory, with `proxy.toml`, `tandem.log` and the spool.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// A new connection, authenticated with the password of `redis.url` when there is one.
    pub fn client(&self) -> Client {
        let mut client = self.raw_client();
        if let Some(password) = &self.password {
            let reply = client.call(["AUTH", password]);
            assert!(!reply.is_error(), "AUTH: {reply:?}");
        }
        client
    }

    /// A new connection on which nothing has been sent.
    pub fn raw_client(&self) -> Client {
        Client::connect(("127.0.0.1", self.port()))
            .unwrap_or_else(|e| panic!("connect to tandem: {e}\n{}", tail(&self.recipe.log)))
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.recipe.log).unwrap_or_default()).into_owned()
    }

    /// From now on log lines of level WARN or ERROR that contain `text` are expected.
    pub fn allow(&mut self, text: &str) {
        self.allowed.push(text.to_owned());
    }

    /// The exit status, when the process has ended by itself.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.as_mut().and_then(Process::exited)
    }

    /// All log lines of level WARN and ERROR, and panics.
    pub fn warnings(&self) -> Vec<String> {
        let log = self.log();
        let bad = log.lines().filter(|line| {
            let level = line.split_whitespace().take(3).any(|word| {
                matches!(word, "WARN" | "ERROR")
                    || word.contains("\"level\":\"WARN\"")
                    || word.contains("\"level\":\"ERROR\"")
            });
            level || line.contains("panicked at")
        });
        bad.map(str::to_owned).collect()
    }
}

impl Drop for Tandem {
    fn drop(&mut self) {
        let status = self.ended();
        self.process = None;
        if std::thread::panicking() {
            eprintln!("{}", tail(&self.recipe.log));
            return;
        }
        let allowed = |line: &str| self.allowed.iter().any(|text| line.contains(text));
        if allowed("") {
            return;
        }
        assert!(
            status.is_none(),
            "tandem ended by itself ({status:?}):\n{}",
            tail(&self.recipe.log)
        );
        let lines: Vec<String> =
            self.warnings().into_iter().filter(|line| !allowed(line)).collect();
        assert!(lines.is_empty(), "unexpected in tandem's log:\n{}", lines.join("\n"));
    }
}
