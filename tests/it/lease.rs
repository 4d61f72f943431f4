//! Several proxies before one PostgreSQL that leads: one serves, the others stand by.

use std::time::{Duration, Instant};

use support::{Postgres, Tandem, TandemOptions, Value, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

fn options(postgres: &Postgres) -> TandemOptions {
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).postgres(postgres);
    options.mode("postgres_only").allow("")
}

/// Each of the proxy's workers learns for itself that its server is back, and takes some of the clients.
fn serves(tandem: &Tandem) -> bool {
    tandem.answers() && (0..16).all(|_| !tandem.client().run("GET none").is_error())
}

fn wait_to_serve(tandem: &Tandem) -> Duration {
    let start = Instant::now();
    wait_for("the proxy to serve", LIMIT, || serves(tandem));
    start.elapsed()
}

#[test]
fn another_proxy_takes_over_when_the_one_that_serves_ends() {
    let postgres = Postgres::start();
    let mut first = options(&postgres).start();
    wait_to_serve(&first);
    let mut client = first.client();
    assert_eq!(client.run("INCR n"), Value::Int(1));
    let mut second = options(&postgres).start();
    let refusal = second.client().run("GET n");
    assert!(format!("{refusal:?}").contains("takes over when that one ends"), "{refusal:?}");
    assert_eq!(client.run("INCR n"), Value::Int(2));

    first.kill9();
    let took = wait_to_serve(&second);
    assert!(took < Duration::from_secs(3), "after kill -9 it took {took:?}");
    assert_eq!(second.client().run("INCR n"), Value::Int(3));
    first.restart();
    assert!(first.client().run("GET n").is_error() && serves(&second));

    second.stop(LIMIT);
    wait_to_serve(&first);
    assert_eq!(first.client().run("INCR n"), Value::Int(4));
}

/// It holds no lease any more, and does not know.
#[test]
fn a_paused_proxy_neither_writes_nor_answers_when_it_goes_on() {
    let postgres = Postgres::start();
    let first = options(&postgres).start();
    wait_to_serve(&first);
    let mut client = first.client();
    assert_eq!(client.run("SET n 1"), Value::ok());
    let second = options(&postgres).start();
    first.pause();
    let took = wait_to_serve(&second);
    assert!(took < Duration::from_secs(6), "after a pause it took {took:?}");
    assert_eq!(second.client().run("SET n 2"), Value::ok());

    first.resume();
    let start = Instant::now();
    let mut errors = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let answer = client.run("GET n");
        assert!(answer.is_error() || answer == Value::bulk("2"), "a value of before: {answer:?}");
        let written = client.run("SET n 3");
        assert!(written.is_error(), "it wrote without the lease: {written:?}");
        errors += 1;
    }
    assert!(errors > 0);
    assert_eq!(second.client().run("GET n"), Value::bulk("2"));
}
