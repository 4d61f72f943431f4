//! Real clients through the proxy: ioredis and redis-py as their registries ship them
//! (`tests/clients/install` puts them below `target/`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::compare::Sides;
use support::{Certificates, Port, Postgres, Redis, Tandem, wait_for};

/// The directory that `tests/clients/install` fills; None, visibly, where nobody has run it.
pub(crate) fn installed(what: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = std::env::var_os("TANDEM_TEST_CLIENTS");
    let dir = dir.map_or_else(|| root.join("target/clients"), PathBuf::from);
    if dir.join(what).exists() {
        return Some(dir);
    }
    let required = std::env::var_os("TANDEM_TEST_REQUIRE_CLIENTS").is_some();
    assert!(!required, "{what} is missing: run tests/clients/install");
    eprintln!("SKIPPED: {what} is missing; run tests/clients/install");
    None
}

struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        // It has usually ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a client's suite. It asks for faults with lines that start with `@`.
fn run(command: &mut Command, redis: &mut Redis, tandem: &mut Tandem, port: u16) {
    let command =
        command.env("TANDEM_PORT", port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = Script(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
    let (mut input, output) = (script.0.stdin.take().unwrap(), script.0.stdout.take().unwrap());
    let mut passed = 0;
    for line in BufReader::new(output).lines() {
        let line = line.unwrap();
        println!("{line}");
        passed += usize::from(line.starts_with("ok "));
        let Some(fault) = line.strip_prefix("@ ") else { continue };
        match fault {
            "kill redis" => redis.kill9(),
            "start redis" => redis.restart(),
            "pause redis" => redis.pause(),
            "resume redis" => redis.resume(),
            "wait for redis" => wait_for("Redis to lead", Duration::from_secs(60), || {
                let status = tandem.status();
                status["lead"] == "redis" && status["mirror_state"] == "streaming"
            }),
            "restart proxy" => {
                tandem.kill9();
                tandem.restart();
            }
            other => panic!("unknown fault {other}"),
        }
        input.write_all(b"done\n").unwrap();
    }
    let status = script.0.wait().unwrap();
    assert!(status.success() && passed > 0, "the suite failed: {status}");
}

fn ioredis(mode: &str) {
    let Some(dir) = installed("node_modules/ioredis") else { return };
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .mode(mode)
        // The suite kills Redis.
        .allow("redis")
        .allow("Redis")
        .start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ioredis.cjs");
    let mut command = Command::new("node");
    command.arg(script).env("NODE_PATH", dir.join("node_modules"));
    let port = tandem.port();
    run(&mut command, &mut redis, &mut tandem, port);
}

/// The same suite over TLS, on a port beside the plain one.
#[test]
fn ioredis_over_tls() {
    let Some(dir) = installed("node_modules/ioredis") else { return };
    let certificates = Certificates::new("IP:127.0.0.1");
    let (mut redis, postgres, port) = (Redis::start(), Postgres::start(), Port::take());
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        // The suite takes Redis away and expects errors.
        .mode("redis_only")
        .set("listen", "tls_address", format!("127.0.0.1:{}", port.number()))
        .set("listen", "tls_cert", certificates.path("server.crt"))
        .set("listen", "tls_key", certificates.path("server.key"))
        .allow("redis")
        .allow("Redis")
        .start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ioredis.cjs");
    let mut command = Command::new("node");
    command.arg(script).env("NODE_PATH", dir.join("node_modules"));
    command.env("TANDEM_CA", certificates.path("ca.crt"));
    run(&mut command, &mut redis, &mut tandem, port.number());
}

fn redis_py(mode: &str) {
    let Some(dir) = installed("venv/bin/python") else { return };
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .mode(mode)
        .start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/redis_py.py");
    let (port, mut python) = (tandem.port(), Command::new(dir.join("venv/bin/python")));
    run(python.arg(script), &mut redis, &mut tandem, port);
}

#[test]
fn ioredis_redis_only() {
    ioredis("redis_only");
}

/// With its default settings, while PostgreSQL stands in for Redis.
#[test]
fn ioredis_loses_nothing_when_redis_fails() {
    let Some(dir) = installed("node_modules/ioredis") else { return };
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).postgres(&postgres);
    let mut tandem = options.mode("dual_write").allow("").start();
    tandem.wait_holding(true);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ioredis_failover.cjs");
    let mut command = Command::new("node");
    command.arg(script).env("NODE_PATH", dir.join("node_modules"));
    let port = tandem.port();
    run(&mut command, &mut redis, &mut tandem, port);
    Sides::new(&redis, &postgres).assert_equal();
}

#[test]
fn redis_py_redis_only() {
    redis_py("redis_only");
}
