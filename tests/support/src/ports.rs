use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};

/// Below Linux's ephemeral range (32768 and up), so that no outgoing connection takes the port while
/// its server is down for a restart.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// A TCP port on 127.0.0.1 that is this guard's alone, across all test processes, until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Flock<File>,
}

impl Port {
    /// Takes a free port.
    pub fn take() -> Port {
        let dir = lock_dir();
        for _ in 0..10_000 {
            let number = rand::random_range(RANGE);
            let path = dir.join(number.to_string());
            let Ok(file) = OpenOptions::new().create(true).append(true).open(&path) else {
                continue;
            };
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Port { number, _lock: lock };
            }
        }
        panic!("no free port in {RANGE:?}");
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

fn lock_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tandem-ports-{}", nix::unistd::getuid()));
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("create {}: {e}", dir.display()));
    dir
}
