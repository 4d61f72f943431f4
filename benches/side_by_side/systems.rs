use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use support::{Client, Port, Postgres, Process, Redis, Scratch, Tandem, find_program, wait_for};

/// One way to reach a Redis. All ways of a benchmark lead to the same Redis.
pub struct System {
    pub name: &'static str,
    pub port: u16,
    pub kind: Kind,
}

/// Keeps the processes behind a [`System`] alive.
pub enum Kind {
    Straight,
    Other { _process: Process, _port: Port, _scratch: Scratch },
    Tandem { tandem: Box<Tandem>, _postgres: Option<Box<Postgres>> },
}

impl System {
    pub fn straight(redis: &Redis) -> System {
        System { name: "straight", port: redis.port(), kind: Kind::Straight }
    }

    /// haproxy relaying TCP, with as many threads as there are cores.
    pub fn haproxy(redis: &Redis) -> Option<System> {
        let config = |port: u16| {
            format!(
                "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n \
                 timeout server 1h\nlisten redis\n bind 127.0.0.1:{port}\n server redis 127.0.0.1:{}\n",
                redis.port()
            )
        };
        Self::other("haproxy", config, |path| vec!["-db".into(), "-f".into(), path.into()])
    }

    /// nutcracker with one server connection, as it is usually run.
    pub fn nutcracker(redis: &Redis) -> Option<System> {
        let config = |port: u16| {
            format!(
                "redis:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  \
                 servers:\n   - 127.0.0.1:{}:1\n",
                redis.port()
            )
        };
        Self::other("nutcracker", config, |path| {
            let stats = Port::take().number().to_string();
            ["-c", path, "-s", &stats, "-m", "16384"].map(str::to_owned).to_vec()
        })
    }

    fn other(
        name: &'static str,
        config: impl Fn(u16) -> String,
        args: impl Fn(&str) -> Vec<String>,
    ) -> Option<System> {
        let Some(program) = find_program(name, &["/usr/sbin".into()]) else {
            eprintln!("SKIPPED: {name} is not installed");
            return None;
        };
        let (port, scratch) = (Port::take(), Scratch::new(name));
        let path = scratch.path().join("config");
        std::fs::write(&path, config(port.number())).unwrap_or_else(|e| panic!("{name}: {e}"));
        let args = args(&path.display().to_string());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let process = Process::start(&program, &args, &scratch.path().join("log"));
        let number = port.number();
        wait_for(name, Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", number)).is_ok()
        });
        let kind = Kind::Other { _process: process, _port: port, _scratch: scratch };
        Some(System { name, port: number, kind })
    }

    pub fn redis_only(redis: &Redis) -> System {
        let tandem = binary().redis(redis).mode("redis_only").start();
        System::tandem("tandem redis_only", tandem, None)
    }

    pub fn cache_first(redis: &Redis) -> System {
        Self::mirrored("tandem cache_first", redis, "cache_first", "redis")
    }

    pub fn dual_write(redis: &Redis) -> System {
        Self::mirrored("tandem dual_write", redis, "dual_write", "postgres")
    }

    pub fn postgres_only() -> System {
        let postgres = Postgres::start();
        System::tandem("tandem postgres_only", postgres_only(&postgres), Some(postgres))
    }

    fn mirrored(name: &'static str, redis: &Redis, mode: &str, ack: &str) -> System {
        let postgres = Postgres::start();
        let options = binary().redis(redis).postgres(&postgres);
        let tandem = options.mode(mode).set("strategy", "ack", ack).start();
        tandem.wait_streaming();
        System::tandem(name, tandem, Some(postgres))
    }

    fn tandem(name: &'static str, tandem: Tandem, postgres: Option<Postgres>) -> System {
        let port = tandem.port();
        let kind = Kind::Tandem { tandem: Box::new(tandem), _postgres: postgres.map(Box::new) };
        System { name, port, kind }
    }

    pub fn client(&self) -> Client {
        let client = Client::connect(("127.0.0.1", self.port));
        client.unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Resident memory of the proxy in bytes, when it is Tandem.
    pub fn resident_bytes(&self) -> Option<u64> {
        match &self.kind {
            Kind::Tandem { tandem, .. } => Some(tandem.process().resident_bytes()),
            _ => None,
        }
    }

    /// Waits until the mirror, if there is one, has nothing left to do, so that it does not take the processor
    /// from the next system's round.
    pub fn rest(&self) {
        let Kind::Tandem { tandem, _postgres: Some(_) } = &self.kind else { return };
        wait_for("the mirror to catch up", Duration::from_secs(300), || {
            let status = tandem.status();
            status.get("mirror_lag_bytes").is_none_or(|lag| lag == "0")
        });
    }
}

/// A proxy that answers from PostgreSQL, ready to do so.
pub fn postgres_only(postgres: &Postgres) -> Tandem {
    let tandem = binary().postgres(postgres).mode("postgres_only").start();
    wait_for("PostgreSQL to serve", Duration::from_secs(30), || {
        !tandem.client().run("GET none").is_error()
    });
    tandem
}

/// The release build under test.
pub fn binary() -> support::TandemOptions {
    let options = Tandem::new(Path::new(env!("CARGO_BIN_EXE_tandem"))).set("log", "level", "warn");
    let options = options.set("listen", "workers", 0);
    // A warning is seen in the numbers; it must not cost the run.
    options.allow("")
}
