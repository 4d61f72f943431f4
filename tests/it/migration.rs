//! docs/migration.md, run as it is written: from plain Redis to Tandem and back, under a load that knows what every
//! key must be. The page's blocks are what is run, compared and obeyed; another one in the page makes this fail.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use support::compare::Sides;
use support::{Client, Postgres, Redis, Tandem, Value, wait_for};

const PAGE: &str = include_str!("../../docs/migration.md");

const LIMIT: Duration = Duration::from_secs(120);

/// The fenced blocks of the page: language and lines.
fn blocks() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in PAGE.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(language), false) => {
                blocks.push((language, Vec::new()));
                inside = true;
            }
            (Some(_), true) => inside = false,
            (None, true) => blocks.last_mut().expect("a block").1.push(line),
            (None, false) => {}
        }
    }
    blocks
}

/// The relay: clients that go where its environment says, and move when they are restarted.
struct Relay {
    port: AtomicU16,
    /// How many clients have moved to the port.
    moved: AtomicU64,
    rounds: AtomicU64,
    done: AtomicBool,
}

const CLIENTS: u64 = 4;

impl Relay {
    /// Works until it is done; at the end every key is what the client was told.
    fn client(&self, number: u64) {
        let (mut round, mut port) = (0_u64, 0);
        let mut client = None;
        while !self.done.load(Ordering::Relaxed) {
            let wanted = self.port.load(Ordering::Relaxed);
            if wanted != port {
                // One after the other: meanwhile some are there and others here.
                wait_for("its turn", LIMIT, || self.moved.load(Ordering::Relaxed) >= number);
                port = wanted;
                client = Some(connect(port));
                self.moved.fetch_max(number + 1, Ordering::Relaxed);
            }
            let client = client.as_mut().expect("connected");
            round += 1;
            write(client, number, round);
            self.rounds.fetch_add(1, Ordering::Relaxed);
            // An unoptimised mirror on a busy machine has to catch up while nobody waits for it.
            std::thread::sleep(Duration::from_millis(10));
            if round.is_multiple_of(50) {
                verify(client, number, round);
            }
        }
        verify(&mut connect(port), number, round);
    }

    /// Some more rounds, wherever they are.
    fn work_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        wait_for("the relay to work", LIMIT, || {
            self.rounds.load(Ordering::Relaxed) > before + 100 || self.done.load(Ordering::Relaxed)
        });
    }

    /// New address in the environment, and a restart of all processes.
    fn restart(&self, port: u16) {
        self.moved.store(0, Ordering::Relaxed);
        self.port.store(port, Ordering::Relaxed);
        wait_for("the clients to move", LIMIT, || self.moved.load(Ordering::Relaxed) == CLIENTS);
    }
}

/// The others end when one has failed.
struct End<'a>(&'a Relay);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Relaxed);
    }
}

fn connect(port: u16) -> Client {
    let mut client = Client::connect(("127.0.0.1", port)).expect("connected");
    client.set_timeout(LIMIT);
    client
}

/// One round of what the relay does; each answer is known.
fn write(client: &mut Client, number: u64, round: u64) {
    let expiring = format!("SET session:{number} {round} EX 86400");
    assert_eq!(client.run(&expiring), Value::ok());
    let count = i64::try_from(round).expect("small");
    assert_eq!(client.run(&format!("HINCRBY usage:{number} requests 1")), Value::Int(count));
    assert_eq!(client.run(&format!("INCR total:{number}")), Value::Int(count));
    let length = client.run(&format!("RPUSH records:{number} {round}"));
    assert_eq!(length, Value::Int(count.min(101)));
    assert_eq!(client.run(&format!("LTRIM records:{number} -100 -1")), Value::ok());
    assert_eq!(client.run(&format!("SET item:{number}:{round} {round}")), Value::ok());
    if round > 100 {
        assert_eq!(client.run(&format!("DEL item:{number}:{}", round - 100)), Value::Int(1));
    }
}

fn verify(client: &mut Client, number: u64, round: u64) {
    let text = Value::bulk(round.to_string());
    assert_eq!(client.run(&format!("GET session:{number}")), text);
    assert_eq!(client.run(&format!("HGET usage:{number} requests")), text);
    assert_eq!(client.run(&format!("GET total:{number}")), text);
    let last = (1..=round).rev().take(100).collect::<Vec<_>>();
    let records = Value::bulks(last.iter().rev().map(u64::to_string));
    assert_eq!(client.run(&format!("LRANGE records:{number} 0 -1")), records);
    let items: Vec<String> = last.iter().map(|n| format!("item:{number}:{n}")).collect();
    let values = Value::bulks(last.iter().map(u64::to_string));
    assert_eq!(client.run(&format!("MGET {}", items.join(" "))), values);
    assert_eq!(
        client.run(&format!("EXISTS item:{number}:{}", round.saturating_sub(100))),
        Value::Int(0)
    );
}

/// The proxy comes first: it ends first, and does not see its backends go.
struct Stage {
    tandem: Tandem,
    redis: Redis,
    postgres: Postgres,
}

impl Stage {
    /// With the page's settings, and the addresses of this test.
    fn new(settings: &str) -> Stage {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let here = settings
            .replace("redis://127.0.0.1:6379/0", &redis.url())
            .replace("postgres://postgres@127.0.0.1:5432/claude_relay", &postgres.url());
        assert!(here.contains(&redis.url()) && here.contains(&postgres.url()), "{settings}");
        let settings: toml::Table = here.parse().expect("TOML");
        let mut options = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            // What was not held during the first sync may take a slow machine longer than that.
            .allow("acknowledged by Redis");
        for (section, keys) in settings {
            for (key, value) in keys.as_table().expect("a section") {
                options = options.set(&section, key, value.clone());
            }
        }
        Stage { tandem: options.prepare(), redis, postgres }
    }

    /// Runs the lines of a block one by one; what is not about the service is run by a shell. Says what was printed.
    fn run(&mut self, lines: &[&str]) -> String {
        let mut printed = String::new();
        for line in lines {
            match *line {
                "systemctl start tandem" => self.tandem.spawn(),
                "systemctl stop tandem" => assert!(self.tandem.stop(LIMIT).success()),
                "systemctl enable tandem" | "systemctl disable tandem" => {}
                _ => printed = self.shell(line),
            }
        }
        printed
    }

    fn shell(&self, line: &str) -> String {
        let directory = self.tandem.dir().display().to_string();
        let here = line
            .replace("/etc/tandem/proxy.toml", &format!("{directory}/proxy.toml"))
            .replace("/var/lib/tandem", &format!("{directory}/spool"))
            .replace("postgres://postgres@127.0.0.1:5432/claude_relay", &self.postgres.url())
            .replace("-p 6380", &format!("-p {}", self.tandem.port()));
        let programs = std::path::Path::new(env!("CARGO_BIN_EXE_tandem")).parent().expect("a path");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("timeout");
        command.args(["120", "bash", "-c", &here]).env("PATH", path).current_dir(&directory);
        let output = command.output().expect("it runs");
        let out = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let err = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        assert!(status.success(), "{line}: {status}\n{out}{err}\n{:#?}", self.tandem.status());
        out
    }

    /// The port that the relay's environment names.
    fn port(&self, lines: &[&str]) -> u16 {
        assert_eq!(lines[0], "REDIS_HOST=127.0.0.1");
        match lines[1] {
            "REDIS_PORT=6379" => self.redis.port(),
            "REDIS_PORT=6380" => self.tandem.port(),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_write_is_there_on_the_way_to_tandem_and_back_and_again() {
    let mut blocks = blocks().into_iter();
    let Some(("toml", settings)) = blocks.next() else { panic!("the page begins with settings") };
    let mut stage = Stage::new(&settings.join("\n"));
    let relay = Relay {
        port: AtomicU16::new(stage.redis.port()),
        moved: AtomicU64::new(0),
        rounds: AtomicU64::new(0),
        done: AtomicBool::new(false),
    };
    let mut visited = Vec::new();
    std::thread::scope(|scope| {
        let _end = End(&relay);
        (0..CLIENTS).for_each(|number| {
            drop(scope.spawn({
                let relay = &relay;
                move || {
                    let _end = End(relay);
                    relay.client(number);
                }
            }))
        });
        relay.work_on();
        let mut printed = String::new();
        for (language, lines) in blocks {
            assert!(!relay.done.load(Ordering::Relaxed), "a client has failed");
            match language {
                "sh" => printed = stage.run(&lines),
                "text" => assert_eq!(printed.trim(), lines.join("\n")),
                "env" => {
                    let port = stage.port(&lines);
                    relay.restart(port);
                    visited.push(port);
                }
                other => panic!("a block of {other}"),
            }
            relay.work_on();
        }
    });
    assert_eq!(visited, [stage.tandem.port(), stage.redis.port()]);
    Sides::new(&stage.redis, &stage.postgres).assert_equal();
    let lists = "SELECT count(*) FROM tandem.keys WHERE convert_from(key, 'UTF8') ^@ 'records:'";
    assert_eq!(stage.postgres.sql(lists), CLIENTS.to_string());
}
