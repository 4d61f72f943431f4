//! The engine answers as Redis does: seeded random commands with hostile arguments run against a real
//! Redis and against a keyspace in memory, reply by reply.
//! `TANDEM_TEST_SECONDS` makes it longer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use support::grammar::{self, Command, Grammar};
use support::{Client, Redis, Value, seed};
use tandem::engine::{self, Call, Expiry, Keyspace, Stop};
use tandem::resp::{Protocol, Reply};

/// Keys of other types, and expiries.
const OTHERS: &[&str] =
    &["SET {key} {m}", "DEL <{key}>", "PEXPIRE {key} 100000000", "PERSIST {key}", "TYPE {key}"];

/// HyperLogLogs, and what becomes of them when their text is written over.
const HLLS: &[&str] = &[
    "PFADD {key} {m} {m} {m}",
    "PFADD {key} {int} {int} {int} {int} {int}",
    "PFADD {key} {int}",
    "PFADD {key}",
    "PFCOUNT {key}",
    "PFCOUNT {key} {key}",
    "PFMERGE {key}",
    "PFMERGE {key} {key}",
    "SETRANGE {key} 31 3.14159265358979323846",
    "SETRANGE {key} 24 4294967296",
    "SETRANGE {key} 17 x",
    "APPEND {key} abc",
    "GET {key}",
    "GET {key}",
    "DEL {key}",
];

#[test]
fn lists() {
    compare(1, &[grammar::LISTS, OTHERS]);
}

#[test]
fn sets() {
    compare(2, &[grammar::SETS, OTHERS]);
}

#[test]
fn sorted_sets() {
    compare(3, &[grammar::ZSETS, OTHERS]);
}

#[test]
fn positions() {
    compare(4, &[grammar::GEO, OTHERS]);
}

#[test]
fn streams() {
    compare(5, &[grammar::STREAMS, OTHERS]);
}

#[test]
fn hyperloglogs() {
    compare(6, &[HLLS, OTHERS]);
}

/// Which of equal elements come first, where only some are asked for.
#[test]
fn ties() {
    let seed = seed(rand::random());
    let redis = Redis::start();
    for round in 0..20 {
        let mut rng = SmallRng::seed_from_u64(seed ^ round);
        let mut pair = Pair::new(&redis, Protocol::Resp2, seed);
        let mut run = |line: String| {
            let command: Command = line.split(' ').map(|arg| arg.as_bytes().to_vec()).collect();
            if let Err(difference) = pair.run(&command) {
                panic!("seed {seed}, round {round}: {line}\n{difference}");
            }
        };
        let (members, places) = (rng.random_range(1..150), rng.random_range(1..20));
        for member in 0..members {
            let place = rng.random_range(0..places);
            run(format!("GEOADD g {place} {place} {member}"));
            run(format!("SET w{member} {place}"));
            run(format!("RPUSH l {member}"));
        }
        for _ in 0..20 {
            let order = *["ASC", "DESC"].choose(&mut rng).expect("two");
            let count = rng.random_range(1..members + 5);
            run(format!("GEOSEARCH g FROMLONLAT 3 3 BYRADIUS 9999 km {order} COUNT {count}"));
            run(format!("GEOSEARCH g FROMMEMBER 0 BYBOX 900 900 km {order} COUNT {count}"));
            run(format!("GEORADIUS g 5 5 999 km COUNT {count} WITHDIST"));
            let start = rng.random_range(-1..members + 2);
            let count = rng.random_range(-1..members + 2);
            run(format!("SORT l BY w* LIMIT {start} {count} ALPHA {order}"));
            run(format!("SORT l BY w* LIMIT {start} {count} {order}"));
            run(format!("SORT l BY w* LIMIT {start} {count} ALPHA STORE to"));
            run("LRANGE to 0 -1".to_owned());
        }
    }
}

fn compare(salt: u64, families: &[&[&'static str]]) {
    let seconds = std::env::var("TANDEM_TEST_SECONDS").ok().and_then(|s| s.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(2));
    let seed = seed(rand::random());
    // A range by bytes of members with several scores is undefined, and in a skip list it depends on
    // its random levels: no sorted set becomes one here.
    let redis = Redis::options().with("zset-max-listpack-value", "1000").start();
    let mut commands = 0;
    for round in 0.. {
        let protocol = if round % 2 == 0 { Protocol::Resp2 } else { Protocol::Resp3 };
        let mut grammar = Grammar::new(seed ^ (salt << 32) ^ round, 5, families);
        let mut pair = Pair::new(&redis, protocol, seed);
        let mut last = Vec::new();
        for _ in 0..400 {
            let command = grammar.command();
            last.push(show(&command));
            if let Err(difference) = pair.run(&command) {
                let from = last.len().saturating_sub(60);
                panic!("seed {seed}, round {round}:\n{}\n{difference}", last[from..].join("\n"));
            }
            commands += 1;
        }
        if Instant::now() > end {
            break;
        }
    }
    println!("{commands} commands alike");
}

fn show(command: &Command) -> String {
    command.iter().map(|arg| format!("{:?} ", String::from_utf8_lossy(arg))).collect()
}

struct Pair {
    client: Client,
    keyspace: Keyspace,
    protocol: Protocol,
}

impl Pair {
    fn new(redis: &Redis, protocol: Protocol, seed: u64) -> Pair {
        let mut client = redis.client();
        if protocol == Protocol::Resp3 {
            client.run("HELLO 3");
        }
        client.run("FLUSHALL");
        Pair { client, keyspace: Keyspace::new(1, true, Expiry::ByClock, seed), protocol }
    }

    /// Runs a command on both sides.
    fn run(&mut self, command: &Command) -> Result<(), String> {
        let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
        let (theirs, now_ms) = self.ask(command, &name);
        self.keyspace.now_ms = now_ms;
        if matches!(name.as_str(), "sscan" | "zscan") && !theirs.is_error() {
            return self.walk(command, theirs);
        }
        if name == "spop" && !theirs.is_error() {
            return self.take_out(command, &theirs);
        }
        let random = matches!(name.as_str(), "srandmember" | "zrandmember");
        let ours = self.execute(command);
        let (theirs, ours) = (settle(&name, command, theirs), settle(&name, command, ours));
        if random && self.picks_fit(command, &theirs, &ours) || alike(&theirs, &ours) {
            return Ok(());
        }
        Err(format!("Redis:  {theirs:?}\nengine: {ours:?}"))
    }

    /// Redis's reply, and the time in ms at which it was made. What would block runs in a transaction.
    fn ask(&mut self, command: &Command, name: &str) -> (Value, i64) {
        let time = || vec![b"TIME".to_vec()];
        let blocks = name.starts_with('b') || name.starts_with("xread");
        let mut commands = vec![time(), command.clone(), time()];
        if blocks {
            commands.insert(1, vec![b"MULTI".to_vec()]);
            commands.insert(3, vec![b"EXEC".to_vec()]);
        }
        let mut replies = self.client.pipeline(commands);
        let after = milliseconds(replies.pop());
        let before = milliseconds(Some(replies.remove(0)));
        let reply = match (blocks, replies.pop()) {
            (true, Some(Value::Array(mut executed))) => executed.remove(0),
            (true, _) => replies.remove(1),
            (false, reply) => reply.unwrap_or(Value::Nil),
        };
        // The new id tells on which side of a tick the command ran.
        let id_ms = match &reply {
            Value::Bulk(id) if name == "xadd" => {
                String::from_utf8_lossy(id).split('-').next().and_then(|ms| ms.parse().ok())
            }
            _ => None,
        };
        (reply, if id_ms == Some(after) { after } else { before })
    }

    fn execute(&mut self, command: &Command) -> Value {
        let args: Vec<Bytes> = command.iter().map(|arg| Bytes::copy_from_slice(arg)).collect();
        let call = Call { db: 0, protocol: self.protocol, args: &args, from_log: false };
        let reply = match engine::execute(&mut self.keyspace, &call) {
            Ok(reply) => reply,
            Err(Stop::Error(text)) => Reply::Error(text),
            Err(Stop::NotLoaded(needs)) => panic!("{needs:?} of a whole keyspace"),
        };
        value(reply, self.protocol)
    }

    /// What SPOP took in Redis was there, and is taken here too, as the replication stream does it.
    fn take_out(&mut self, command: &Command, theirs: &Value) -> Result<(), String> {
        let members = match theirs {
            Value::Nil => Vec::new(),
            Value::Bulk(member) => vec![member.clone()],
            other => other.clone().items().iter().map(|m| m.bytes().to_vec()).collect(),
        };
        if members.is_empty() {
            let ours = self.execute(command);
            return if alike(theirs, &ours) {
                Ok(())
            } else {
                Err(format!("Redis:  {theirs:?}\nengine: {ours:?}"))
            };
        }
        let count = members.len() as i64;
        let srem = [vec![b"SREM".to_vec(), command[1].clone()], members].concat();
        match self.execute(&srem) {
            Value::Int(removed) if removed == count => Ok(()),
            other => Err(format!("SPOP took {theirs:?}, of which the engine had {other:?}")),
        }
    }

    /// From cursor 0 to the end both find the same elements, in pages of any size.
    fn walk(&mut self, command: &Command, first: Value) -> Result<(), String> {
        if command[2] != b"0" {
            return Ok(());
        }
        let mut walked = [Vec::new(), Vec::new()];
        for (side, found) in walked.iter_mut().enumerate() {
            let mut page = if side == 0 { first.clone() } else { self.execute(command) };
            loop {
                let Value::Array(parts) = page else { return Err(format!("engine: {page:?}")) };
                let [cursor, Value::Array(elements)] = &parts[..] else {
                    return Err(format!("no page: {parts:?}"));
                };
                found.extend(elements.iter().cloned());
                if cursor.bytes() == b"0" {
                    break;
                }
                let mut next = command.clone();
                next[2] = cursor.bytes().to_vec();
                page = if side == 0 { self.client.call(&next) } else { self.execute(&next) };
            }
        }
        // Scores in any writing.
        let [theirs, ours] =
            walked.map(|found| sorted(flat(&Value::Array(found)).unwrap_or_default()));
        if theirs == ours { Ok(()) } else { Err(format!("Redis:  {theirs:?}\nengine: {ours:?}")) }
    }

    /// Random picks: as many, and members all of them.
    fn picks_fit(&mut self, command: &Command, theirs: &Value, ours: &Value) -> bool {
        let (Some(theirs), Some(ours)) = (flat(theirs), flat(ours)) else { return false };
        let all = match command[0].to_ascii_lowercase().as_slice() {
            b"srandmember" => self.execute(&vec![b"SMEMBERS".to_vec(), command[1].clone()]),
            _ => self.execute(
                &[
                    "ZRANGE".into(),
                    command[1].clone(),
                    "0".into(),
                    "-1".into(),
                    "WITHSCORES".into(),
                ]
                .to_vec(),
            ),
        };
        let all = flat(&all).unwrap_or_default();
        theirs.len() == ours.len() && theirs.iter().chain(&ours).all(|one| all.contains(one))
    }
}

fn milliseconds(time: Option<Value>) -> i64 {
    let parts: Vec<i64> =
        time.map(|t| t.items().iter().map(Value::int).collect()).unwrap_or_default();
    parts[0] * 1000 + parts[1] / 1000
}

/// The values in a reply, one after the other, numbers in one writing and zero without a sign.
fn flat(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => {
            items.iter().map(flat).collect::<Option<Vec<_>>>().map(|items| items.concat())
        }
        Value::Error(_) => None,
        Value::Double(score) => Some(vec![Value::bulk((score + 0.0).to_string())]),
        Value::Bulk(text) => {
            match std::str::from_utf8(text).ok().and_then(|t| t.parse::<f64>().ok()) {
                Some(number) => Some(vec![Value::bulk((number + 0.0).to_string())]),
                None => Some(vec![value.clone()]),
            }
        }
        other => Some(vec![other.clone()]),
    }
}

/// The reply as a client of this protocol reads it.
fn value(reply: Reply, protocol: Protocol) -> Value {
    let all = |items: Vec<Reply>| items.into_iter().map(|item| value(item, protocol)).collect();
    match (reply, protocol) {
        (Reply::Simple(text), _) => Value::Simple(text.into_owned()),
        (Reply::Error(text), _) => Value::Error(text.into_owned()),
        (Reply::Int(int), _) => Value::Int(int),
        (Reply::Bulk(bytes), _) => Value::Bulk(bytes.to_vec()),
        (Reply::Nil | Reply::NilArray, _) => Value::Nil,
        (Reply::Array(items), _) => Value::Array(all(items)),
        (Reply::Set(items), Protocol::Resp2) => Value::Array(all(items)),
        (Reply::Set(items), Protocol::Resp3) => Value::Set(all(items)),
        (Reply::Map(pairs), Protocol::Resp2) => {
            Value::Array(all(pairs.into_iter().flat_map(|(k, v)| [k, v]).collect()))
        }
        (Reply::Map(pairs), Protocol::Resp3) => Value::Map(
            pairs.into_iter().map(|(k, v)| (value(k, protocol), value(v, protocol))).collect(),
        ),
        (Reply::Double(number), _) => Value::Double(number),
        (other, _) => panic!("{other:?} is no reply of these commands"),
    }
}

/// What may differ is made equal: the order of what has none, times, and sizes of Redis's index.
fn settle(name: &str, command: &Command, value: Value) -> Value {
    match (name, value) {
        ("smembers" | "sinter" | "sunion" | "sdiff", Value::Array(items)) => {
            Value::Array(sorted(items))
        }
        ("smembers" | "sinter" | "sunion" | "sdiff", Value::Set(items)) => {
            Value::Set(sorted(items))
        }
        ("xpending", Value::Array(entries)) if command.len() > 3 => Value::Array(
            entries
                .into_iter()
                .map(|entry| match entry {
                    Value::Array(mut parts) if parts.len() == 4 => {
                        parts[2] = Value::Int(0);
                        Value::Array(parts)
                    }
                    other => other,
                })
                .collect(),
        ),
        ("xinfo", value) => without_times(value),
        (_, value) => value,
    }
}

fn sorted(mut items: Vec<Value>) -> Vec<Value> {
    items.sort_by_key(|item| format!("{item:?}"));
    items
}

fn without_times(value: Value) -> Value {
    const MASKED: [&[u8]; 4] = [b"radix-tree-keys", b"radix-tree-nodes", b"idle", b"seen-time"];
    match value {
        Value::Array(items) => {
            let mut masked = Vec::with_capacity(items.len());
            let mut mask = false;
            for item in items {
                let name = matches!(&item, Value::Bulk(b) if MASKED.contains(&b.as_slice()));
                masked.push(if mask { Value::Nil } else { without_times(item) });
                mask = name;
            }
            Value::Array(masked)
        }
        Value::Map(pairs) => {
            let mask = |(name, value): (Value, Value)| {
                let hide = matches!(&name, Value::Bulk(b) if MASKED.contains(&b.as_slice()));
                (name, if hide { Value::Nil } else { without_times(value) })
            };
            Value::Map(pairs.into_iter().map(mask).collect())
        }
        // Delivery times of pending entries.
        Value::Int(time) if time > 1_000_000_000_000 => Value::Int(0),
        other => other,
    }
}

/// Equal, where a double may be written in any way that reads back to the same bits; but for the sign
/// of zero, which a sorted set keeps or loses by the history of its encoding.
fn alike(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Array(a), Value::Array(b)) | (Value::Set(a), Value::Set(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| alike(&a.0, &b.0) && alike(&a.1, &b.1))
        }
        (Value::Bulk(text), Value::Double(number)) => {
            let text = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
            text.is_some_and(|text| same(text, *number))
        }
        (Value::Double(a), Value::Double(b)) => same(*a, *b),
        (a, b) => a == b,
    }
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a == 0.0 && b == 0.0)
}
