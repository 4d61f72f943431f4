//! The proxy is killed and started again while PostgreSQL leads, under clients that do not look at the answer to
//! their `SELECT`, as ioredis does when it reconnects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Client, Postgres, Redis, Tandem, Value, encode, seed, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

fn start(redis: &Redis, postgres: &Postgres) -> Tandem {
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).postgres(postgres);
    let tandem = tandem.mode("dual_write").allow("").start();
    tandem.wait_holding(true);
    tandem
}

fn connect(tandem: &Tandem) -> Client {
    let began = Instant::now();
    loop {
        match Client::connect(("127.0.0.1", tandem.port())) {
            Ok(client) => return client,
            Err(error) => assert!(began.elapsed() < LIMIT, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Selects without looking at the answer and reads until there is one.
fn read_in_three(tandem: &Tandem) -> (Value, Value) {
    let began = Instant::now();
    loop {
        let mut client = connect(tandem);
        client.set_timeout(LIMIT);
        let both = [encode(["SELECT", "3"]), encode(["GET", "in-three"])].concat();
        if client.send(&both).is_ok()
            && let (Ok(selected), Ok(read)) = (client.receive(), client.receive())
            && !read.is_error()
        {
            return (selected, read);
        }
        assert!(began.elapsed() < LIMIT, "nobody answers");
    }
}

#[test]
fn a_select_while_nobody_answers_yet_holds() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = start(&redis, &postgres);
    let mut client = tandem.client();
    client.run("SELECT 3");
    redis.kill9();
    wait_for("PostgreSQL to lead", LIMIT, || client.run("SET in-three x") == Value::ok());
    tandem.kill9();
    postgres.pause();
    tandem.spawn();
    let mut client = connect(&tandem);
    client.send(&encode(["SELECT", "3"])).expect("sent");
    assert_eq!(client.receive().expect("answered"), Value::ok());
    postgres.resume();
    let mut read = Value::Nil;
    wait_for("PostgreSQL to answer", LIMIT, || {
        read = client.run("GET in-three");
        !read.is_error()
    });
    assert_eq!(read, Value::bulk("x"));
}

#[test]
fn what_was_acknowledged_is_read_after_each_restart() {
    let seed = seed(3);
    let rounds = std::env::var("TANDEM_TEST_ROUNDS").ok().and_then(|n| n.parse().ok());
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = start(&redis, &postgres);
    redis.kill9();
    let over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..rounds.unwrap_or(5) {
        let mut client = connect(&tandem);
        client.run("SELECT 3");
        let wanted = format!("x{round}");
        let began = Instant::now();
        while client.run(&format!("SET in-three {wanted}")) != Value::ok() {
            assert!(began.elapsed() < LIMIT, "no write is taken");
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..5)));
        tandem.kill9();
        tandem.spawn();
        let (selected, read) = read_in_three(&tandem);
        assert_eq!((selected, read), (Value::ok(), Value::bulk(&wanted)), "round {round}");
    }
    over.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().expect("ended"));
}
