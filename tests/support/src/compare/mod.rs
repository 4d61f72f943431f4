//! The judge of the mirror: reads the whole keyspace from Redis and from PostgreSQL by itself and names every
//! difference in keys, types, values, order, scores (to the bit) and expiry (absolute, in ms).

mod diff;
mod glob;
mod postgres_side;
mod redis_side;
mod value;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use diff::Differences;
pub use redis_side::read as redis_keyspace;
pub use value::{Entry, FUNCTIONS, Group, KeyName, Stream, StreamId, Value};

use crate::{Client, Postgres, Redis, encode};

/// All keys of one side. Ordered, so that both sides can be walked together.
pub type Keyspace = BTreeMap<KeyName, Entry>;

/// Where to find both sides.
#[derive(Clone, Debug)]
pub struct Sides {
    pub redis_address: String,
    pub redis_password: Option<String>,
    pub postgres_url: String,
    /// The schema with the mirror's tables.
    pub schema: String,
    /// Redis globs of keys that live in Redis alone; they must be absent from PostgreSQL.
    pub unmirrored: Vec<String>,
}

/// Why two sides could not be called equal.
#[derive(Debug)]
pub enum NotEqual {
    /// One side could not be read, or did not come to rest.
    Unreadable(String),
    Different(Differences),
}

impl std::fmt::Display for NotEqual {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotEqual::Unreadable(why) => f.write_str(why),
            NotEqual::Different(differences) => write!(f, "{differences}"),
        }
    }
}

impl Sides {
    pub fn new(redis: &Redis, postgres: &Postgres) -> Sides {
        Sides {
            redis_address: format!("127.0.0.1:{}", redis.port()),
            redis_password: redis.password().map(str::to_owned),
            postgres_url: postgres.url(),
            schema: "tandem".into(),
            unmirrored: Vec::new(),
        }
    }

    fn redis_client(&self) -> Result<Client, String> {
        let told = |e: &dyn std::fmt::Display| format!("Redis at {}: {e}", self.redis_address);
        let mut client = Client::connect(&self.redis_address).map_err(|e| told(&e))?;
        // One key may be a value of hundreds of megabytes.
        client.set_timeout(Duration::from_secs(120));
        if let Some(password) = &self.redis_password {
            client.try_call(["AUTH", password]).map_err(|e| told(&e))?;
        }
        Ok(client)
    }

    pub fn redis_keyspace(&self) -> Result<Keyspace, String> {
        redis_side::read(&mut self.redis_client()?).map_err(|e| format!("Redis: {e}"))
    }

    /// All keys, and what contradicts itself in the tables.
    pub fn postgres_keyspace(&self) -> Result<(Keyspace, Vec<String>), String> {
        postgres_side::read(&self.postgres_url, &self.schema)
            .map_err(|e| format!("PostgreSQL: {}", postgres_side::explain(&e)))
    }

    /// Waits until PostgreSQL has everything that Redis had when this was called: a marker key is written
    /// straight to Redis, and since the log is one, all before it has arrived once the marker has.
    pub fn settle(&self, limit: Duration) -> Result<(), String> {
        const MARKER: &str = "tandem-test:marker";
        let mut redis = self.redis_client()?;
        let token = rand::random::<u64>().to_string();
        for (write, expected) in [
            (encode(["SET", MARKER, &token]), Some(token.as_bytes())),
            (encode(["DEL", MARKER]), None),
        ] {
            redis.send(&write).map_err(|e| e.to_string())?;
            let reply = redis.receive().map_err(|e| e.to_string())?;
            if reply.is_error() {
                return Err(format!("the marker could not be written: {reply:?}"));
            }
            let start = Instant::now();
            loop {
                let seen = postgres_side::string(&self.postgres_url, &self.schema, MARKER);
                match seen {
                    Ok(seen) if seen.as_deref() == expected => break,
                    _ if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
                    Ok(_) => return Err(format!("PostgreSQL has not caught up within {limit:?}")),
                    Err(e) => return Err(format!("PostgreSQL: {}", postgres_side::explain(&e))),
                }
            }
        }
        // What the mirror could not follow it reads again.
        let start = Instant::now();
        while postgres_side::rereads(&self.postgres_url, &self.schema) != Some(0) {
            if start.elapsed() > limit {
                return Err(format!("PostgreSQL waits for keys that are read again for {limit:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Reads both sides once and compares them.
    pub fn differences(&self) -> Result<Differences, String> {
        let (mut redis, (postgres, faults)) = (self.redis_keyspace()?, self.postgres_keyspace()?);
        let local = |name: &KeyName| self.unmirrored.iter().any(|p| glob::matches(p, &name.key));
        redis.retain(|name, _| !local(name));
        Ok(Differences { faults, ..Differences::between(&redis, &postgres) })
    }

    /// Waits for the mirror and compares. Keys may expire between the two readings, so a key counts as
    /// different only when it is on three looks. Returns the number of keys.
    pub fn equal(&self, limit: Duration) -> Result<usize, NotEqual> {
        let mut looks = 0;
        let mut before: Option<Differences> = None;
        loop {
            self.settle(limit).map_err(NotEqual::Unreadable)?;
            let mut differences = self.differences().map_err(NotEqual::Unreadable)?;
            if let Some(before) = &before {
                differences.found.retain(|(name, _)| before.found.iter().any(|(n, _)| n == name));
            }
            looks += 1;
            if differences.is_empty() {
                return Ok(differences.keys);
            }
            if looks == 3 {
                return Err(NotEqual::Different(differences));
            }
            before = Some(differences);
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// As [`Sides::equal`]; panics with all differences.
    pub fn assert_equal(&self) {
        if let Err(why) = self.equal(Duration::from_secs(60)) {
            panic!("Redis and PostgreSQL differ:\n{why}");
        }
    }
}
