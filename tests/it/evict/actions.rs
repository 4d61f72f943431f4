//! What the player does with counters, sessions, leases, lists and sets.

use rand::RngExt;
use support::Value;

use super::model::{Data, Key, now_ms, quarters};
use super::player::{COUNT, Command, FAR, LEASE, Player, RECORDS, RELEASE, words};

/// The counter of all clients.
pub const SHARED: &str = "usage:total";

impl Player {
    /// The bookkeeping of a message: many increments in one pipeline.
    pub fn count_usage(&mut self, n: u64) {
        let key = format!("usage:{}:daily:{n}", self.id);
        let Ok(ends) = self.look(&[&key]) else { return };
        let mut commands = Vec::new();
        for _ in 0..self.rng.random_range(1..12) {
            let field = format!("tokens:{}", self.rng.random_range(0..8));
            let by: i64 = self.rng.random_range(1..1000);
            let sum = self.add_to_field(&key, &field, by);
            commands.push((words(&["HINCRBY", &key, &field, &by.to_string()]), Value::Int(sum)));
        }
        self.ask(&[&key], ends, commands);
    }

    fn add_to_field(&mut self, key: &str, field: &str, by: i64) -> i64 {
        let fields = self.model.hash(key);
        let sum = fields.get(field).map_or(0, |now| now.parse().unwrap_or(0)) + by;
        fields.insert(field.to_owned(), sum.to_string());
        sum
    }

    pub fn add_cost(&mut self, n: u64) {
        let key = format!("usage:cost:total:{}:{n}", self.id);
        let Ok(ends) = self.look(&[&key]) else { return };
        let by = self.rng.random_range(1..40);
        self.model.data(&key, || Data::Quarters(0));
        let sum = self.model.number(&key);
        *sum += by;
        let expected = Value::bulk(quarters(*sum));
        let command = words(&["INCRBYFLOAT", &key, &quarters(by)]);
        self.ask(&[&key], ends, vec![(command, expected)]);
    }

    /// Hashes that end within seconds, or are kept alive.
    pub fn session(&mut self, n: u64) {
        let key = format!("session:{}:{n}", self.id);
        let Ok(ends) = self.look(&[&key]) else { return };
        let there = self.model.keys.get(&key).cloned();
        match (there, self.rng.random_range(0..4)) {
            (there, 0) => {
                let at = there.as_ref().map_or(-2, |key| key.expires_at.unwrap_or(-1));
                let command = words(&["PEXPIRETIME", &key]);
                self.ask(&[&key], ends, vec![(command, Value::Int(at))]);
            }
            (there, 1) => {
                let user = there.map(|_| self.model.hash(&key).get("user").cloned());
                let expected = user.flatten().map_or(Value::Nil, Value::bulk);
                self.ask(&[&key], ends, vec![(words(&["HGET", &key, "user"]), expected)]);
            }
            (there, 2) => {
                let at = now_ms() + self.rng.random_range(500..20_000);
                self.model.expire(&key, Some(at));
                let command = words(&["PEXPIREAT", &key, &at.to_string()]);
                let done = Value::Int(i64::from(there.is_some()));
                self.ask(&[&key], ends, vec![(command, done)]);
            }
            _ => {
                let at = now_ms() + self.rng.random_range(500..20_000);
                let user = format!("user {}", self.rng.random_range(0..1000));
                let new = self.model.hash(&key).insert("user".into(), user.clone()).is_none();
                self.model.expire(&key, Some(at));
                let set = words(&["HSET", &key, "user", &user]);
                let expire = words(&["PEXPIREAT", &key, &at.to_string()]);
                let replies = [Value::Int(i64::from(new)), Value::Int(1)];
                // As one transaction: the time of the old value may be over in between.
                let ok = (words(&["MULTI"]), Value::ok());
                let queued = Value::Simple("QUEUED".into());
                let commands = vec![
                    ok,
                    (set, queued.clone()),
                    (expire, queued),
                    (words(&["EXEC"]), Value::Array(replies.to_vec())),
                ];
                self.ask(&[&key], ends, commands);
            }
        }
    }

    /// A window of scores, by a script that declares its key.
    pub fn lease(&mut self, n: u64) {
        let key = format!("concurrency:{}:{n}", self.id);
        let Ok(ends) = self.look(&[&key]) else { return };
        let member = format!("request {}", self.rng.random_range(0..30));
        if self.rng.random_ratio(1, 3) {
            let members = self.model.zset(&key);
            members.remove(&member);
            let left = Value::Int(members.len() as i64);
            self.model.tidy(&key);
            let command = words(&["EVAL", RELEASE, "1", &key, &member]);
            return self.ask(&[&key], ends, vec![(command, left)]);
        }
        // Scores are times of the client's own, so that every answer is known.
        let over = self.commands as i64;
        let score = over + self.rng.random_range(1..2_000);
        let at = if self.rng.random_ratio(1, 2) { FAR } else { now_ms() + 3_000 };
        let members = self.model.zset(&key);
        members.retain(|_, score| *score > over);
        members.insert(member.clone(), score);
        let count = Value::Int(members.len() as i64);
        self.model.expire(&key, Some(at));
        let [score, over, at] = [score, over, at].map(|number| number.to_string());
        let command = words(&["EVAL", LEASE, "1", &key, &member, &score, &over, &at]);
        self.ask(&[&key], ends, vec![(command, count)]);
    }

    /// The last entries of a list, and how many there were, by a transaction.
    pub fn record(&mut self, n: u64) {
        let (key, count) = (format!("usage:records:{}:{n}", self.id), format!("n:{}:{n}", self.id));
        let Ok(ends) = self.look(&[&key, &count]) else { return };
        if self.rng.random_ratio(1, 4) {
            let items = self.model.keys.contains_key(&key).then(|| self.model.list(&key).clone());
            let expected = Value::bulks(items.unwrap_or_default());
            let command = words(&["LRANGE", &key, "0", "-1"]);
            return self.ask(&[&key], ends, vec![(command, expected)]);
        }
        let entry = format!("{{\"cost\":{}}}", self.rng.random_range(0..1_000_000));
        let items = self.model.list(&key);
        items.push_front(entry.clone());
        let length = Value::Int(items.len() as i64);
        items.truncate(RECORDS);
        let number = self.add_to_field(&count, "records", 3);
        self.model.expire(&count, Some(FAR));
        let queued = Value::Simple("QUEUED".into());
        let last = (RECORDS - 1).to_string();
        let counted = Value::Array(vec![length, Value::ok(), Value::Int(number)]);
        let commands = vec![
            (words(&["MULTI"]), Value::ok()),
            (words(&["LPUSH", &key, &entry]), queued.clone()),
            (words(&["LTRIM", &key, "0", &last]), queued.clone()),
            (words(&["EVAL", COUNT, "1", &count, "records", "3", &FAR.to_string()]), queued),
            (words(&["EXEC"]), counted),
        ];
        self.ask(&[&key, &count], ends, commands);
    }

    /// Sets and what two of them have in common.
    pub fn tag(&mut self, n: u64) {
        let key = |n: u64| format!("apikey:tag:{}:{n}", self.id);
        let (key, other, into) = (key(n), key(n + 1), format!("apikey:both:{}:{n}", self.id));
        let Ok(ends) = self.look(&[&key, &other, &into]) else { return };
        let member = format!("key {}", self.rng.random_range(0..20));
        let (command, expected) = match self.rng.random_range(0..6) {
            0..=2 => {
                let new = self.model.set(&key).insert(member.clone());
                (words(&["SADD", &key, &member]), i64::from(new))
            }
            3 => {
                let was = self.model.set(&key).remove(&member);
                self.model.tidy(&key);
                (words(&["SREM", &key, &member]), i64::from(was))
            }
            4 => {
                let there = self.model.set(&key).contains(&member);
                self.model.tidy(&key);
                (words(&["SISMEMBER", &key, &member]), i64::from(there))
            }
            _ => {
                let theirs = self.model.set(&other).clone();
                let both: std::collections::BTreeSet<String> =
                    self.model.set(&key).intersection(&theirs).cloned().collect();
                let count = both.len() as i64;
                let data = Data::Set(both);
                self.model.keys.insert(into.clone(), Key { data, expires_at: None });
                [&key, &other, &into].into_iter().for_each(|key| self.model.tidy(key));
                (words(&["SINTERSTORE", &into, &key, &other]), count)
            }
        };
        self.ask(&[&key, &other, &into], ends, vec![(command, Value::Int(expected))]);
    }

    /// All clients count here: nobody knows the answer, but it never falls.
    pub fn count_together(&mut self) {
        let by = self.rng.random_range(1..5);
        let command: Command = words(&["HINCRBY", SHARED, "requests", &by.to_string()]);
        let now = self.client.call(command).int();
        assert!(now >= self.last_shared + by, "{SHARED} is {now} after {}", self.last_shared);
        self.commands += 1;
        self.keys += 1;
        self.last_shared = now;
        self.shared += by;
    }
}
