//! Clients with checkable writes, while Redis, PostgreSQL and the proxy are killed, paused and restarted.
//!
//! The model: each client has keys of its own, and knows of each of its writes whether it was acknowledged, refused, or has an
//! unknown outcome. What was acknowledged is there exactly once and in order, what was refused is not, and no read is
//! older than what was acknowledged before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::compare::Sides;
use support::{Client, Postgres, Redis, Tandem, Value, seed, wait_for};

const CLIENTS: u64 = 4;
const LIMIT: Duration = Duration::from_secs(60);
/// No command takes longer, whatever happens.
const BOUND: Duration = Duration::from_secs(12);

/// What one client has written.
#[derive(Default)]
struct Model {
    client: u64,
    next: i64,
    counter: (i64, i64),
    /// Elements of the list in their order, and whether they were acknowledged.
    list: Vec<(i64, bool)>,
    set: Vec<(i64, bool)>,
    stream: Vec<(i64, bool)>,
    slowest: Duration,
    acknowledged: u64,
    unknown: u64,
    refused: u64,
}

/// What became of a command.
enum Fate {
    Done(Value),
    NotRun,
    Unknown,
}

struct Writer {
    model: Model,
    port: u16,
    connection: Option<Client>,
    rng: StdRng,
}

impl Writer {
    fn new(client: u64, port: u16, seed: u64) -> Writer {
        let rng = StdRng::seed_from_u64(seed.wrapping_add(client));
        Writer { model: Model { client, ..Model::default() }, port, connection: None, rng }
    }

    fn call(&mut self, commands: &[Vec<String>]) -> Fate {
        let connection = match self.connection.take() {
            Some(connection) => Some(connection),
            None => Client::connect(("127.0.0.1", self.port)).ok(),
        };
        let Some(mut connection) = connection else { return Fate::NotRun };
        let began = Instant::now();
        let mut last = None;
        for command in commands {
            match connection.try_call(command) {
                Ok(reply) => last = Some(reply),
                // Nobody knows what the process has done before its end.
                Err(_) => return Fate::Unknown,
            }
        }
        self.model.slowest = self.model.slowest.max(began.elapsed());
        self.connection = Some(connection);
        match last {
            Some(Value::Error(text)) if text.starts_with("UNKNOWNOUTCOME") => Fate::Unknown,
            // The transaction was lost before its EXEC.
            Some(Value::Error(text)) if text.starts_with("EXECABORT") => Fate::NotRun,
            Some(Value::Error(text)) => {
                let known = ["UNAVAILABLE", "READONLY", "LOADING", "NOAUTH"];
                assert!(known.iter().any(|word| text.starts_with(word)), "{text}");
                Fate::NotRun
            }
            Some(reply) => Fate::Done(reply),
            None => Fate::NotRun,
        }
    }

    fn run(&mut self, line: String) -> Fate {
        self.call(&[line.split(' ').map(str::to_owned).collect()])
    }

    fn step(&mut self) {
        let id = self.model.client;
        self.model.next += 1;
        let n = self.model.next;
        let fate = match self.rng.random_range(0..6) {
            0 => {
                let fate = self.run(format!("INCR c:{id}"));
                let (acknowledged, unknown) = &mut self.model.counter;
                match &fate {
                    Fate::Done(Value::Int(now)) => {
                        *acknowledged += 1;
                        let most = *acknowledged + *unknown;
                        assert!(
                            (*acknowledged..=most).contains(now),
                            "{now}: {acknowledged}+{unknown}"
                        );
                    }
                    Fate::Unknown => *unknown += 1,
                    _ => {}
                }
                fate
            }
            1 => {
                let fate = self.run(format!("RPUSH l:{id} {n}"));
                note(&mut self.model.list, n, &fate);
                fate
            }
            2 => {
                let fate = self.run(format!("SADD s:{id} {n}"));
                note(&mut self.model.set, n, &fate);
                fate
            }
            3 => {
                let fate = self.run(format!("XADD x:{id} * n {n}"));
                note(&mut self.model.stream, n, &fate);
                fate
            }
            4 => {
                let words = |line: String| line.split(' ').map(str::to_owned).collect();
                let (from, to) = (format!("INCRBY a:{id} -{n}"), format!("INCRBY b:{id} {n}"));
                self.call(&["MULTI".into(), from, to, "EXEC".into()].map(words))
            }
            _ => {
                let fate = self.run(format!("GET c:{id}"));
                if let Fate::Done(reply) = &fate {
                    let now: i64 = match reply {
                        Value::Nil => 0,
                        reply => reply.text().parse().expect("a number"),
                    };
                    let (acknowledged, unknown) = self.model.counter;
                    let possible = acknowledged..=acknowledged + unknown;
                    assert!(possible.contains(&now), "read {now}, which is none of {possible:?}");
                }
                fate
            }
        };
        match fate {
            Fate::Done(_) => self.model.acknowledged += 1,
            Fate::Unknown => self.model.unknown += 1,
            Fate::NotRun => {
                self.model.refused += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn note(elements: &mut Vec<(i64, bool)>, n: i64, fate: &Fate) {
    match fate {
        Fate::Done(_) => elements.push((n, true)),
        Fate::Unknown => elements.push((n, false)),
        Fate::NotRun => {}
    }
}

/// `held` are the elements that are there, of those that were sent: all that were acknowledged, in order, none twice.
fn check(what: &str, held: &[i64], sent: &[(i64, bool)], ordered: bool) {
    let mut held = held.to_vec();
    if !ordered {
        held.sort_unstable();
    }
    assert!(held.is_sorted_by(|a, b| a < b), "{what}: out of order, or twice: {held:?}");
    for (n, acknowledged) in sent {
        assert!(
            !acknowledged || held.binary_search(n).is_ok(),
            "{what}: {n} was acknowledged and is not there"
        );
    }
    for n in &held {
        assert!(sent.iter().any(|(sent, _)| sent == n), "{what}: {n} was refused and is there");
    }
}

fn numbers(reply: Value) -> Vec<i64> {
    match reply {
        Value::Array(items) => {
            items.into_iter().map(|item| item.text().parse().expect("a number")).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn check_all(client: &mut Client, model: &Model, whose: &str) {
    let id = model.client;
    let text = client.run(&format!("GET c:{id}"));
    let counter: i64 = if text == Value::Nil { 0 } else { text.text().parse().expect("a number") };
    let (acknowledged, unknown) = model.counter;
    assert!(
        (acknowledged..=acknowledged + unknown).contains(&counter),
        "{whose}: c:{id} is {counter}: {acknowledged} acknowledged, {unknown} unknown"
    );
    let of = |name: &str| format!("{whose}: {name}:{id}");
    check(&of("l"), &numbers(client.run(&format!("LRANGE l:{id} 0 -1"))), &model.list, true);
    check(&of("s"), &numbers(client.run(&format!("SMEMBERS s:{id}"))), &model.set, false);
    let Value::Array(entries) = client.run(&format!("XRANGE x:{id} - +")) else {
        panic!("no entries")
    };
    let field = |entry: Value| match entry {
        Value::Array(mut parts) => numbers(match parts.pop() {
            Some(Value::Array(mut fields)) => Value::Array(fields.pop().into_iter().collect()),
            other => panic!("{other:?}"),
        }),
        other => panic!("{other:?}"),
    };
    let stream: Vec<i64> = entries.into_iter().flat_map(field).collect();
    check(&of("x"), &stream, &model.stream, true);
    let number = |reply: Value| {
        if reply == Value::Nil { 0 } else { reply.text().parse::<i64>().expect("a number") }
    };
    let sum =
        number(client.run(&format!("GET a:{id}"))) + number(client.run(&format!("GET b:{id}")));
    assert_eq!(sum, 0, "{whose}: half a transfer of client {id}");
}

/// One fault, until it is over.
fn strike(rng: &mut StdRng, redis: &mut Redis, postgres: &mut Postgres, tandem: &mut Tandem) {
    let while_ms = Duration::from_millis(rng.random_range(10..1500));
    let fault = rng.random_range(0..8);
    println!("fault {fault} for {while_ms:?}");
    match fault {
        0 => {
            redis.kill9();
            std::thread::sleep(while_ms);
            redis.restart();
        }
        1 => {
            // It comes back with what it had now.
            let saved = redis.client().run("SAVE");
            assert!(!saved.is_error() || format!("{saved:?}").contains("progress"), "{saved:?}");
            std::thread::sleep(Duration::from_millis(200));
            redis.kill9();
            std::thread::sleep(while_ms);
            redis.restart();
        }
        2 => {
            redis.kill9();
            redis.wipe_disk();
            std::thread::sleep(while_ms);
            redis.restart();
        }
        3 => {
            redis.pause();
            std::thread::sleep(while_ms + Duration::from_millis(500));
            redis.resume();
        }
        4 => {
            postgres.kill9();
            std::thread::sleep(while_ms);
            postgres.restart();
        }
        5 => {
            tandem.kill9();
            std::thread::sleep(while_ms / 4);
            tandem.restart();
        }
        6 => {
            redis.kill9();
            std::thread::sleep(while_ms);
            tandem.kill9();
            redis.restart();
            tandem.restart();
        }
        _ => {
            redis.kill9();
            std::thread::sleep(while_ms);
            postgres.kill9();
            std::thread::sleep(while_ms / 2);
            redis.restart();
            std::thread::sleep(while_ms / 4);
            postgres.restart();
        }
    }
}

/// Redis leads, and acknowledged means that PostgreSQL has it.
fn wait_well(tandem: &Tandem) {
    wait_for("all to be well", LIMIT, || {
        tandem.answers() && {
            let status = tandem.status();
            status["lead"] == "redis"
                && status["ack_holding"] == "1"
                && status["mirror_state"] == "streaming"
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_comes_twice() {
    let seconds = std::env::var("TANDEM_TEST_CHAOS_SECONDS").ok().and_then(|s| s.parse().ok());
    let seed = seed(7);
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut redis, mut postgres) = (Redis::start(), Postgres::start());
    let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .mode("dual_write")
        .set("strategy", "ack_timeout_ms", 8_000)
        .allow("")
        .start();
    wait_well(&tandem);
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (over, mut writer) = (Arc::clone(&over), Writer::new(client, tandem.port(), seed));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    writer.step();
                }
                writer.model
            })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(25));
    let mut faults = 0;
    while Instant::now() < end && writers.iter().all(|writer| !writer.is_finished()) {
        std::thread::sleep(Duration::from_millis(rng.random_range(50..500)));
        strike(&mut rng, &mut redis, &mut postgres, &mut tandem);
        wait_well(&tandem);
        faults += 1;
    }
    std::thread::sleep(Duration::from_millis(200));
    over.store(true, Ordering::Relaxed);
    let models: Vec<Model> =
        writers.into_iter().map(|writer| writer.join().expect("no wrong answer")).collect();
    Sides::new(&redis, &postgres).assert_equal();
    for model in &models {
        println!(
            "client {}: {} acknowledged, {} unknown, {} refused, slowest {:?}",
            model.client, model.acknowledged, model.unknown, model.refused, model.slowest
        );
        check_all(&mut tandem.client(), model, "proxy");
        check_all(&mut redis.client(), model, "Redis");
        assert!(model.acknowledged > 0, "client {} was never answered", model.client);
        assert!(model.slowest < BOUND, "a command took {:?}", model.slowest);
    }
    println!("{faults} faults");
}
