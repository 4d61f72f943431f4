//! `postgres_only`: PostgreSQL answers, and no Redis is there.

use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use support::commands::{self, Commands};
use support::compare::Sides;
use support::load::Counters;
use support::{Client, Postgres, Redis, Tandem, TandemOptions, Value, seed, wait_for};

use crate::crash::{assert_holds, counter};
use crate::engine::replies::ordered;

const LIMIT: Duration = Duration::from_secs(30);

/// Redis looks at `errno` without having reset it: a number out of range in an earlier command makes the
/// next SORT or SORT_RO by score fail.
const ERRNO: &str = "ERR One or more scores can't be converted into double";

pub fn options(postgres: &Postgres) -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem")).postgres(postgres).mode("postgres_only")
}

pub fn start(postgres: &Postgres) -> Tandem {
    let tandem = options(postgres).allow("PostgreSQL is not reachable").start();
    wait_ready(&tandem);
    tandem
}

pub fn wait_ready(tandem: &Tandem) {
    tandem.wait_serving();
}

/// Seeded commands to Redis and to the proxy in lockstep, one at a time and in transactions. Little stays in
/// memory, so most of it is loaded again and again.
#[test]
fn replies_are_those_of_redis() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let options = options(&postgres).allow("PostgreSQL is not reachable");
    let tandem = options.set("mirror", "cache_bytes", 20_000).start();
    wait_ready(&tandem);
    lockstep(&mut redis.client(), &mut tandem.client());
}

/// The same seeded commands to both, one at a time and in transactions; the replies are alike.
pub fn lockstep(theirs: &mut Client, ours: &mut Client) {
    let families = [
        commands::STRINGS,
        commands::BITS,
        commands::HASHES,
        commands::GENERIC,
        commands::LISTS,
        commands::SETS,
        commands::SORTED_SETS,
    ];
    let mut random = Commands::new(seed(rand::random()), &families);
    let mut history: Vec<String> = Vec::new();
    let seconds = std::env::var("TANDEM_TEST_SECONDS").ok().and_then(|s| s.parse().ok());
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(seconds.unwrap_or(8)) {
        let many =
            if random.rng().random_ratio(1, 10) { random.rng().random_range(2..6) } else { 1 };
        let mut batch: Vec<Vec<Vec<u8>>> = Vec::new();
        while batch.len() < many {
            let command = random.next();
            if !by_the_clock(&command) {
                batch.push(command);
            }
        }
        history.extend(batch.iter().map(|command| shown(command)));
        let (expected, answered) = (ask(theirs, &batch), ask(ours, &batch));
        for ((command, expected), answered) in batch.iter().zip(expected).zip(answered) {
            let (expected, answered) = (ordered(command, expected), ordered(command, answered));
            if command[0].starts_with(b"SORT") && expected == Value::Error(ERRNO.into()) {
                continue;
            }
            let from = history.len().saturating_sub(25);
            let trace = || history[from..].join("\n");
            assert_eq!(answered, expected, "{}\nafter\n{}", shown(command), trace());
        }
        count += batch.len();
    }
    println!("{count} commands alike");
    assert!(count > 500, "only {count} commands");
}

/// The replies to a command, or to a transaction.
fn ask(client: &mut Client, batch: &[Vec<Vec<u8>>]) -> Vec<Value> {
    let [command] = batch else {
        client.call(["MULTI"]);
        let queued = client.pipeline(batch.to_vec());
        // What was refused has made EXEC fail: the refusals are the replies then.
        return match client.call(["EXEC"]) {
            Value::Array(replies) => replies,
            failed => queued.into_iter().chain([failed]).take(batch.len()).collect(),
        };
    };
    vec![client.call(command)]
}

/// Two servers do not look at the clock at the same time.
pub fn by_the_clock(command: &[Vec<u8>]) -> bool {
    let words = ["ex", "px", "exat", "pxat", "setex", "psetex", "getex", "restore", "object"];
    command.iter().any(|word| {
        let word = String::from_utf8_lossy(word).to_ascii_lowercase();
        words.contains(&word.as_str()) || word.contains("expire") || word.contains("ttl")
    })
}

pub fn shown(command: &[Vec<u8>]) -> String {
    command.iter().map(|word| format!("\"{}\" ", word.escape_ascii())).collect()
}

/// What was answered is there after kill -9, of the proxy and of PostgreSQL, and nothing is there twice.
#[test]
fn acknowledged_writes_survive_kills() {
    let seed = seed(41);
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let mut tandem = options(&postgres).allow("").start();
    wait_ready(&tandem);
    let load = Counters::start(tandem.port(), seed, 4);
    for round in 0..6 {
        thread::sleep(Duration::from_millis(rng.random_range(50..400)));
        let proxy: bool = rng.random();
        println!("round {round}: kill {}", if proxy { "the proxy" } else { "PostgreSQL" });
        if proxy {
            tandem.kill9();
            tandem.restart();
        } else {
            postgres.kill9();
            postgres.restart();
        }
        wait_ready(&tandem);
    }
    thread::sleep(Duration::from_millis(200));
    let tallies = load.finish();
    let sum: i64 = tallies.values().map(|tally| tally.acknowledged).sum();
    assert!(sum > 0, "no increment was ever acknowledged");
    tandem.kill9();
    // Redis stands there for the comparer alone, which wants two sides.
    let held = Sides::new(&redis, &postgres).postgres_keyspace().expect("readable").0;
    assert_holds(&held, &tallies, "acknowledged, and not in PostgreSQL");
    for (place, tally) in &tallies {
        let (now, most) = (counter(&held, place), tally.acknowledged + tally.unknown);
        assert!(now <= most, "{place:?} is {now}, but only {most} was ever sent: {tally:?}");
    }
    println!("{} counters, {sum} acknowledged", tallies.len());
}

/// Who has waited longest gets the element, whichever way it comes.
#[test]
fn blocked_clients_are_served_in_their_order() {
    let postgres = Postgres::start();
    let tandem = start(&postgres);
    let mut pushing = tandem.client();
    for push in ["RPUSH q 1 2 3", "EVAL return(redis.call('rpush',KEYS[1],1,2,3)) 1 q"] {
        let mut waiting: Vec<Client> = Vec::new();
        for number in 0..3 {
            let mut client = tandem.raw_client();
            client.send(b"BLPOP q 20\r\n").expect("sent");
            waiting.push(client);
            let blocked = format!("blocked_clients:{}", number + 1);
            wait_for("it to block", LIMIT, || {
                pushing.run("INFO clients").text().contains(&blocked)
            });
        }
        pushing.run(push);
        for (client, element) in waiting.iter_mut().zip(["1", "2", "3"]) {
            assert_eq!(client.receive().expect("served"), Value::bulks(["q", element]));
        }
    }
    let start = Instant::now();
    assert!(matches!(pushing.run("BLPOP q 0.2"), Value::Nil));
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_watched_key_that_changes_stops_the_transaction() {
    let postgres = Postgres::start();
    let tandem = start(&postgres);
    let (mut one, mut two) = (tandem.client(), tandem.client());
    for (change, runs) in [("SET k 2", false), ("PEXPIRE k 100000", false), ("SET other 1", true)] {
        one.run("SET k 1");
        one.run("WATCH k");
        two.run(change);
        one.run("MULTI");
        one.run("INCR n");
        let answer = one.run("EXEC");
        assert_eq!(matches!(answer, Value::Array(_)), runs, "{change}: {answer:?}");
    }
    assert_eq!(one.run("GET n"), Value::bulk("1"));
}

#[test]
fn messages_reach_their_subscribers() {
    let postgres = Postgres::start();
    let tandem = start(&postgres);
    let (mut subscriber, mut publisher) = (tandem.raw_client(), tandem.client());
    subscriber.send(b"SUBSCRIBE a\r\nPSUBSCRIBE b*\r\n").expect("sent");
    for _ in 0..2 {
        subscriber.receive().expect("confirmed");
    }
    assert_eq!(publisher.run("PUBLISH a one"), Value::Int(1));
    let script = "EVAL return(redis.call('publish',ARGV[1],'two')) 0 bc";
    assert_eq!(publisher.run(script), Value::Int(1));
    assert_eq!(subscriber.receive().expect("a message"), Value::bulks(["message", "a", "one"]));
    let second = Value::bulks(["pmessage", "b*", "bc", "two"]);
    assert_eq!(subscriber.receive().expect("a message"), second);
}

/// Nobody looks at these keys: they go from PostgreSQL all the same.
#[test]
fn expired_keys_go_by_themselves() {
    let postgres = Postgres::start();
    let tandem = start(&postgres);
    let mut client = tandem.client();
    for n in 0..1200 {
        client.call(["SET", &format!("soon:{n}"), "x", "PX", "300"]);
    }
    client.run("SET stays x");
    let count = || postgres.sql("SELECT count(*) FROM tandem.keys");
    wait_for("the keys to go", LIMIT, || count() == "1");
}

/// PostgreSQL's end is an error for who asks meanwhile, on a connection that lives on.
#[test]
fn an_outage_is_an_error_and_ends_by_itself() {
    let mut postgres = Postgres::start();
    let mut tandem = start(&postgres);
    let mut client = tandem.client();
    assert_eq!(client.run("SET k 1"), Value::ok());
    postgres.stop();
    let error = client.run("SET k 2");
    let known = ["UNAVAILABLE PostgreSQL", "UNKNOWNOUTCOME"];
    assert!(known.iter().any(|word| format!("{error:?}").contains(word)), "{error:?}");
    postgres.restart();
    wait_for("PostgreSQL to serve", LIMIT, || !client.run("GET k").is_error());
    assert_eq!(client.run("GET k"), Value::bulk("1"));
    tandem.allow("PostgreSQL");
}
