//! Clients that write without a pause, and know what has to be there in the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use support::{Client, Tandem, Value, wait_for};

const LIST: &str = "entries";

pub struct Load {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Writer>>,
}

/// What one client knows.
struct Writer {
    number: usize,
    client: Client,
    /// Lowest and highest value that the counter may have.
    counter: (i64, i64),
    /// What was pushed, in order, and whether it was acknowledged.
    pushed: Vec<(String, bool)>,
    added: Vec<(String, bool)>,
    /// The round of the last value that was acknowledged.
    last: u64,
    unknown: u64,
    rounds: Arc<AtomicU64>,
}

impl Load {
    pub fn start(tandem: &Tandem, clients: usize) -> Load {
        let stop = Arc::<AtomicBool>::default();
        let rounds: Vec<_> = (0..clients).map(|_| Arc::<AtomicU64>::default()).collect();
        let threads = rounds.iter().enumerate().map(|(number, rounds)| {
            let mut client = tandem.client();
            client.set_timeout(Duration::from_secs(60));
            let mut writer = Writer {
                number,
                client,
                counter: (0, 0),
                pushed: Vec::new(),
                added: Vec::new(),
                last: 0,
                unknown: 0,
                rounds: Arc::clone(rounds),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    writer.round(round);
                    writer.rounds.store(round, Ordering::Relaxed);
                    // More would measure how fast PostgreSQL takes what Redis took before.
                    std::thread::sleep(Duration::from_millis(4));
                }
                writer
            })
        });
        let threads = threads.collect();
        Load { stop, rounds, threads }
    }

    /// Waits until every client has done so many rounds more.
    pub fn wait_for_more(&self, rounds: u64) {
        for (thread, done) in self.threads.iter().zip(&self.rounds) {
            let wanted = done.load(Ordering::Relaxed) + rounds;
            wait_for("the load", Duration::from_secs(60), || {
                assert!(!thread.is_finished(), "a client has ended");
                done.load(Ordering::Relaxed) >= wanted
            });
        }
    }

    /// Ends the clients; how many commands had an unknown outcome.
    #[track_caller]
    pub fn stop_and_check(self, tandem: &Tandem) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let writers: Vec<Writer> =
            self.threads.into_iter().map(|thread| thread.join().expect("no failure")).collect();
        let mut client = tandem.client();
        let list: Vec<String> =
            client.run(&format!("LRANGE {LIST} 0 -1")).items().iter().map(Value::text).collect();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (place, entry) in list.iter().enumerate() {
            assert_eq!(places.insert(entry, place), None, "{entry} is there twice");
        }
        for writer in &writers {
            writer.check(&mut client, &places);
        }
        let pushed: usize = writers.iter().map(|writer| writer.pushed.len()).sum();
        assert!(list.len() <= pushed, "nobody has pushed more");
        let dead = client.run("KEYS gone:*").items();
        assert_eq!(dead, [], "what was deleted has come back");
        writers.iter().map(|writer| writer.unknown).sum()
    }
}

impl Writer {
    /// The reply, or `None` when nobody knows whether the command has run.
    fn run(&mut self, command: &str) -> Option<Value> {
        let reply = self.client.run(command);
        if let Value::Error(text) = &reply {
            assert!(text.starts_with("UNKNOWNOUTCOME"), "{command}: {text}");
            self.unknown += 1;
            return None;
        }
        Some(reply)
    }

    fn round(&mut self, round: u64) {
        let number = self.number;
        let (low, high) = self.counter;
        self.counter = match self.run(&format!("INCR counter:{number}")) {
            Some(reply) => {
                let value = reply.int();
                assert!((low + 1..=high + 1).contains(&value), "{value} after {low}..={high}");
                (value, value)
            }
            None => (low, high + 1),
        };
        let entry = format!("{number}-{round}");
        let known = self.run(&format!("RPUSH {LIST} {entry}")).is_some();
        self.pushed.push((entry.clone(), known));
        let known = self.run(&format!("SADD set:{number} {entry}")).is_some();
        self.added.push((entry, known));
        if self.run(&format!("SET last:{number} {round}")).is_some() {
            self.last = round;
        }
        if let Some(seen) = self.run(&format!("GET last:{number}")) {
            let seen: u64 = seen.text().parse().expect("a number");
            assert!((self.last..=round).contains(&seen), "{seen} after {}", self.last);
        }
        // A name for each round, so that nothing hides what comes back.
        let gone = format!("gone:{number}:{round}");
        self.run(&format!("HSET {gone} f {round}"));
        if self.run(&format!("DEL {gone}")).is_none() {
            self.run(&format!("DEL {gone}"));
        }
    }

    fn check(&self, client: &mut Client, places: &HashMap<&str, usize>) {
        let number = self.number;
        let counter = client.run(&format!("GET counter:{number}")).text();
        let counter: i64 = counter.parse().expect("a number");
        let (low, high) = self.counter;
        assert!((low..=high).contains(&counter), "counter {number}: {counter}, not {low}..={high}");
        let mut before = None;
        for (entry, known) in &self.pushed {
            let place = places.get(entry.as_str()).copied();
            assert!(place.is_some() || !known, "{entry} is lost");
            assert!(place.is_none() || place > before, "{entry} is out of order");
            before = place.or(before);
        }
        let members = client.run(&format!("SMEMBERS set:{number}")).items();
        let members: std::collections::HashSet<String> = members.iter().map(Value::text).collect();
        for (entry, known) in &self.added {
            assert!(members.contains(entry) || !known, "{entry} is lost");
        }
        assert!(members.len() <= self.added.len());
        let last: u64 = client.run(&format!("GET last:{number}")).text().parse().expect("a number");
        assert!(last >= self.last, "last:{number} is {last}, not {}", self.last);
    }
}
