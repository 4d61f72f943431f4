//! Many bad clients at once, beside one that only wants its `PONG`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Redis, Tandem, Value, encode, wait_for};

use super::exchange;

/// Generous: two cores are shared with other tests, and the build is not optimised.
const SLOWEST: Duration = Duration::from_secs(2);
const MIB: u64 = 1 << 20;

/// Runs `attack` while another client sends `PING` after `PING`: its slowest answer.
fn beside(tandem: &Tandem, attack: impl FnOnce()) -> Duration {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut client = tandem.client();
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(client.run("PING"), Value::Simple("PONG".into()));
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
            slowest
        });
        // Also when the attack panics.
        let ending = Stop(&stop);
        attack();
        drop(ending);
        pings.join().expect("the PING loop goes on")
    })
}

fn connect(tandem: &Tandem) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", tandem.port())).expect("connected");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// Writes until everything is taken or the proxy takes nothing for a while; true when it hung up.
fn push(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("timeout");
    match stream.write_all(bytes) {
        Ok(()) => false,
        Err(error) => {
            use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
            matches!(error.kind(), BrokenPipe | ConnectionReset)
        }
    }
}

fn hung_up(stream: &mut TcpStream) -> bool {
    let mut buffer = vec![0; 1 << 20];
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn half_open_and_dripping_clients_cost_little() {
    let redis = Redis::start();
    let mut tandem =
        Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only").start();
    let before = tandem.process().resident_bytes();
    let starts: [&[u8]; 5] = [
        b"",
        b"*",
        b"*1048576\r\n$536870912\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nx",
        b"SET \"never closed",
    ];
    let slowest = beside(&tandem, || {
        let mut clients: Vec<TcpStream> = (0..1000)
            .map(|i| {
                let mut stream = connect(&tandem);
                stream.write_all(starts[i % starts.len()]).expect("sent");
                stream
            })
            .collect();
        // One byte at a time, all of them in turn; in the end each has its answer.
        let request = encode(["SET", "dripped", "value"]);
        let mut drips: Vec<TcpStream> = (0..100).map(|_| connect(&tandem)).collect();
        for byte in &request {
            for stream in &mut drips {
                stream.write_all(&[*byte]).expect("sent");
            }
        }
        for stream in &mut drips {
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).expect("answered");
            assert_eq!(&answer, b"+OK\r\n");
        }
        for stream in &mut clients {
            stream.set_nonblocking(true).expect("nonblocking");
            let open = stream.read(&mut [0; 1]).expect_err("neither answered nor closed");
            assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
        }
    });
    tandem.assert_running();
    let grown = tandem.process().peak_resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes for a thousand idle clients");
    assert!(slowest < SLOWEST, "{slowest:?}");
}

#[test]
fn without_the_password_a_client_gets_hold_of_no_memory() {
    let redis = Redis::options().with("requirepass", "secret").start();
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .mode("redis_only")
        .allow("client closed")
        .start();
    let before = tandem.process().resident_bytes();
    let full = [&b"$16384\r\n"[..], &[b'x'; 16384], b"\r\n"].concat();
    let slowest = beside(&tandem, || {
        let mut clients = Vec::new();
        for _ in 0..50 {
            let mut stream = connect(&tandem);
            // As large as a request may be before AUTH, and never finished.
            stream.write_all(b"*10\r\n").expect("sent");
            stream.write_all(&full.repeat(9)).expect("sent");
            clients.push(stream);
        }
        // Whoever is told NOAUTH a million times has to read it.
        let mut deaf = connect(&tandem);
        let noise = b"PING\r\n".repeat(100_000);
        let cut = (0..100).any(|_| push(&mut deaf, &noise));
        assert!(cut || hung_up(&mut deaf), "a client that reads nothing is still served");
    });
    tandem.assert_running();
    let grown = tandem.process().peak_resident_bytes().saturating_sub(before);
    assert!(grown < 48 * MIB, "{grown} bytes for clients without a password");
    assert!(slowest < SLOWEST, "{slowest:?}");
}

#[test]
fn a_client_that_never_reads_is_cut_off_at_its_limit() {
    let redis = Redis::start();
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .mode("redis_only")
        .set("limits", "output_buffer", 32 << 20)
        .allow("client closed: its output buffer is full")
        .start();
    let big = vec![b'x'; 4_000_000];
    assert_eq!(tandem.client().call([&b"SET"[..], b"big", &big]), Value::ok());
    let before = tandem.process().resident_bytes();
    let slowest = beside(&tandem, || {
        for cut_off in 0..3 {
            let mut deaf = connect(&tandem);
            deaf.write_all(&encode(["GET", "big"]).repeat(100)).expect("sent");
            wait_for("the limit to be hit", Duration::from_secs(20), || {
                let closed = tandem.log().matches("output buffer is full").count() > cut_off;
                closed && tandem.client().run("PING") == Value::Simple("PONG".into())
            });
            assert!(hung_up(&mut deaf), "still connected");
        }
    });
    tandem.assert_running();
    let grown = tandem.process().peak_resident_bytes().saturating_sub(before);
    assert!(grown < 150 * MIB, "{grown} bytes for clients with 32 MiB each");
    assert!(slowest < SLOWEST, "{slowest:?}");
}

#[test]
fn a_request_larger_than_the_query_buffer_ends_its_client() {
    let redis = Redis::start();
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .mode("redis_only")
        .set("limits", "query_buffer", 8 << 20)
        .allow("client closed: its query buffer is full")
        .start();
    let before = tandem.process().resident_bytes();
    let slowest = beside(&tandem, || {
        let mut greedy = connect(&tandem);
        assert!(!push(&mut greedy, b"*1000000\r\n$3\r\nDEL\r\n"));
        let words = b"$10\r\n0123456789\r\n".repeat(60_000);
        assert!((0..40).any(|_| push(&mut greedy, &words)), "40 MB were taken");
    });
    tandem.assert_running();
    let grown = tandem.process().peak_resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes for a client with 8 MiB");
    assert!(slowest < SLOWEST, "{slowest:?}");
}

/// As deep as Redis itself goes: a script's reply, also inside a transaction that the proxy looks into.
#[test]
fn deeply_nested_replies_pass() {
    let redis = Redis::start();
    let mut tandem =
        Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only").start();
    let script = "local t = {} for i = 1, 3900 do t = {t} end return t";
    let mut bytes = encode(["EVAL", script, "0"]);
    for words in [&["MULTI"][..], &["SELECT", "2"], &["EVAL", script, "0"], &["EXEC"]] {
        bytes.extend(encode(words));
    }
    bytes.extend(encode(["SET", "in-two", "1"]));
    let expected = exchange(redis.port(), &[&bytes]);
    let depth = expected.windows(4).filter(|window| window == b"*1\r\n").count();
    assert!(depth > 7000, "only {depth} levels: {}", expected.escape_ascii());
    assert_eq!(redis.client().run("FLUSHALL"), Value::ok());
    assert!(exchange(tandem.port(), &[&bytes]) == expected);
    let mut client = redis.client();
    client.run("SELECT 2");
    assert_eq!(client.run("EXISTS in-two"), Value::Int(1));
    tandem.assert_running();
}

#[test]
fn clients_that_vanish_are_noticed_by_keepalive() {
    let redis = Redis::start();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).mode("redis_only").start();
    let client = connect(&tandem);
    let peer = client.local_addr().expect("address").port();
    let wanted = (format!(":{:04X}", tandem.port()), format!(":{peer:04X}"));
    wait_for("the connection's keepalive timer", Duration::from_secs(5), || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
        table.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ours =
                words.len() > 5 && words[1].ends_with(&wanted.0) && words[2].ends_with(&wanted.1);
            // Timer 2: keepalive (Documentation/networking/proc_net_tcp.rst).
            ours && words[5].starts_with("02:")
        })
    });
}
