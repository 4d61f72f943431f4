//! The command line against a running proxy, and against none.

use std::process::{Command, Output};

use serde_json::Value as Json;
use support::{Postgres, Scratch, Tandem, wait_for};

use super::{LIMIT, Trio};

pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn run(config: &std::path::Path, line: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(line.split(' ')).arg("--config").arg(config);
    ran(command.output().expect("it runs"))
}

pub fn cli(tandem: &Tandem, line: &str) -> Ran {
    run(&tandem.dir().join("proxy.toml"), line)
}

#[test]
fn commands_tell_what_the_proxy_says() {
    let mut trio = Trio::new("dual_write");
    trio.options = trio.options.set("admin", "token", "s3cret");
    let mut tandem = trio.ready();
    let health = cli(&tandem, "health");
    assert_eq!(health.code, Some(0), "{}", health.err);
    assert!(health.out.contains("status\thealthy\n"), "{}", health.out);
    let verbose = cli(&tandem, "health --verbose");
    assert!(verbose.out.contains("strategy\tdual_write\n"), "{}", verbose.out);
    assert!(verbose.out.lines().count() > health.out.lines().count());
    let json: Json = serde_json::from_str(&cli(&tandem, "health --json").out).expect("JSON");
    assert_eq!(json["databases"]["postgres"], true);
    let status = cli(&tandem, "status");
    assert!(status.out.contains("mirror.state\tstreaming\n"), "{}{}", status.out, status.err);
    let metrics = cli(&tandem, "metrics");
    assert!(metrics.out.contains("operations.total\t"), "{}{}", metrics.out, metrics.err);
    let json: Json = serde_json::from_str(&cli(&tandem, "metrics --json").out).expect("JSON");
    assert!(json["mirror"]["lagBytes"].is_u64(), "{json}");
    assert_eq!(cli(&tandem, "reconnect").code, Some(0));
    assert_eq!(cli(&tandem, "log-level debug").code, Some(0));
    assert_eq!(cli(&tandem, "log-level").out, "level\tdebug\n");
    let wrong = cli(&tandem, "log-level loud");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("is no level"), "{}", wrong.err);

    trio.postgres.stop();
    tandem.allow("");
    wait_for("the outage to be seen", LIMIT, || cli(&tandem, "health").code == Some(1));
    let degraded = cli(&tandem, "health");
    assert_eq!(cli(&tandem, "health --ready").code, Some(0), "clients are served");
    assert!(degraded.out.contains("status\tdegraded\n"), "{}", degraded.out);
    trio.redis.stop();
    wait_for("Redis to be missed", LIMIT, || {
        cli(&tandem, "health --json").out.contains("unhealthy")
    });
    let unhealthy = cli(&tandem, "health --json");
    let json: Json = serde_json::from_str(&unhealthy.out).expect("JSON");
    assert_eq!((unhealthy.code, &json["status"]), (Some(1), &"unhealthy".into()), "{json}");
    assert_eq!(cli(&tandem, "reconnect").code, Some(1));

    let other = Scratch::new("config");
    let path = other.path().join("proxy.toml");
    let admin =
        format!("[admin]\naddress = '127.0.0.1:{}'\ntoken = 'wrong'\n", tandem.admin_port());
    std::fs::write(&path, admin).expect("written");
    let refused = run(&path, "status");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("does not take admin.token"), "{}", refused.err);
}

#[test]
fn without_a_proxy_the_error_says_what_to_do() {
    let scratch = Scratch::new("config");
    let path = scratch.path().join("proxy.toml");
    std::fs::write(&path, "[admin]\naddress = '127.0.0.1:1'\n").expect("written");
    for line in ["health", "status", "metrics", "reconnect", "log-level"] {
        let none = run(&path, line);
        assert_eq!((none.code, none.out.as_str()), (Some(1), ""), "{line}");
        assert!(none.err.contains("no proxy answers at http://127.0.0.1:1"), "{}", none.err);
        assert!(none.err.contains("tandem serve --config"), "{}", none.err);
    }
    std::fs::write(&path, "[admin]\naddress = ''\n").expect("written");
    assert!(run(&path, "health").err.contains("has no admin interface"));
    for usage in [
        "status --no-such-flag",
        "no-such-command",
        "metrics --interval 3",
        "metrics --watch --interval 0",
    ] {
        assert_eq!(run(&path, usage).code, Some(2), "{usage}");
    }
    let missing = run(&scratch.path().join("missing.toml"), "status");
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("missing.toml"), "{}", missing.err);
}

#[test]
fn migrate_needs_no_proxy() {
    let postgres = Postgres::start();
    let scratch = Scratch::new("config");
    let path = scratch.path().join("proxy.toml");
    let config = format!("[postgres]\nurl = '{}'\nschema = 'Own \"schema\"'\n", postgres.url());
    std::fs::write(&path, config).expect("written");
    for _ in 0..2 {
        let done = run(&path, "migrate --json");
        let json: Json =
            serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.err));
        assert_eq!((done.code, &json["schema"]), (Some(0), &"Own \"schema\"".into()));
        assert!(json["migration"].as_u64() >= Some(3), "{json}");
    }
    let tables = postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'Own \"schema\"'");
    assert!(tables.parse::<u32>().expect("a number") > 10, "{tables}");
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        let done = ran(command.args(["completions", shell]).output().expect("it runs"));
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert!(done.out.contains("log-level") && done.out.contains("migrate"), "{shell}");
    }
}

#[test]
fn every_subcommand_has_a_man_page() {
    use clap::CommandFactory;
    let page = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        ran(command.arg("man").args(arguments).output().expect("it runs"))
    };
    let own = page(&[]);
    assert!(own.code == Some(0) && own.out.contains(".TH tandem 1"), "{}{}", own.out, own.err);
    for command in tandem::cli::Cli::command().get_subcommands() {
        let name = command.get_name();
        let page = page(&[name]);
        assert_eq!(page.code, Some(0), "{}", page.err);
        let title = format!(".TH tandem-{name} 1");
        assert!(page.out.contains(&title), "{}", page.out);
    }
    assert_eq!(page(&["nothing"]).code, Some(1));
}
