//! Scripts answer as in Redis: each of `scripts.txt` runs on a real Redis and in the engine, in both
//! protocols, and the replies are compared.

use bytes::Bytes;
use support::{Client, Redis};
use tandem::engine::script::{Alone, Scripts};
use tandem::engine::{Answer, Call, Expiry, Keyspace, execute};
use tandem::resp::{Protocol, Reply};

use super::replies::seen;

/// Redis and the engine, side by side.
struct Pair {
    client: Client,
    keyspace: Keyspace,
    scripts: Scripts,
    protocol: Protocol,
}

impl Pair {
    fn new(redis: &Redis, protocol: Protocol) -> Pair {
        let mut client = redis.client();
        if protocol == Protocol::Resp3 {
            client.run("HELLO 3");
        }
        for line in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"] {
            client.run(line);
        }
        let keyspace = Keyspace::new(1, true, Expiry::ByClock, 1);
        Pair { client, keyspace, scripts: Scripts::new(Box::new(Alone)), protocol }
    }

    fn engine(&mut self, words: &[Vec<u8>]) -> Answer<Reply> {
        let args: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
        let call = Call { db: 0, protocol: self.protocol, args: &args, from_log: false };
        match Scripts::takes(&args[0]) {
            true => self.scripts.execute(&mut self.keyspace, &call),
            false => execute(&mut self.keyspace, &call),
        }
    }

    /// The difference between both answers, if there is one.
    fn differs(&mut self, words: &[Vec<u8>]) -> Option<String> {
        let theirs = self.client.call(words);
        let protocol = self.protocol;
        let ours = seen(self.engine(words), protocol);
        let (theirs, ours) = (format!("{theirs:?}"), format!("{ours:?}"));
        (theirs != ours).then(|| format!("Redis:  {theirs}\nengine: {ours}"))
    }
}

fn words(line: &[&str]) -> Vec<Vec<u8>> {
    line.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn compare(scripts: &str, prepare: &[&str]) {
    let redis = Redis::start();
    let (mut differences, mut count) = (Vec::new(), 0);
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut pair = Pair::new(&redis, protocol);
        for line in prepare {
            let line: Vec<&str> = line.split(' ').collect();
            assert_eq!(pair.differs(&words(&line)), None, "{line:?}");
        }
        for script in scripts.split("\n\n").map(str::trim).filter(|script| !script.is_empty()) {
            for command in ["EVAL", "EVAL_RO"] {
                let line = words(&[command, script, "2", "key1", "key2", "one", "2", "three"]);
                count += 1;
                if let Some(difference) = pair.differs(&line) {
                    differences.push(format!("{command} {protocol:?}\n{script}\n{difference}\n"));
                }
            }
        }
    }
    println!("{count} scripts");
    assert!(count > 20);
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// What the scripts find.
const DATA: &[&str] = &[
    "SET s value",
    "SET n 10",
    "RPUSH l a b c",
    "HSET h f 1",
    "SADD st x",
    "ZADD z 1.5 a 2 b",
    "XADD x 1-1 f v",
];

#[test]
fn calls_conversions_and_the_sandbox() {
    compare(include_str!("scripts/core.txt"), DATA);
}

#[test]
fn libraries() {
    compare(include_str!("scripts/libraries.txt"), DATA);
}
