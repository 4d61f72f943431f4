//! A client that works as the relay does, on keys of its own, and knows every answer beforehand.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{Client, Value};

use super::model::{Data, Key, Model, Presence, now_ms, text};

/// Fields of an API key's hash.
const FIELDS: u64 = 30;
/// A list keeps its last entries.
pub const RECORDS: usize = 20;
/// Far in the future, in Unix ms.
pub const FAR: i64 = 4_000_000_000_000;

pub const LEASE: &str = "redis.call('ZREMRANGEBYSCORE',KEYS[1],'-inf',ARGV[3]) \
                     redis.call('ZADD',KEYS[1],ARGV[2],ARGV[1]) \
                     redis.call('PEXPIREAT',KEYS[1],ARGV[4]) return redis.call('ZCARD',KEYS[1])";
pub const RELEASE: &str = "redis.call('ZREM',KEYS[1],ARGV[1]) local n=redis.call('ZCARD',KEYS[1]) \
                       if n==0 then redis.call('DEL',KEYS[1]) end return n";
pub const COUNT: &str = "local n=redis.call('HINCRBY',KEYS[1],ARGV[1],ARGV[2]) \
                     redis.call('PEXPIREAT',KEYS[1],ARGV[3]) return n";

pub struct Player {
    pub model: Model,
    /// What the client has added to the counter that all clients share.
    pub shared: i64,
    pub commands: u64,
    /// Keys that its commands named.
    pub keys: u64,
    pub id: u64,
    items: u64,
    pub client: Client,
    pub rng: SmallRng,
    pub last_shared: i64,
}

pub type Command = Vec<String>;

pub fn words(parts: &[&str]) -> Command {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

impl Player {
    /// `items` large texts are most of its data.
    pub fn new(id: u64, seed: u64, items: u64, client: Client) -> Player {
        let rng = SmallRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(id));
        let model = Model::default();
        Player { model, shared: 0, commands: 0, keys: 0, id, items, client, rng, last_shared: 0 }
    }

    pub fn item(&self, n: u64) -> String {
        format!("request_detail:item:{}:{n}", self.id)
    }

    pub fn fill(&mut self) {
        for from in (0..self.items).step_by(50) {
            let numbers: Vec<u64> = (from..self.items.min(from + 50)).collect();
            let sets: Vec<Command> = numbers
                .iter()
                .map(|n| words(&["SET", &self.item(*n), &text(self.number(*n), 0)]))
                .collect();
            for reply in self.client.pipeline(sets) {
                assert_eq!(reply, Value::ok());
            }
            for n in numbers {
                let data = Data::Item(self.number(n), 0);
                self.model.keys.insert(self.item(n), Key { data, expires_at: None });
            }
        }
        for n in 0..self.items / 20 {
            self.write_api_key(n);
        }
    }

    /// The number of an item among those of all clients.
    fn number(&self, n: u64) -> u64 {
        self.id * 1_000_000 + n
    }

    /// Four of five times one of the few that are in demand.
    fn pick(&mut self, among: u64) -> u64 {
        let hot = (among / 20).max(1);
        let most = if self.rng.random_ratio(4, 5) { hot } else { among.max(1) };
        self.rng.random_range(0..most)
    }

    /// Runs commands on these keys in one pipeline and compares the replies. A key that ended meanwhile may
    /// have been seen or not, so it is removed for good.
    pub fn ask(&mut self, keys: &[&str], ends: Option<i64>, commands: Vec<(Command, Value)>) {
        self.commands += commands.len() as u64;
        self.keys += keys.len() as u64;
        let (commands, expected): (Vec<Command>, Vec<Value>) = commands.into_iter().unzip();
        let replies = self.client.pipeline(commands.clone());
        if ends.is_some_and(|at| at - 50 <= now_ms()) {
            for key in keys {
                self.client.call(["DEL", key]);
                self.model.keys.remove(*key);
            }
            return;
        }
        for ((command, reply), expected) in commands.iter().zip(replies).zip(expected) {
            assert!(reply == expected, "{command:?} answered {reply:?} instead of {expected:?}");
        }
    }

    /// When the first of the keys ends; `Err`: just now, so nobody can tell what a command would answer.
    pub fn look(&mut self, keys: &[&str]) -> Result<Option<i64>, ()> {
        let mut ends = None;
        for key in keys {
            match self.model.presence(key) {
                Presence::Unsure => return Err(()),
                Presence::Gone => drop(self.model.keys.remove(*key)),
                Presence::There => {
                    let at = self.model.keys.get(*key).and_then(|key| key.expires_at);
                    ends = ends.min(at).or(ends).or(at);
                }
            }
        }
        Ok(ends)
    }

    pub fn act(&mut self) {
        let n = self.pick(self.items);
        let few = self.pick(self.items / 20);
        match self.rng.random_range(0..100) {
            0..=19 => self.read_item(n),
            20..=25 => self.write_item(n),
            26..=29 => self.read_items(n),
            30..=31 => self.drop_or_rename(n),
            32..=41 => self.read_api_key(few),
            42..=44 => self.write_api_key(few),
            45..=62 => self.count_usage(few),
            63..=67 => self.add_cost(few),
            68..=76 => self.session(few),
            77..=84 => self.lease(few),
            85..=89 => self.record(few),
            90..=94 => self.tag(few),
            _ => self.count_together(),
        }
    }

    fn read_item(&mut self, n: u64) {
        let key = self.item(n);
        let Ok(ends) = self.look(&[&key]) else { return };
        let expected = self.expected_item(&key);
        self.ask(&[&key], ends, vec![(words(&["GET", &key]), expected)]);
    }

    fn expected_item(&self, key: &str) -> Value {
        match self.model.keys.get(key).map(|key| &key.data) {
            Some(Data::Item(item, version)) => Value::bulk(text(*item, *version)),
            _ => Value::Nil,
        }
    }

    fn read_items(&mut self, n: u64) {
        let keys: Vec<String> = (n..n + 5).map(|n| self.item(n)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let Ok(ends) = self.look(&keys) else { return };
        let expected = Value::Array(keys.iter().map(|key| self.expected_item(key)).collect());
        let command = words(&[&["MGET"], &keys[..]].concat());
        self.ask(&keys, ends, vec![(command, expected)]);
    }

    /// Half of what is written anew ends within seconds.
    fn write_item(&mut self, n: u64) {
        let (key, item) = (self.item(n), self.number(n));
        let Ok(ends) = self.look(&[&key]) else { return };
        let version = self.rng.random_range(1..1_000_000);
        let short = self.rng.random_ratio(1, 2);
        let at = if short { now_ms() + self.rng.random_range(500..5_000) } else { FAR };
        let command = words(&["SET", &key, &text(item, version), "PXAT", &at.to_string()]);
        let data = Data::Item(item, version);
        self.model.keys.insert(key.clone(), Key { data, expires_at: Some(at) });
        self.ask(&[&key], ends, vec![(command, Value::ok())]);
    }

    fn drop_or_rename(&mut self, n: u64) {
        let key = self.item(n);
        let other = self.item(self.pick_cold());
        let Ok(ends) = self.look(&[&key, &other]) else { return };
        if key != other && self.rng.random_ratio(1, 3) && self.model.keys.contains_key(&key) {
            let moved = self.model.keys.remove(&key).expect("it is there");
            self.model.keys.insert(other.clone(), moved);
            let command = words(&["RENAME", &key, &other]);
            return self.ask(&[&key, &other], ends, vec![(command, Value::ok())]);
        }
        let there = i64::from(self.model.keys.remove(&key).is_some());
        let again = (words(&["GET", &key]), Value::Nil);
        self.ask(&[&key], ends, vec![(words(&["DEL", &key]), Value::Int(there)), again]);
    }

    fn pick_cold(&self) -> u64 {
        (self.commands * 7919) % self.items
    }

    fn read_api_key(&mut self, n: u64) {
        let key = format!("apikey:{}:{n}", self.id);
        let Ok(ends) = self.look(&[&key]) else { return };
        let fields = match self.model.keys.get(&key) {
            Some(_) => self.model.hash(&key).clone(),
            None => BTreeMap::new(),
        };
        let field = format!("field:{}", self.rng.random_range(0..FIELDS + 2));
        let value = fields.get(&field).map_or(Value::Nil, Value::bulk);
        let count = Value::Int(fields.len() as i64);
        let commands = [
            (words(&["HGET", &key, &field]), value.clone()),
            (words(&["HMGET", &key, &field, "none"]), Value::Array(vec![value, Value::Nil])),
            (words(&["HLEN", &key]), count),
        ];
        let command = commands[self.rng.random_range(0..commands.len())].clone();
        self.ask(&[&key], ends, vec![command]);
    }

    /// The relay writes such a hash anew with each message.
    fn write_api_key(&mut self, n: u64) {
        let key = format!("apikey:{}:{n}", self.id);
        let Ok(ends) = self.look(&[&key]) else { return };
        let stamp: u32 = self.rng.random();
        let from = self.rng.random_range(0..FIELDS);
        let (mut command, mut new) = (words(&["HSET", &key]), 0);
        for f in from..FIELDS {
            let (field, value) = (format!("field:{f}"), format!("value {f} as of {stamp}"));
            new += i64::from(self.model.hash(&key).insert(field.clone(), value.clone()).is_none());
            command.extend([field, value]);
        }
        self.ask(&[&key], ends, vec![(command, Value::Int(new))]);
    }
}
