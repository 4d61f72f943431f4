//! Values of a real Redis, made at random by commands and read back by commands, as the judge of the
//! RDB decoder.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{Client, Value};
use tandem::rdb::{
    Object, PendingEntry, StreamConsumer, StreamEntry, StreamGroup, StreamId, StreamObject,
};

/// Makes values that reach every encoding Redis itself chooses from.
pub struct Maker {
    rng: SmallRng,
    client: Client,
}

impl Maker {
    pub fn new(seed: u64, client: Client) -> Maker {
        Maker { rng: SmallRng::seed_from_u64(seed), client }
    }

    /// Creates `key` with a value of a random type.
    pub fn make(&mut self, key: &str) {
        match self.rng.random_range(0..6) {
            0 => {
                let text = self.text();
                self.call(&["SET", key], &[text]);
            }
            1 => self.many("RPUSH", key, |maker| vec![maker.text()]),
            2 => {
                let integers = self.rng.random_bool(0.5);
                self.many("SADD", key, |maker| {
                    vec![if integers { maker.integer() } else { maker.text() }]
                });
            }
            3 => self.many("ZADD", key, |maker| vec![maker.score(), maker.text()]),
            4 => self.many("HSET", key, |maker| vec![maker.text(), maker.text()]),
            _ => self.stream(key),
        }
        if self.rng.random_bool(0.3) {
            let at = self.rng.random_range(4_000_000_000_000u64..5_000_000_000_000);
            self.client.call(["PEXPIREAT", key, &at.to_string()]);
        }
    }

    fn call(&mut self, head: &[&str], tail: &[Vec<u8>]) {
        let words = head.iter().map(|word| word.as_bytes()).chain(tail.iter().map(Vec::as_slice));
        let reply = self.client.call(words.collect::<Vec<_>>());
        assert!(!reply.is_error(), "{head:?}: {reply:?}");
    }

    fn many(&mut self, command: &str, key: &str, mut item: impl FnMut(&mut Maker) -> Vec<Vec<u8>>) {
        let count = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(1..4),
            1 => self.rng.random_range(1..200),
            2 => self.rng.random_range(400..700),
            _ => self.rng.random_range(1..30),
        };
        let items: Vec<Vec<u8>> = (0..count).flat_map(|_| item(self)).collect();
        self.call(&[command, key], &items);
    }

    fn integer(&mut self) -> Vec<u8> {
        let bits = self.rng.random_range(1..64);
        let number = self.rng.random_range(-(1i64 << (bits - 1))..1 << (bits - 1));
        number.to_string().into_bytes()
    }

    fn score(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..4) {
            0 => self.integer(),
            1 => b"-inf".to_vec(),
            2 => format!("{}", self.rng.random_range(-1.0..1.0f64)).into_bytes(),
            _ => format!("{:e}", f64::from_bits(self.rng.random::<u64>() >> 2)).into_bytes(),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let length = match self.rng.random_range(0..20) {
            0 => 0,
            1 => self.rng.random_range(60..70),
            2 => self.rng.random_range(250..270),
            3 => self.rng.random_range(4000..5000),
            4 if self.rng.random_bool(0.1) => self.rng.random_range(16_000..70_000),
            5..=9 => return self.integer(),
            _ => self.rng.random_range(1..12),
        };
        if self.rng.random_bool(0.3) {
            // Compressible, for LZF.
            let period = self.rng.random_range(1..20);
            return (0..length).map(|at| b'a' + (at % period) as u8).collect();
        }
        (0..length).map(|_| self.rng.random()).collect()
    }

    fn stream(&mut self, key: &str) {
        let mut ids = Vec::new();
        let mut ms = self.rng.random_range(1..1u64 << 40);
        for _ in 0..self.rng.random_range(1..300) {
            ms += self.rng.random_range(1..3000);
            let id = format!("{ms}-{}", self.rng.random_range(0..1000));
            let other = self.rng.random_bool(0.2);
            let mut words = vec![if other { self.text() } else { b"field".to_vec() }, self.text()];
            if self.rng.random_bool(0.5) {
                words.extend([b"second".to_vec(), self.text()]);
            }
            self.call(&["XADD", key, &id], &words);
            ids.push(id);
        }
        let deleted: Vec<String> =
            ids.iter().filter(|_| self.rng.random_bool(0.1)).cloned().collect();
        for id in deleted {
            self.call(&["XDEL", key, &id], &[]);
        }
        for group in 0..self.rng.random_range(0..3) {
            let group = format!("group{group}");
            let start = if self.rng.random_bool(0.5) { "0" } else { "$" };
            self.call(&["XGROUP", "CREATE", key, &group, start], &[]);
            for consumer in 0..self.rng.random_range(0..3) {
                let (name, count) = (format!("c{consumer}"), self.rng.random_range(1..40));
                let count = count.to_string();
                let head =
                    ["XREADGROUP", "GROUP", &group, &name, "COUNT", &count, "STREAMS", key, ">"];
                self.call(&head, &[]);
            }
            let done = &ids[self.rng.random_range(0..ids.len())];
            self.call(&["XACK", key, &group, done], &[]);
        }
        if self.rng.random_bool(0.2) {
            self.call(&["XTRIM", key, "MAXLEN", "5"], &[]);
        }
    }
}

fn bytes(value: Value) -> Bytes {
    Bytes::from(value.bytes().to_vec())
}

fn all(value: Value) -> Vec<Bytes> {
    value.items().into_iter().map(bytes).collect()
}

fn pairs(value: Value) -> Vec<(Bytes, Bytes)> {
    let items = all(value);
    items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// The value of `key` as commands tell it, with unordered types in the order of their bytes.
pub fn by_commands(client: &mut Client, key: &[u8]) -> Object {
    let kind = client.call([b"TYPE", key]).text();
    let object = match kind.as_str() {
        "string" => Object::String(bytes(client.call([b"GET", key]))),
        "list" => Object::List(all(client.call([&b"LRANGE"[..], key, b"0", b"-1"]))),
        "set" => Object::Set(all(client.call([b"SMEMBERS", key]))),
        "hash" => Object::Hash(pairs(client.call([b"HGETALL", key]))),
        "zset" => {
            let reply = client.call([&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"]);
            let score = |text: &Bytes| {
                std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).expect("a score")
            };
            Object::ZSet(pairs(reply).into_iter().map(|(m, s)| (m, score(&s))).collect())
        }
        "stream" => Object::Stream(stream(client, key)),
        other => panic!("{other:?}: {:?}", String::from_utf8_lossy(key)),
    };
    sorted(object)
}

/// Brings unordered types into the order of their bytes.
pub fn sorted(mut object: Object) -> Object {
    match &mut object {
        Object::Set(members) => members.sort(),
        Object::Hash(fields) => fields.sort(),
        Object::ZSet(members) => members.sort_by(|a, b| a.0.cmp(&b.0)),
        Object::Stream(stream) => {
            stream.groups.sort_by(|a, b| a.name.cmp(&b.name));
            for group in &mut stream.groups {
                group.consumers.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        _ => {}
    }
    object
}

fn id(value: &Value) -> StreamId {
    let text = value.text();
    let (ms, seq) = text.split_once('-').expect("ms-seq");
    StreamId { ms: ms.parse().expect("ms"), seq: seq.parse().expect("seq") }
}

/// The value behind `name` in a flat list of names and values.
fn field(items: &[Value], name: &str) -> Value {
    let at = items.iter().position(|item| matches!(item, Value::Bulk(b) if b == name.as_bytes()));
    items[at.unwrap_or_else(|| panic!("no {name}")) + 1].clone()
}

fn stream(client: &mut Client, key: &[u8]) -> StreamObject {
    let entries = client.call([&b"XRANGE"[..], key, b"-", b"+"]).items().into_iter().map(|entry| {
        let entry = entry.items();
        StreamEntry { id: id(&entry[0]), fields: pairs(entry[1].clone()) }
    });
    let entries = entries.collect();
    let info = client.call([&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"]).items();
    let groups = field(&info, "groups").items().into_iter().map(|group| {
        let group = group.items();
        let pending = field(&group, "pending").items().into_iter().map(|pending| {
            let pending = pending.items();
            PendingEntry {
                id: id(&pending[0]),
                consumer: bytes(pending[1].clone()),
                delivery_time_ms: pending[2].int(),
                delivery_count: pending[3].int() as u64,
            }
        });
        let consumers = field(&group, "consumers").items().into_iter().map(|consumer| {
            let consumer = consumer.items();
            StreamConsumer {
                name: bytes(field(&consumer, "name")),
                seen_time_ms: field(&consumer, "seen-time").int(),
                active_time_ms: None,
            }
        });
        let entries_read = field(&group, "entries-read");
        StreamGroup {
            name: bytes(field(&group, "name")),
            last_id: id(&field(&group, "last-delivered-id")),
            entries_read: (entries_read != Value::Nil).then(|| entries_read.int() as u64),
            pending: pending.collect(),
            consumers: consumers.collect(),
        }
    });
    StreamObject {
        entries,
        last_id: id(&field(&info, "last-generated-id")),
        first_id: id(&field(&info, "recorded-first-entry-id")),
        max_deleted_id: id(&field(&info, "max-deleted-entry-id")),
        entries_added: field(&info, "entries-added").int() as u64,
        groups: groups.collect(),
    }
}
