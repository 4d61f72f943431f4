//! Writes that look first whether their key is in Redis reply as they do without that.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use support::{Client, Postgres, Redis, Tandem, Value, seed};

use crate::cache::Small;

/// What there is before, in a way that no command is the first on its key.
const BEFORE: &[&str] = &[
    "SET number 7",
    "SET large 9007199254740990",
    "SET text abc",
    "HSET hash a 1 b text large -9007199254740990",
    "RPUSH list a b c",
    "SADD set a b 3",
    "ZADD zset 1 a 2 b",
    "XADD stream 1-1 f v",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group me STREAMS stream >",
    "PFADD hll a b c",
];

const KEYS: &[&str] =
    &["number", "large", "text", "hash", "list", "set", "zset", "stream", "hll", "none"];

/// `{k}` is a key, `{n}` a small number.
const COMMANDS: &[&str] = &[
    "APPEND {k} x",
    "DECR {k}",
    "DECRBY {k} {n}",
    "EXPIRE {k} 1000",
    "EXPIRE {k} -1 XX",
    "EXPIRE {k} 1000 nonsense",
    "GETSET {k} {n}",
    "HDEL {k} a",
    "HDEL {k} b c",
    "HINCRBY {k} a {n}",
    "HINCRBY {k} large -{n}",
    "HINCRBYFLOAT {k} a 1.5",
    "HMSET {k} a 1 b 2",
    "HSET {k} a {n}",
    "HSET {k} a",
    "HSETNX {k} c 1",
    "INCR {k}",
    "INCRBY {k} {n}",
    "INCRBY {k} 9223372036854775807",
    "INCRBYFLOAT {k} 0.5",
    "LINSERT {k} BEFORE b x",
    "LPOP {k}",
    "LPOP {k} 2",
    "LPUSH {k} a b",
    "LREM {k} 1 a",
    "LSET {k} 0 z",
    "LSET {k} 100 z",
    "LTRIM {k} 0 5",
    "PERSIST {k}",
    "PFADD {k} {n}",
    "RPOP {k}",
    "RPUSHX {k} {n}",
    "SADD {k} {n} {n}",
    "SET {k} {n} XX KEEPTTL",
    "SET {k} 9007199254740990 XX GET",
    "SET {k} {n} NX",
    "SETBIT {k} 3 1",
    "SETNX {k} 1",
    "SETRANGE {k} 2 xx",
    "SREM {k} {n}",
    "XACK {k} group 1-1",
    "XADD {k} 5-{n} f v",
    "XTRIM {k} MAXLEN 3",
    "ZADD {k} {n} a",
    "ZADD {k} CH NX {n} {n}",
    "ZADD {k} INCR 1 a",
    "ZINCRBY {k} 1.5 a",
    "ZREM {k} {n}",
    "GETDEL {k}",
    "GET {k}",
    "TYPE {k}",
    "SCRIPT FLUSH",
];

fn line(rng: &mut SmallRng) -> String {
    let command = COMMANDS[rng.random_range(0..COMMANDS.len())];
    let key = KEYS[rng.random_range(0..KEYS.len())];
    let number = rng.random_range(1..9).to_string();
    command.replace("{k}", key).replace("{n}", &number)
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn compare(mut through: Client, mut straight: Client, seed: u64, rounds: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    for round in 0..rounds {
        for client in [&mut through, &mut straight] {
            client.run("FLUSHALL");
            client.pipeline(BEFORE.iter().map(|line| words(line)));
        }
        for _ in 0..10 {
            let lines: Vec<String> = (0..rng.random_range(1..20)).map(|_| line(&mut rng)).collect();
            let [got, wanted] = [&mut through, &mut straight]
                .map(|client| client.pipeline(lines.iter().map(|line| words(line))));
            for (line, (got, wanted)) in lines.iter().zip(got.iter().zip(&wanted)) {
                assert_eq!(got, wanted, "seed {seed}, round {round}: {line} of {lines:#?}");
            }
        }
    }
}

#[test]
fn replies_are_those_of_redis() {
    let seed = seed(11);
    let small = Small::new("100mb", "allkeys-lru");
    let tandem = small.tandem();
    let plain = Redis::start();
    compare(tandem.client(), plain.client(), seed, 60);
    let (mut through, mut straight) = (tandem.client(), plain.client());
    assert!(!through.run("HELLO 3").is_error() && !straight.run("HELLO 3").is_error());
    compare(through, straight, seed + 1, 60);
    let text = small.redis.client().run("INFO commandstats").text();
    let calls = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let calls: Option<u64> = calls.and_then(|rest| rest.split(',').next()?.parse().ok());
    assert!(calls > Some(1000), "hardly any script ran: {calls:?}");
}

/// Whoever may not run scripts is served as well.
#[test]
fn without_scripts_it_goes_another_way() {
    let redis = Redis::options().with("maxmemory", "100mb");
    let redis = redis.with("maxmemory-policy", "allkeys-lru").start();
    let allowed = redis.client().run("ACL SETUSER default -eval -evalsha");
    assert_eq!(allowed, Value::ok());
    let postgres = Postgres::start();
    let tandem =
        Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).postgres(&postgres).start();
    tandem.wait_streaming();
    let plain = Redis::start();
    compare(tandem.client(), plain.client(), seed(12), 10);
}
