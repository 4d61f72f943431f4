//! Sockets that somebody else has opened, as systemd does: nobody is refused while no process serves.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Client, Redis, Tandem, Value};

const LIMIT: Duration = Duration::from_secs(20);

/// What systemd does before it executes the service: the sockets are 3 and 4, and for this process.
const ACTIVATE: &str = "exec 3<&0 4<&1 </dev/null >&2
    LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"";

struct Sockets {
    tcp: TcpListener,
    unix: UnixListener,
}

impl Sockets {
    fn activate(&self, tandem: &Tandem, log: &str) -> Child {
        let tcp: OwnedFd = self.tcp.try_clone().expect("a handle").into();
        let unix: OwnedFd = self.unix.try_clone().expect("a handle").into();
        let program = std::env::var("TANDEM_TEST_BIN");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_tandem").to_owned());
        Command::new("sh")
            .args(["-c", ACTIVATE, "sh", &program, "serve", "--config"])
            .arg(tandem.dir().join("proxy.toml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::from(tcp))
            .stdout(Stdio::from(unix))
            .stderr(File::create(tandem.dir().join(log)).expect("a log"))
            .spawn()
            .expect("started")
    }
}

fn end(mut child: Child) {
    let pid = i32::try_from(child.id()).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("signalled");
    assert!(child.wait().expect("ended").success());
}

#[test]
fn clients_wait_in_the_sockets_that_systemd_has_opened() {
    let redis = Redis::start();
    // It starts nothing: the directory and the configuration are for the processes below.
    let tandem =
        Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only").prepare();
    let path = tandem.dir().join("socket");
    let sockets = Sockets {
        tcp: TcpListener::bind("127.0.0.1:0").expect("a port"),
        unix: UnixListener::bind(&path).expect("a socket"),
    };
    let port = sockets.tcp.local_addr().expect("bound").port();
    let connect = || {
        let mut client = Client::connect(("127.0.0.1", port)).expect("nobody is refused");
        client.set_timeout(LIMIT);
        client
    };
    let mut early = connect();
    early.send(b"INCR n\r\n").expect("sent");
    let first = sockets.activate(&tandem, "first.log");
    assert_eq!(early.receive().expect("an answer"), Value::Int(1));
    let mut over_unix = UnixStream::connect(&path).expect("nobody is refused");
    over_unix.set_read_timeout(Some(LIMIT)).expect("set");
    let mut answer = [0; 4];
    std::io::Write::write_all(&mut over_unix, b"INCR n\r\n").expect("sent");
    std::io::Read::read_exact(&mut over_unix, &mut answer).expect("an answer");
    assert_eq!(&answer, b":2\r\n");
    end(first);
    assert!(path.exists(), "the socket is not the proxy's to remove");

    let mut between = connect();
    between.send(b"INCR n\r\n").expect("sent");
    let second = sockets.activate(&tandem, "second.log");
    assert_eq!(between.receive().expect("an answer"), Value::Int(3));
    end(second);
    for log in ["first.log", "second.log"] {
        let log = std::fs::read_to_string(tandem.dir().join(log)).expect("a log");
        assert!(log.contains("clients connect to the socket that systemd has opened"), "{log}");
        assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
    }
}
