//! `tandem dev`: everything from one command, and nothing left behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;
use support::{Client, Scratch, Value, wait_for};

/// initdb and a first start on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(["dev", "--json", "--dir"]).arg(dir);
    command
}

/// The running command, and the addresses that it has printed. It is killed when dropped, with what it has started.
struct Dev {
    child: Child,
    addresses: Json,
}

impl Dev {
    fn start(dir: &Path) -> Dev {
        let log = std::fs::File::create(dir.with_extension("log")).expect("a log");
        let mut child = command(dir)
            // What says where the servers are counts for nothing here.
            .env("REDIS_HOST", "nowhere.invalid")
            .env("POSTGRES_PORT", "1")
            .env("TANDEM_LOG_LEVEL", "warn")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let addresses = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
            panic!("{error}: {line:?}\n{log}")
        });
        Dev { child, addresses }
    }

    fn address(&self, name: &str) -> String {
        let url = self.addresses[name].as_str().unwrap_or_else(|| panic!("{}", self.addresses));
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default().to_owned()
    }

    fn client(&self, name: &str) -> Client {
        let mut client = Client::connect(&self.address(name)[..]).expect("connected");
        client.set_timeout(LIMIT);
        client
    }

    /// Where the three servers and the proxy's own interface listen.
    fn everything(&self) -> Vec<String> {
        ["url", "admin", "redis", "postgres"].map(|name| self.address(name)).to_vec()
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        kill(pid, signal).expect("sent");
        let mut code = None;
        wait_for("the end", LIMIT, || match self.child.try_wait().expect("known") {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nobody_listens(addresses: &[String]) -> bool {
    addresses.iter().all(|address| std::net::TcpStream::connect(&address[..]).is_err())
}

#[test]
fn everything_starts_and_ends_with_it_and_the_data_stays() {
    let scratch = Scratch::new("dev");
    let dir = scratch.path().join("data");
    let dev = Dev::start(&dir);
    assert_eq!(dev.client("url").run("SET k v"), Value::ok());
    assert_eq!(dev.client("redis").run("GET k"), Value::bulk("v"));
    let rows = Command::new("psql")
        .args(["-XAtc", "SELECT count(*) FROM tandem.keys"])
        .arg(dev.addresses["postgres"].as_str().expect("an address"))
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&rows.stdout).trim(), "1");
    let status = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["health", "--config", dev.addresses["config"].as_str().expect("a path")])
        .output()
        .expect("it runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));

    // The directory is taken.
    let second = command(&dir).output().expect("it runs");
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1));
    assert!(told.contains("another `tandem dev` runs in"), "{told}");

    let addresses = dev.everything();
    assert_eq!(dev.end(Signal::SIGTERM), Some(0));
    assert!(nobody_listens(&addresses));

    let dev = Dev::start(&dir);
    assert_eq!(dev.client("url").run("GET k"), Value::bulk("v"));
    let addresses = dev.everything();
    assert_eq!(dev.end(Signal::SIGKILL), None);
    wait_for("the servers to end with it", LIMIT, || nobody_listens(&addresses));

    let dev = Dev::start(&dir);
    assert_eq!(dev.client("url").run("GET k"), Value::bulk("v"));
    assert_eq!(dev.end(Signal::SIGINT), Some(0));
    let log = std::fs::read_to_string(dir.with_extension("log")).expect("a log");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let scratch = Scratch::new("dev");
    let dir = scratch.path().join("data");
    let ran = command(&dir).env("PATH", scratch.path()).output().expect("it runs");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{told}");
    assert!(told.contains("redis-server is not in PATH") && told.contains("apt install"), "{told}");
    assert!(!dir.exists());
}
