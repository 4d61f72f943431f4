//! Tandem and a real Redis in lockstep where PostgreSQL leads: random commands of all types with hostile arguments, alone,
//! in pipelines, transactions and scripts, in both protocols. Every reply and now and then everything held is compared, in
//! `database_first` also what the Redis that follows holds. `./dev lockstep` runs a million of them.

mod batch;
mod same;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use support::commands::{self, Commands};
use support::compare::{Differences, Sides, redis_keyspace};
use support::{Client, Postgres, Redis, Tandem, Value, seed, wait_for};

use batch::{Batch, SCRIPTS};

/// So many commands lie between two looks at everything.
const BETWEEN_LOOKS: u64 = 10_000;
/// Commands shown when a reply differs.
const SHOWN: usize = 60;

/// The proxy comes first: it ends first, and does not see its backends go.
struct Pair {
    tandem: Tandem,
    redis: Redis,
    postgres: Postgres,
    /// Follows PostgreSQL in `database_first`.
    follower: Option<Redis>,
    /// In RESP2 and in RESP3.
    theirs: [Client; 2],
    ours: [Client; 2],
    history: VecDeque<String>,
}

impl Pair {
    fn start(follower: Option<Redis>) -> Pair {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem")).postgres(&postgres);
        let tandem = match &follower {
            Some(follower) => tandem.redis(follower).mode("database_first").allow("is away"),
            None => tandem.mode("postgres_only"),
        };
        let tandem = tandem.allow("PostgreSQL is not reachable");
        // Little stays in memory, so that most of it is loaded again and again.
        let tandem = tandem.set("mirror", "cache_bytes", 50_000).start();
        tandem.wait_serving();
        let theirs = [redis.client(), redis.client()];
        let ours = [tandem.client(), tandem.client()];
        let history = VecDeque::new();
        let mut pair = Pair { tandem, redis, postgres, follower, theirs, ours, history };
        for client in [&mut pair.theirs, &mut pair.ours] {
            assert!(!client[1].run("HELLO 3").is_error());
            client.iter_mut().for_each(|client| client.set_timeout(Duration::from_secs(60)));
        }
        for script in SCRIPTS {
            pair.run(0, &Batch::of(&["SCRIPT", "LOAD", script]));
        }
        pair
    }

    /// Sends a batch to both sides and compares the replies.
    fn run(&mut self, which: usize, batch: &Batch) {
        let theirs = self.theirs[which].pipeline(&batch.commands);
        let ours = self.ours[which].pipeline(&batch.commands);
        for ((command, theirs), ours) in batch.commands.iter().zip(theirs).zip(ours) {
            self.history.push_back(format!("{which}: {}", shown(command)));
            if self.history.len() > SHOWN {
                self.history.pop_front();
            }
            if !same::replies(batch, command, &theirs, &ours) {
                let history: Vec<&str> = self.history.iter().map(String::as_str).collect();
                let history = history.join("\n");
                panic!("after\n{history}\nRedis:  {theirs:?}\nTandem: {ours:?}");
            }
        }
    }

    /// Compares all keys: as clients see them, as PostgreSQL has them, and as the Redis that follows has them.
    fn look_at_everything(&self) {
        let mut theirs = redis_keyspace(&mut self.redis.client()).expect("readable");
        let mut ours = redis_keyspace(&mut self.tandem.client()).expect("readable");
        let sides = Sides::new(&self.redis, &self.postgres);
        let (mut stored, faults) = sides.postgres_keyspace().expect("readable");
        let mut looked_at = vec![("clients see", &mut ours), ("PostgreSQL has", &mut stored)];
        let mut followed = self.follower.as_ref().map(|follower| {
            wait_for("Redis to have everything", Duration::from_secs(120), || {
                self.tandem.status()["follower_state"] == "whole"
            });
            redis_keyspace(&mut follower.client()).expect("readable")
        });
        looked_at.extend(followed.as_mut().map(|keys| ("the Redis that follows has", keys)));
        same::without_clock(&mut theirs);
        let history = || self.history.iter().cloned().collect::<Vec<_>>().join("\n");
        for (what, keys) in looked_at {
            same::without_clock(keys);
            let differences = Differences::between(&theirs, keys);
            assert!(differences.is_empty(), "{what}\n{differences}\nafter\n{}", history());
        }
        assert!(faults.is_empty(), "{faults:?}");
    }
}

fn shown(command: &[Vec<u8>]) -> String {
    command.iter().map(|word| format!("\"{}\" ", word.escape_ascii())).collect()
}

#[test]
fn a_redis_and_postgres_only_in_lockstep() {
    in_lockstep(None);
}

#[test]
fn a_redis_and_database_first_in_lockstep() {
    in_lockstep(Some(Redis::start()));
}

fn in_lockstep(follower: Option<Redis>) {
    let wanted = std::env::var("TANDEM_TEST_LOCKSTEP_COMMANDS").ok().and_then(|n| n.parse().ok());
    let mut commands = Commands::new(
        seed(rand::random()),
        &[
            commands::STRINGS,
            commands::BITS,
            commands::HYPERLOGLOG,
            commands::HASHES,
            commands::GENERIC,
            commands::LISTS,
            commands::SETS,
            commands::SORTED_SETS,
            commands::STREAMS,
            commands::PLACES,
            commands::GROUPS,
            commands::RANGES,
        ],
    );
    let mut pair = Pair::start(follower);
    let (start, mut count, mut look) = (Instant::now(), 0, BETWEEN_LOOKS);
    let goes_on = |count: u64| match wanted {
        Some(wanted) => count < wanted,
        None => start.elapsed() < Duration::from_secs(5),
    };
    while goes_on(count) {
        let which = usize::from(batch::one_in(&mut commands, 3));
        if batch::one_in(&mut commands, 40) {
            // Another client may touch what is watched.
            pair.run(which, &batch::watch(&mut commands));
            pair.run(1 - which, &Batch::random(&mut commands));
            pair.run(which, &Batch::transaction(&mut commands));
        }
        if batch::one_in(&mut commands, 60)
            && let Value::Bulk(dump) = pair.theirs[which].call(batch::dump(&mut commands))
        {
            pair.run(which, &batch::restore(&mut commands, dump));
        }
        let batch = Batch::random(&mut commands);
        pair.run(which, &batch);
        count += batch.commands.len() as u64;
        if count >= look {
            pair.look_at_everything();
            look = count + BETWEEN_LOOKS;
            println!("{count} commands after {:?}", start.elapsed());
        }
    }
    pair.look_at_everything();
    println!("{count} commands alike in {:?}", start.elapsed());
    assert!(count > 500, "only {count} commands");
}
