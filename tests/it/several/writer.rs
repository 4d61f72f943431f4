//! A client with checkable writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Client, Tandem, Value};

/// What one client has had acknowledged: its counter, and what it has put into a list.
pub struct Writer {
    pub number: usize,
    ports: Vec<u16>,
    client: Option<Client>,
    /// Writes that were acknowledged, and that may or may not have been done.
    pub done: u64,
    pub unsure: u64,
    pub pushed: Vec<String>,
    /// The longest time between two acknowledgements, and that of one command.
    pub slowest: Duration,
    pub slowest_call: Duration,
}

impl Writer {
    pub fn new(number: usize, all: &[&Tandem]) -> Writer {
        let ports = (0..all.len()).map(|n| all[(number + n) % all.len()].port()).collect();
        Writer {
            number,
            ports,
            client: None,
            done: 0,
            unsure: 0,
            pushed: Vec::new(),
            slowest: Duration::ZERO,
            slowest_call: Duration::ZERO,
        }
    }

    fn counter(&self) -> String {
        format!("counter:{}", self.number)
    }

    fn list(&self) -> String {
        format!("list:{}", self.number)
    }

    /// Writes until it is told to end; goes to the next proxy when one has failed it.
    pub fn run(mut self, over: &AtomicBool) -> Writer {
        let mut acknowledged_at = Instant::now();
        for n in 0_u64.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let Some(client) = &mut self.client else {
                match Client::connect(("127.0.0.1", self.ports[0])) {
                    Ok(mut client) => {
                        client.set_timeout(Duration::from_secs(20));
                        self.client = Some(client);
                    }
                    Err(_) => {
                        self.ports.rotate_left(1);
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
                continue;
            };
            let id = format!("{}:{n}", self.number);
            let (counter, list) =
                (format!("counter:{}", self.number), format!("list:{}", self.number));
            let asked = Instant::now();
            let reply = match n % 2 {
                0 => client.try_call(["INCR", &counter]),
                _ => client.try_call(["RPUSH", &list, &id]),
            };
            self.slowest_call = self.slowest_call.max(asked.elapsed());
            match reply {
                Ok(Value::Int(_)) => {
                    self.slowest = self.slowest.max(acknowledged_at.elapsed());
                    acknowledged_at = Instant::now();
                    match n % 2 {
                        0 => self.done += 1,
                        _ => self.pushed.push(id),
                    }
                }
                Ok(refusal) => {
                    // An error before it was run, or after which nobody knows.
                    let text = format!("{refusal:?}");
                    let known = ["UNAVAILABLE", "UNKNOWNOUTCOME", "READONLY", "LOADING"];
                    assert!(known.iter().any(|word| text.contains(word)), "{text}");
                    self.unsure += u64::from(text.contains("UNKNOWNOUTCOME") && n % 2 == 0);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => {
                    self.unsure += u64::from(n % 2 == 0);
                    self.client = None;
                    self.ports.rotate_left(1);
                }
            }
        }
        self
    }

    pub fn check(&self, direct: &mut Client) {
        let count = match direct.call(["GET", &self.counter()]) {
            Value::Nil => 0,
            count => count.text().parse::<u64>().expect("a number"),
        };
        let (least, most) = (self.done, self.done + self.unsure);
        assert!((least..=most).contains(&count), "{}: {count} of {least}..={most}", self.counter());
        let kept: Vec<String> = direct
            .call(["LRANGE", &self.list(), "0", "-1"])
            .items()
            .iter()
            .map(Value::text)
            .collect();
        let mut position = kept.iter();
        for id in &self.pushed {
            assert!(position.any(|kept| kept == id), "{id} is lost, twice or out of order");
        }
        let mut unique = kept.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), kept.len(), "something was done twice");
    }
}
