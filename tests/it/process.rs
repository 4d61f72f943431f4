//! The process among others: SIGHUP, handing the port over, what systemd is told.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Client, Redis, Scratch, Tandem, TandemOptions, Value, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

fn options(redis: &Redis) -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).mode("redis_only")
}

fn hang_up(tandem: &Tandem) {
    let pid = Pid::from_raw(tandem.process().pid().try_into().expect("a pid"));
    kill(pid, Signal::SIGHUP).expect("sent");
}

fn rewrite(tandem: &Tandem, from: &str, to: &str) {
    let path = tandem.dir().join("proxy.toml");
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).expect("written");
}

#[test]
fn what_may_change_does_and_the_rest_is_named() {
    let redis = Redis::start();
    let mut tandem = options(&redis)
        .set("listen", "max_clients", 3)
        .set("log", "level", "info")
        .allow("need a restart")
        .allow("was not read again")
        .start();
    let full = |tandem: &Tandem, places: usize| {
        let mut clients: Vec<Client> = (0..places + 1).map(|_| tandem.raw_client()).collect();
        let replies: Vec<bool> =
            clients.iter_mut().map(|c| c.try_call(["PING"]).is_ok_and(|r| !r.is_error())).collect();
        replies.iter().filter(|served| **served).count() == places
    };
    wait_for("three places", LIMIT, || full(&tandem, 3));
    // A file with an error changes nothing.
    rewrite(&tandem, "max_clients = 3", "max_clients = 0");
    hang_up(&tandem);
    wait_for("the error", LIMIT, || tandem.log().contains("nothing has changed"));
    assert!(tandem.log().contains("listen.max_clients: must be at least 1"));
    wait_for("three places still", LIMIT, || full(&tandem, 3));
    rewrite(&tandem, "max_clients = 0", "max_clients = 5");
    rewrite(&tandem, "workers = 2", "workers = 1");
    rewrite(&tandem, "level = \"info\"", "level = \"debug\"");
    hang_up(&tandem);
    wait_for("five places", LIMIT, || full(&tandem, 5));
    wait_for("the restart", LIMIT, || {
        tandem
            .warnings()
            .iter()
            .any(|l| l.contains("need a restart") && l.contains("listen.workers"))
    });
    assert!(tandem.log().contains("log level changed"));
    tandem.assert_running();
}

/// A new process takes the port over from an old one, while clients come and go.
#[test]
fn the_port_changes_hands_without_a_refused_connection() {
    let redis = Redis::start();
    let mut old = options(&redis).start();
    let address = format!("127.0.0.1:{}", old.port());
    let (done, failed, served) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut new = options(&redis).set("listen", "address", address.clone()).prepare();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let reply = Client::connect(&address[..]).map(|mut client| {
                        client.set_timeout(LIMIT);
                        client.try_call(["PING"])
                    });
                    match reply {
                        Ok(Ok(Value::Simple(_))) => served.fetch_add(1, Ordering::Relaxed),
                        other => {
                            println!("{other:?}");
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        new.spawn();
        wait_for("the new process", LIMIT, || new.log().contains("ready for clients"));
        assert!(old.stop(LIMIT).success());
        let before = served.load(Ordering::Relaxed);
        wait_for("clients of the new process", LIMIT, || {
            served.load(Ordering::Relaxed) > before + 100
        });
        done.store(true, Ordering::Relaxed);
    });
    // Between the last look at the queue and the end of the port there are microseconds.
    let failed = failed.load(Ordering::Relaxed);
    assert!(failed <= 1, "{failed} clients of {}", served.load(Ordering::Relaxed));
}

#[test]
fn systemd_is_told() {
    let (redis, scratch) = (Redis::start(), Scratch::new("notify"));
    let path = scratch.path().join("socket");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(LIMIT)).expect("set");
    let mut tandem = options(&redis).env("NOTIFY_SOCKET", &path.display().to_string()).start();
    let told = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert_eq!(told().trim(), "READY=1");
    hang_up(&tandem);
    let reloading = told();
    assert!(
        reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(told().trim(), "READY=1");
    assert!(tandem.stop(LIMIT).success());
    assert_eq!(told().trim(), "STOPPING=1");
}

/// For the time of a hand-over two proxies mirror one Redis to one schema.
#[test]
fn nothing_is_lost_while_an_old_and_a_new_process_mirror() {
    let (redis, postgres) = (Redis::start(), support::Postgres::start());
    let dual = || options(&redis).mode("dual_write").postgres(&postgres).allow("");
    let mut old = dual().start();
    old.wait_holding(true);
    let address = format!("127.0.0.1:{}", old.port());
    let mut client = old.client();
    for n in 0..100 {
        assert_eq!(client.call(["SET", &format!("before:{n}"), "1"]), Value::ok());
    }
    let mut new = dual().set("listen", "address", address.clone()).prepare();
    new.spawn();
    wait_for("the new process", LIMIT, || new.log().contains("ready for clients"));
    let start = std::time::Instant::now();
    let mut slowest = Duration::ZERO;
    let mut count = 0;
    while start.elapsed() < Duration::from_secs(4) {
        let asked = std::time::Instant::now();
        count += 1;
        assert_eq!(client.run("INCR counter"), Value::Int(count));
        slowest = slowest.max(asked.elapsed());
    }
    println!("{count} writes beside each other, the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(4), "released by the time limit only: {slowest:?}");
    assert!(old.stop(LIMIT).success());
    let mut client = Client::connect(&address[..]).expect("connected");
    client.set_timeout(LIMIT);
    assert_eq!(client.run("INCR counter"), Value::Int(count + 1));
    support::compare::Sides::new(&redis, &postgres).assert_equal();
}
