use std::time::Instant;

use bytes::Bytes;
use support::commands::{self, Commands, Family};
use support::{Client, Redis, Value, encode};
use tandem::engine::{Call, Expiry, Keyspace, execute};
use tandem::resp::Protocol;

use super::replies::{ordered, seen};
use super::{seed, shown, time, to_bytes};

/// Both sides, in RESP2 and RESP3, with one clock.
struct Sides {
    keyspace: Keyspace,
    clients: [(Protocol, Client); 2],
    db: u32,
    /// The last commands, to show how a difference came about.
    history: Vec<String>,
    /// How often both sides began anew, see [`Sides::begin_anew`].
    anew: u64,
}

impl Sides {
    fn new(redis: &Redis) -> Sides {
        let mut resp3 = redis.client();
        resp3.run("HELLO 3");
        // Redis would otherwise remove keys by itself that the engine still counts, or the other way.
        resp3.run("DEBUG SET-ACTIVE-EXPIRE 0");
        Sides {
            keyspace: Keyspace::new(1, true, Expiry::ByClock, 7),
            clients: [(Protocol::Resp2, redis.client()), (Protocol::Resp3, resp3)],
            db: 0,
            history: Vec::new(),
            anew: 0,
        }
    }

    fn select(&mut self, db: u32) {
        self.db = db;
        for (_, client) in &mut self.clients {
            assert_eq!(client.run(&format!("SELECT {db}")), Value::ok());
        }
    }

    /// Runs a command on both sides and compares the replies.
    fn run(&mut self, which: usize, args: &[Vec<u8>]) -> Value {
        let (protocol, client) = &mut self.clients[which];
        let mut bytes = encode(["TIME"]);
        bytes.extend(encode(args));
        bytes.extend(encode(["TIME"]));
        client.send(&bytes).expect("send");
        let before = milliseconds(client.receive().expect("time"));
        let theirs = client.receive().expect("reply");
        let after = milliseconds(client.receive().expect("time"));
        self.keyspace.now_ms = before;
        let owned = to_bytes(args);
        let call = Call { db: self.db, protocol: *protocol, args: &owned, from_log: false };
        let ours = seen(execute(&mut self.keyspace, &call), *protocol);
        self.history.push(format!("db {} {protocol:?}: {}", self.db, shown(args)));
        let (ours, theirs) = (ordered(args, ours), ordered(args, theirs));
        let alike = ours == theirs || close(args, &ours, &theirs);
        if before != after && (!alike || counts_from_now(args)) {
            self.begin_anew();
            return theirs;
        }
        assert!(
            alike,
            "after\n{}\nours:   {ours:?}\ntheirs: {theirs:?}",
            self.history[self.history.len().saturating_sub(25)..].join("\n")
        );
        theirs
    }

    /// Empties both sides, after a command of which nobody can tell in which millisecond it ran.
    fn begin_anew(&mut self) {
        self.anew += 1;
        assert_eq!(self.clients[0].1.run("FLUSHALL"), Value::ok());
        let args = [Bytes::from_static(b"FLUSHALL")];
        let call = Call { db: self.db, protocol: Protocol::Resp2, args: &args, from_log: false };
        drop(execute(&mut self.keyspace, &call));
        self.history.push("begun anew".to_owned());
    }

    /// Compares every key in every database.
    fn compare_all(&mut self) {
        for db in [1, 2, 15, 0] {
            self.select(db);
            for key in Commands::keys() {
                let run = |sides: &mut Sides, words: &str| {
                    let words = words.replace("KEY", &key);
                    let args: Vec<Vec<u8>> =
                        words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
                    sides.run(0, &args)
                };
                let Value::Simple(kind) = run(self, "TYPE KEY") else { panic!("TYPE {key}") };
                run(self, "PEXPIRETIME KEY");
                match kind.as_str() {
                    "string" => drop(run(self, "GET KEY")),
                    "hash" => drop(run(self, "HGETALL KEY")),
                    "list" => drop(run(self, "LRANGE KEY 0 -1")),
                    "set" => drop(run(self, "SMEMBERS KEY")),
                    "zset" => drop(run(self, "ZRANGE KEY 0 -1 WITHSCORES")),
                    "stream" => drop(run(self, "XRANGE KEY - +")),
                    _ => {}
                }
            }
        }
    }

    /// Takes a payload from Redis and restores it on both sides.
    fn restore(&mut self, which: usize, from: &[u8], to: &[u8], options: &str) {
        let (_, client) = &mut self.clients[which];
        let Value::Bulk(payload) = client.call([b"DUMP", from]) else { return };
        let mut args = vec![b"RESTORE".to_vec(), to.to_vec(), b"0".to_vec(), payload];
        args.extend(options.split_whitespace().map(|word| word.as_bytes().to_vec()));
        self.run(which, &args);
    }
}

fn milliseconds(time: Value) -> i64 {
    let items = time.items();
    items[0].int() * 1000 + items[1].int() / 1000
}

/// Whether the command sets an expiry that is counted from the moment it runs.
fn counts_from_now(args: &[Vec<u8>]) -> bool {
    let is = |word: &Vec<u8>, names: &[&str]| {
        names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    is(&args[0], &["EXPIRE", "PEXPIRE", "SETEX", "PSETEX", "RESTORE"])
        || args.iter().any(|word| is(word, &["EX", "PX"]))
}

/// Times may differ by what lies between the two clocks.
fn close(args: &[Vec<u8>], ours: &Value, theirs: &Value) -> bool {
    let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
    if name.starts_with("sort") {
        // Redis looks at `errno` without having reset it: a number out of range in an earlier
        // command makes the next SORT by score fail.
        let failed = "ERR One or more scores can't be converted into double";
        return *theirs == Value::Error(failed.into());
    }
    let tolerance = match name.as_str() {
        "ttl" | "expiretime" => 1,
        "pttl" | "pexpiretime" => 1000,
        _ => return false,
    };
    matches!((ours, theirs), (Value::Int(a), Value::Int(b)) if *a > 0 && (a - b).abs() <= tolerance)
}

fn compare(families: &[Family]) {
    let redis = Redis::options().with("enable-debug-command", "yes").start();
    let seed = seed();
    let mut sides = Sides::new(&redis);
    let mut commands = Commands::new(seed, families);
    let start = Instant::now();
    let mut count = 0u64;
    while start.elapsed() < time() {
        use rand::RngExt;
        if commands.rng().random_ratio(1, 100) {
            let db = commands.rng().random_range(0..3);
            sides.select(db);
        }
        let which = usize::from(commands.rng().random_ratio(1, 3));
        if commands.rng().random_ratio(1, 100) {
            let keys: Vec<String> = Commands::keys().collect();
            let mut key = || keys[commands.rng().random_range(0..keys.len())].clone().into_bytes();
            let (from, to) = (key(), key());
            let options = ["", "REPLACE", "REPLACE ABSTTL", "REPLACE IDLETIME 5", "FREQ 300"];
            let options = options[commands.rng().random_range(0..options.len())];
            sides.restore(which, &from, &to, options);
        }
        let args = commands.next();
        sides.run(which, &args);
        count += 1;
        if count.is_multiple_of(2000) {
            let db = sides.db;
            sides.compare_all();
            sides.select(db);
        }
    }
    sides.compare_all();
    println!("{count} commands, begun anew {} times", sides.anew);
    assert!(count > 100 && sides.anew * 20 < count);
}

#[test]
fn strings_and_bits_as_redis() {
    compare(&[commands::STRINGS, commands::STRINGS, commands::BITS, commands::GENERIC]);
}

#[test]
fn hashes_and_keys_as_redis() {
    let others = [commands::LISTS, commands::SETS, commands::SORTED_SETS, commands::STRINGS];
    compare(&[&[commands::HASHES, commands::GENERIC, commands::GENERIC], &others[..]].concat());
}

#[test]
fn hyperloglogs_as_redis_to_the_byte() {
    compare(&[commands::HYPERLOGLOG]);
}

/// A value of the engine's own `DUMP` is what Redis restores.
#[test]
fn dumps_are_restored_by_redis() {
    let redis = Redis::start();
    let mut sides = Sides::new(&redis);
    let mut commands = Commands::new(seed(), &[commands::HASHES, commands::STRINGS]);
    (0..500).for_each(|_| {
        let args = commands.next();
        sides.run(0, &args);
    });
    for key in Commands::keys() {
        // As RESTORE without a time takes the expiry away.
        sides.run(0, &[b"PERSIST".to_vec(), key.clone().into_bytes()]);
        let args = [Bytes::from_static(b"DUMP"), Bytes::from(key.clone())];
        let call = Call { db: 0, protocol: Protocol::Resp2, args: &args, from_log: false };
        let Value::Bulk(dump) = seen(execute(&mut sides.keyspace, &call), Protocol::Resp2) else {
            continue;
        };
        let reply = sides.clients[0].1.call([b"RESTORE", key.as_bytes(), b"0", &dump, b"REPLACE"]);
        assert_eq!(reply, Value::ok(), "{key}");
    }
    sides.compare_all();
}
