//! `ack = "postgres"`: a reply to a write comes when PostgreSQL has the write, no earlier, and always.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::compare::Sides;
use support::{Client, Postgres, Redis, Tandem, Value, encode, seed, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
/// A reply that has not come by then is held.
const HELD: Duration = Duration::from_millis(300);

/// The proxy comes first: it ends first, and does not see its backends go.
struct Trio {
    tandem: Tandem,
    redis: Redis,
    postgres: Postgres,
}

impl Trio {
    fn start(ack_timeout_ms: i64) -> Trio {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .redis(&redis)
            .postgres(&postgres)
            .mode("dual_write")
            .set("strategy", "ack_timeout_ms", ack_timeout_ms)
            .allow("acknowledged by Redis")
            .start();
        let trio = Trio { tandem, redis, postgres };
        trio.tandem.wait_holding(true);
        trio
    }

    /// Sends `commands` while PostgreSQL stands still: nothing but `before` replies may come. Then
    /// PostgreSQL goes on, and the others come.
    fn held(&self, client: &mut Client, commands: &[&str], before: usize) -> Vec<Value> {
        self.postgres.pause();
        send(client, commands);
        let mut replies: Vec<Value> =
            (0..before).map(|_| client.receive().expect("a reply")).collect();
        client.set_timeout(HELD);
        let early = client.receive();
        assert!(early.is_err(), "{commands:?}: {early:?} came without PostgreSQL");
        self.postgres.resume();
        client.set_timeout(LIMIT);
        replies.extend((before..commands.len()).map(|_| client.receive().expect("a reply")));
        replies
    }

    fn assert_equal(&self) {
        Sides::new(&self.redis, &self.postgres).assert_equal();
    }
}

fn send(client: &mut Client, commands: &[&str]) {
    let bytes: Vec<u8> = commands.iter().flat_map(|c| encode(c.split_whitespace())).collect();
    client.send(&bytes).expect("sent");
}

#[test]
fn every_kind_of_write_waits() {
    let trio = Trio::start(60_000);
    let mut client = trio.tandem.client();
    let mut other = trio.tandem.client();
    let held = |client: &mut Client, commands: &[&str], before| {
        trio.held(client, commands, before).pop().expect("a reply")
    };
    assert_eq!(held(&mut client, &["SET k 1"], 0), Value::ok());
    assert_eq!(held(&mut client, &["EVAL return(redis.call('incr',KEYS[1])) 1 k"], 0).int(), 2);
    let transaction = held(&mut client, &["MULTI", "INCR k", "GET k", "EXEC"], 3);
    assert_eq!(transaction, Value::Array(vec![Value::Int(3), Value::bulk("3")]));
    assert_eq!(held(&mut client, &["SELECT 5", "RPUSH list a", "SELECT 0"], 1), Value::ok());
    assert_eq!(held(&mut client, &["WATCH k", "SET j 1", "UNWATCH"], 1), Value::ok());
    assert_eq!(held(&mut client, &["MULTI", "SELECT 1", "SET k 1", "EXEC"], 3).items().len(), 2);
    assert_eq!(client.run("SELECT 0"), Value::ok());
    // A read that follows a held write keeps its place, and one ahead of it does not wait.
    assert_eq!(held(&mut client, &["GET k", "SET k 4", "GET k"], 1), Value::bulk("4"));
    // What another client's held write has brought waits as well.
    send(&mut other, &["BLPOP queue 0"]);
    let reply = held(&mut client, &["RPUSH queue a b"], 0);
    assert_eq!(reply, Value::Int(2));
    assert_eq!(other.receive().expect("popped"), Value::bulks(["queue", "a"]));
    trio.assert_equal();
}

#[test]
fn a_gate_that_was_open_holds_again() {
    const TIMEOUT: Duration = Duration::from_millis(1500);
    let trio = Trio::start(TIMEOUT.as_millis() as i64);
    let mut client = trio.tandem.client();
    let mut blocked = trio.tandem.client();
    for round in 0..2 {
        trio.postgres.pause();
        send(&mut client, &["SET degraded 1"]);
        assert_eq!(client.receive().expect("released after the timeout"), Value::ok());
        trio.tandem.wait_holding(false);
        // It blocks while nothing is held, and pops when everything is again.
        let queue = format!("queue:{round}");
        send(&mut blocked, &[&format!("BLPOP {queue} 0")]);
        trio.postgres.resume();
        trio.tandem.wait_holding(true);
        let key = format!("SET round:{round} 1");
        assert_eq!(trio.held(&mut client, &[&key], 0), [Value::ok()]);
        let begun = Instant::now();
        trio.postgres.pause();
        // Two, because what is pushed and popped in one batch leaves nothing to be written.
        send(&mut client, &[&format!("RPUSH {queue} a b")]);
        blocked.set_timeout(HELD);
        let early = blocked.receive();
        // On a machine that stands still for so long the gate opens.
        let in_time = begun.elapsed() < TIMEOUT;
        assert!(early.is_err() || !in_time, "{early:?} was popped without PostgreSQL");
        trio.postgres.resume();
        blocked.set_timeout(LIMIT);
        let popped = early.or_else(|_| blocked.receive()).expect("popped");
        assert_eq!(popped, Value::bulks([&queue[..], "a"]));
        assert!(matches!(client.receive(), Ok(Value::Int(_))));
    }
    trio.assert_equal();
}

/// The proxy's own messages must not get into a client's MULTI.
#[test]
fn a_transaction_behind_a_write_has_only_its_own_replies() {
    let trio = Trio::start(60_000);
    let mut client = trio.tandem.client();
    for _ in 0..20 {
        send(&mut client, &["WATCH a", "SET b 1", "MULTI", "SET c 1"]);
        for expected in ["OK", "OK", "OK", "QUEUED"] {
            assert_eq!(client.receive().expect("a reply"), Value::Simple(expected.into()));
        }
        assert_eq!(client.run("EXEC"), Value::Array(vec![Value::ok()]));
    }
}

#[test]
fn errors_wait_for_nothing_while_a_script_keeps_redis_busy() {
    let trio = Trio::start(60_000);
    let mut direct = trio.redis.client();
    assert_eq!(direct.run("CONFIG SET busy-reply-threshold 10"), Value::ok());
    let mut script = trio.tandem.client();
    let (mut writer, mut transaction) = (trio.tandem.client(), trio.tandem.client());
    assert_eq!(writer.run("SET k 1"), Value::ok());
    assert_eq!(transaction.run("MULTI"), Value::ok());
    transaction.run("INCR k");
    let library = "#!lua name=l\nredis.register_function('f', function() while true do end end)";
    assert!(!script.call(["FUNCTION", "LOAD", library]).is_error());
    script.send(&encode(["FCALL", "f", "0"])).expect("sent");
    let busy = |reply: &Value| matches!(reply, Value::Error(text) if text.contains("BUSY"));
    wait_for("the script", LIMIT, || busy(&direct.run("GET k")));
    // A lane counts as held up after 50 ms; who comes earlier waits with the script.
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    assert!(busy(&writer.run("SET k 2")));
    assert!(busy(&transaction.run("INCR k")));
    assert!(transaction.run("EXEC").is_error());
    // What Redis answers meanwhile, too.
    assert!(!writer.run("FUNCTION STATS").is_error());
    // Held replies would come when the mirror has been silent for the acknowledgement's limit.
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert_eq!(direct.run("FUNCTION KILL"), Value::ok());
    assert!(script.receive().expect("a reply").is_error());
    assert_eq!(writer.run("INCR k"), Value::Int(2));
    trio.assert_equal();
}

#[test]
fn a_user_who_may_not_publish_is_answered() {
    let trio = Trio::start(60_000);
    let acl = "ACL SETUSER alice on >secret +@all ~* resetchannels";
    assert_eq!(trio.redis.client().run(acl), Value::ok());
    let mut client = trio.tandem.client();
    assert_eq!(client.run("AUTH alice secret"), Value::ok());
    assert!(client.run("PUBLISH c x").is_error());
    assert_eq!(trio.held(&mut client, &["SET k 1"], 0), [Value::ok()]);
    let pipeline: Vec<_> =
        (0..100).map(|n| ["SET".to_owned(), format!("k:{n}"), "v".into()]).collect();
    assert!(client.pipeline(pipeline).iter().all(|reply| *reply == Value::ok()));
    trio.assert_equal();
}

/// The barrier may be committed between two pieces of a reply that comes behind it.
#[test]
fn long_replies_behind_held_writes_come_whole() {
    let trio = Trio::start(60_000);
    let mut client = trio.tandem.client();
    let big = "x".repeat(3_000_000);
    assert_eq!(client.call(["SET", "big", &big]), Value::ok());
    for round in 0..60 {
        let replies = client.pipeline([vec!["INCR", "n"], vec!["GET", "big"]]);
        assert_eq!(replies, [Value::Int(round + 1), Value::bulk(&big)]);
    }
}

/// PostgreSQL stops and goes on again and again, so that the gate opens and closes under load.
#[test]
fn every_reply_comes_while_the_gate_opens_and_closes() {
    let trio = Trio::start(150);
    let seed = seed(31);
    let ended = AtomicBool::new(false);
    let mut rng = StdRng::seed_from_u64(seed);
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (trio, ended) = (&trio, &ended);
            scope.spawn(move || keep_writing(trio.tandem.client(), seed, client, ended));
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(rng.random_range(1..300)));
            trio.postgres.pause();
            std::thread::sleep(Duration::from_millis(rng.random_range(1..400)));
            trio.postgres.resume();
        }
        ended.store(true, Ordering::Relaxed);
    });
    let openings = trio.tandem.log().matches("acknowledged by Redis alone").count();
    assert!(openings > 0, "the gate never opened");
    println!("the gate opened {openings} times");
    trio.assert_equal();
}

fn keep_writing(mut client: Client, seed: u64, number: u64, ended: &AtomicBool) {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(number));
    client.set_timeout(Duration::from_secs(10));
    let mut steps = 0;
    while !ended.load(Ordering::Relaxed) {
        let queue = format!("queue:{}", rng.random_range(0..3));
        let push = format!("RPUSH {queue} {number}");
        let pop = format!("BLPOP {queue} 0.05");
        let commands: Vec<&str> = match rng.random_range(0..6) {
            0 => vec!["MULTI", "INCR n", "RPUSH list x", "LTRIM list -5 -1", "EXEC"],
            1 => vec!["EVAL return(redis.call('incr',KEYS[1])) 1 n"],
            2 => vec![&push, &pop],
            3 => vec!["WATCH n", "SET a 1", "MULTI", "GET n", "INCR n", "EXEC"],
            4 => vec!["SELECT 1", "INCR n", "GET n", "SELECT 0"],
            _ => vec!["INCR n"; 1 + (steps % 40)],
        };
        send(&mut client, &commands);
        for command in &commands {
            let reply = client.receive();
            assert!(reply.is_ok(), "client {number}: no reply to {command}: {reply:?}");
        }
        steps += 1;
    }
}
