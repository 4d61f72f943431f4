//! `postgres_only`: what clients hear of the changes of others.

use std::time::{Duration, Instant};

use rand::RngExt;
use support::commands::{self, Commands};
use support::{Client, Postgres, Redis, Value, seed};

use crate::served::{by_the_clock, options, shown, start, wait_ready};

const DEBUG_SECONDS: u64 = 8;

/// What a subscriber of everything has heard since the last call; `publisher` is of the same server.
fn heard(subscriber: &mut Client, publisher: &mut Client) -> Vec<String> {
    publisher.run("PUBLISH end end");
    let mut heard = Vec::new();
    loop {
        let words = subscriber.receive().expect("a message").items();
        let text = |at: usize| words[at].bytes().escape_ascii().to_string();
        let message = format!("{} {}", text(2), text(3));
        if message == "end end" {
            return heard;
        }
        heard.push(message);
    }
}

fn listener(mut client: Client) -> Client {
    client.send(b"PSUBSCRIBE *\r\n").expect("sent");
    client.receive().expect("confirmed");
    client
}

/// Seeded commands to Redis and to the proxy in lockstep: what happens to the keys is announced alike.
#[test]
fn keyspace_events_are_those_of_redis() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let options = options(&postgres).allow("PostgreSQL is not reachable");
    let tandem = options.set("mirror", "cache_bytes", 20_000).start();
    wait_ready(&tandem);
    let families = [
        commands::STRINGS,
        commands::BITS,
        commands::HYPERLOGLOG,
        commands::HASHES,
        commands::GENERIC,
        commands::LISTS,
        commands::SETS,
        commands::SORTED_SETS,
        commands::STREAMS,
    ];
    let mut random = Commands::new(seed(rand::random()), &families);
    let (mut theirs, mut ours) = (redis.client(), tandem.client());
    for client in [&mut theirs, &mut ours] {
        assert_eq!(client.run("CONFIG SET notify-keyspace-events KEAn"), Value::ok());
    }
    let (mut their_ear, mut our_ear) = (listener(redis.client()), listener(tandem.raw_client()));
    let mut history: Vec<String> = Vec::new();
    let seconds = std::env::var("TANDEM_TEST_SECONDS").ok().and_then(|s| s.parse().ok());
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds.unwrap_or(DEBUG_SECONDS)) {
        let mut batch: Vec<Vec<Vec<u8>>> = Vec::new();
        let many = if random.rng().random_ratio(1, 10) { 3 } else { 1 };
        while batch.len() < many {
            let command = random.next();
            let by_the_clock = by_the_clock(&command) || command.iter().any(|word| word == b"*");
            if !by_the_clock {
                batch.push(command);
            }
        }
        history.extend(batch.iter().map(|command| shown(command)));
        for client in [&mut theirs, &mut ours] {
            if many > 1 {
                client.call(["MULTI"]);
                client.pipeline(batch.clone());
                client.call(["EXEC"]);
            } else {
                client.call(&batch[0]);
            }
        }
        let expected = heard(&mut their_ear, &mut theirs);
        let announced = heard(&mut our_ear, &mut ours);
        let from = history.len().saturating_sub(25);
        assert_eq!(announced, expected, "after\n{}", history[from..].join("\n"));
        count += expected.len();
    }
    println!("{count} messages alike");
    assert!(count > 300, "only {count} messages");
}

/// What a script and a transaction do is announced once, in order, though they are run again when
/// something has to be loaded; what was refused is not announced.
#[test]
fn events_come_once_and_in_order() {
    let postgres = Postgres::start();
    let mut tandem = start(&postgres);
    tandem.client().run("RPUSH {t}list 1 2 3");
    tandem.restart();
    wait_ready(&tandem);
    let mut client = tandem.client();
    assert_eq!(client.run("CONFIG SET notify-keyspace-events Kg$lx"), Value::ok());
    let mut ear = listener(tandem.raw_client());
    let script = "redis.call('set','{t}a',1) redis.call('publish','c','m') \
                  return redis.call('lpop','{t}list')";
    client.call(["EVAL", script, "0"]);
    client.call(["MULTI"]);
    client.call(["SET", "{t}b", "1"]);
    client.call(["PUBLISH", "c", "n"]);
    client.call(["LPOP", "{t}list"]);
    client.call(["INCR", "{t}list"]);
    client.call(["EXEC"]);
    client.call(["SET", "{t}b", "1", "PX", "1"]);
    std::thread::sleep(Duration::from_millis(5));
    client.call(["GET", "{t}b"]);
    let heard = heard(&mut ear, &mut client);
    let key = |name: &str, event: &str| format!("__keyspace@0__:{{t}}{name} {event}");
    let expected = [
        key("a", "set"),
        "c m".into(),
        key("list", "lpop"),
        key("b", "set"),
        "c n".into(),
        key("list", "lpop"),
        key("b", "set"),
        key("b", "expire"),
        key("b", "expired"),
    ];
    assert_eq!(heard, expected);
    let fault = "ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - \
                 Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
    let refused = client.run("CONFIG SET notify-keyspace-events Q");
    assert_eq!(refused, Value::Error(fault.into()));
}
