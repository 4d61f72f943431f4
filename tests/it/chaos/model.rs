//! What one client has written, and what became of it.
//!
//! Each client has keys of its own, and knows of each of its writes whether it was acknowledged, refused, or has an
//! unknown outcome. What was acknowledged is there exactly once and in order, what was refused is not, and no read is
//! older than what was acknowledged before.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Client, RespError, Value, encode};

/// No command takes longer, whatever happens.
pub const BOUND: Duration = Duration::from_secs(12);

/// Words that begin the errors of commands that were not run.
const NOT_RUN: [&str; 7] =
    ["UNAVAILABLE", "READONLY", "LOADING", "NOAUTH", "WRONGPASS", "OOM", "EXECABORT"];

/// Numbers that were written to one key, in this order, and whether each was acknowledged.
#[derive(Default)]
struct Written(Vec<(i64, bool)>);

impl Written {
    fn note(&mut self, n: i64, fate: &Fate) {
        match fate {
            Fate::Done(_) => self.0.push((n, true)),
            Fate::Unknown => self.0.push((n, false)),
            Fate::NotRun => {}
        }
    }

    /// How many may be there.
    fn count(&self) -> RangeInclusive<i64> {
        let acknowledged = self.0.iter().filter(|(_, acknowledged)| *acknowledged).count();
        acknowledged as i64..=self.0.len() as i64
    }

    /// What they may come to.
    fn sum(&self) -> RangeInclusive<i64> {
        let known = self.0.iter().filter(|(_, known)| *known).map(|(n, _)| n).sum();
        known..=self.0.iter().map(|(n, _)| n).sum()
    }

    /// `held` are those that are there: all that were acknowledged, in order, none twice.
    fn check(&self, what: &str, mut held: Vec<i64>, ordered: bool) {
        if !ordered {
            held.sort_unstable();
        }
        assert!(held.is_sorted_by(|a, b| a < b), "{what}: out of order, or twice: {held:?}");
        for (n, acknowledged) in &self.0 {
            assert!(
                !acknowledged || held.binary_search(n).is_ok(),
                "{what}: {n} was acknowledged and is not there"
            );
        }
        for n in &held {
            let sent = self.0.iter().any(|(sent, _)| sent == n);
            assert!(sent, "{what}: {n} was refused and is there");
        }
    }
}

#[derive(Default)]
pub struct Model {
    pub client: u64,
    next: i64,
    counter: Written,
    list: Written,
    set: Written,
    stream: Written,
    text: Written,
    transfers: Written,
    pub slowest: Duration,
    pub acknowledged: u64,
    pub unknown: u64,
    pub refused: u64,
}

/// What became of a command.
enum Fate {
    Done(Value),
    NotRun,
    Unknown,
}

pub struct Writer {
    pub model: Model,
    port: u16,
    connection: Option<Client>,
    rng: StdRng,
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

impl Writer {
    pub fn new(client: u64, port: u16, seed: u64) -> Writer {
        let rng = StdRng::seed_from_u64(seed.wrapping_add(client));
        Writer { model: Model { client, ..Model::default() }, port, connection: None, rng }
    }

    /// Runs commands one after the other, or all at once, and tells what became of the last one.
    fn call(&mut self, commands: &[&str], at_once: bool) -> Fate {
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Client::connect(("127.0.0.1", self.port)),
        };
        let Ok(mut connection) = connection else { return Fate::NotRun };
        connection.set_timeout(BOUND);
        let began = Instant::now();
        let answered = exchange(&mut connection, commands, at_once);
        self.model.slowest = self.model.slowest.max(began.elapsed());
        assert!(began.elapsed() < BOUND, "{commands:?}: no answer within {BOUND:?}");
        let reply = match answered {
            Ok(reply) => reply,
            // Nobody knows what the process has done before its end.
            Err(_) => return Fate::Unknown,
        };
        let Value::Error(text) = &reply else {
            self.connection = Some(connection);
            return Fate::Done(reply);
        };
        // A transaction that has begun ends with its connection.
        self.connection = (commands.len() == 1 || at_once).then_some(connection);
        if text.starts_with("UNKNOWNOUTCOME") {
            return Fate::Unknown;
        }
        assert!(NOT_RUN.iter().any(|word| text.starts_with(word)), "{commands:?}: {text}");
        Fate::NotRun
    }

    fn run(&mut self, line: &str) -> Fate {
        self.call(&[line], false)
    }

    pub fn step(&mut self) {
        let id = self.model.client;
        self.model.next += 1;
        let n = self.model.next;
        let fate = match self.rng.random_range(0..9) {
            0 => self.write(&format!("INCR c:{id}"), 1, |model| &mut model.counter, Answer::Count),
            1 => {
                self.write(&format!("RPUSH l:{id} {n}"), n, |model| &mut model.list, Answer::Count)
            }
            2 => self.write(&format!("SADD s:{id} {n}"), n, |model| &mut model.set, Answer::One),
            3 => self.write(&format!("XADD x:{id} * n {n}"), n, |m| &mut m.stream, Answer::Id),
            4 => {
                self.write(&format!("APPEND p:{id} {n},"), n, |model| &mut model.text, Answer::Any)
            }
            5 => self.transfer(n),
            6 => self.read(&format!("LLEN l:{id}"), |model| model.list.count()),
            7 => self.read(&format!("SCARD s:{id}"), |model| model.set.count()),
            _ => self.read(&format!("GET c:{id}"), |model| model.counter.count()),
        };
        match fate {
            Fate::Done(_) => self.model.acknowledged += 1,
            Fate::Unknown => self.model.unknown += 1,
            Fate::NotRun => {
                self.model.refused += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn write(
        &mut self,
        line: &str,
        n: i64,
        of: fn(&mut Model) -> &mut Written,
        answer: Answer,
    ) -> Fate {
        let fate = self.run(line);
        let written = of(&mut self.model);
        written.note(n, &fate);
        if let Fate::Done(reply) = &fate {
            let right = match (answer, reply) {
                (Answer::Count, Value::Int(count)) => written.count().contains(count),
                (Answer::One, Value::Int(count)) => *count == 1,
                (Answer::Id, Value::Bulk(id)) => id.contains(&b'-'),
                (Answer::Any, Value::Int(_)) => true,
                _ => false,
            };
            assert!(right, "{line}: {reply:?}, with {:?} acknowledged", written.count());
        }
        fate
    }

    fn read(&mut self, line: &str, possible: fn(&Model) -> RangeInclusive<i64>) -> Fate {
        let fate = self.run(line);
        if let Fate::Done(reply) = &fate {
            let now = number(reply);
            let possible = possible(&self.model);
            assert!(possible.contains(&now), "{line}: {now}, which is none of {possible:?}");
        }
        fate
    }

    /// From one account to another, and into the book.
    fn transfer(&mut self, n: i64) -> Fate {
        let id = self.model.client;
        let (from, to) = (format!("DECRBY a:{id} {n}"), format!("INCRBY b:{id} {n}"));
        let book = format!("RPUSH t:{id} {n}");
        let at_once = self.rng.random_bool(0.5);
        let fate = self.call(&["MULTI", &from, &to, &book, "EXEC"], at_once);
        self.model.transfers.note(n, &fate);
        if let Fate::Done(reply) = &fate {
            let Value::Array(all) = reply else { panic!("EXEC: {reply:?}") };
            let [Value::Int(a), Value::Int(b), Value::Int(count)] = all[..] else {
                panic!("EXEC: {reply:?}")
            };
            assert_eq!(a, -b, "half a transfer");
            assert!(self.model.transfers.count().contains(&count), "EXEC: {reply:?}");
        }
        fate
    }
}

/// What the reply to a write has to be.
#[derive(Clone, Copy)]
enum Answer {
    /// How many there are.
    Count,
    One,
    Id,
    Any,
}

/// The last reply; that to the first command that fails when they go one after the other.
fn exchange(connection: &mut Client, commands: &[&str], at_once: bool) -> Result<Value, RespError> {
    let mut last = Value::Nil;
    if at_once {
        let bytes: Vec<u8> = commands.iter().flat_map(|line| encode(words(line))).collect();
        connection.send(&bytes)?;
        for _ in commands {
            last = connection.receive()?;
        }
        return Ok(last);
    }
    for line in commands {
        last = connection.try_call(words(line))?;
        if last.is_error() {
            break;
        }
    }
    Ok(last)
}

fn number(reply: &Value) -> i64 {
    if *reply == Value::Nil { 0 } else { reply.int() }
}

fn numbers(reply: Value) -> Vec<i64> {
    reply.items().iter().map(Value::int).collect()
}

/// Field and value of each entry: the values.
fn entries(reply: Value) -> Vec<i64> {
    let field = |entry: Value| entry.items().pop().and_then(|fields| fields.items().pop());
    reply.items().into_iter().filter_map(field).map(|value| value.int()).collect()
}

impl Model {
    /// What `client` finds is what was acknowledged. A machine that is busy may still refuse a moment after all was well.
    pub fn check(&self, client: &mut Client, whose: &str) {
        let id = self.client;
        let counter = number(&client.insist(&format!("GET c:{id}")));
        let possible = self.counter.count();
        assert!(possible.contains(&counter), "{whose}: c:{id} is {counter}, none of {possible:?}");
        let of = |name: &str| format!("{whose}: {name}:{id}");
        self.list.check(&of("l"), numbers(client.insist(&format!("LRANGE l:{id} 0 -1"))), true);
        self.set.check(&of("s"), numbers(client.insist(&format!("SMEMBERS s:{id}"))), false);
        self.stream.check(&of("x"), entries(client.insist(&format!("XRANGE x:{id} - +"))), true);
        let text = client.insist(&format!("GET p:{id}"));
        let text = if text == Value::Nil { String::new() } else { text.text() };
        let parts = text.split_terminator(',').map(|n| n.parse().expect("a number"));
        self.text.check(&of("p"), parts.collect(), true);
        self.transfers.check(
            &of("t"),
            numbers(client.insist(&format!("LRANGE t:{id} 0 -1"))),
            true,
        );
        let a = number(&client.insist(&format!("GET a:{id}")));
        let b = number(&client.insist(&format!("GET b:{id}")));
        assert_eq!(a, -b, "{whose}: half a transfer of client {id}");
        let possible = self.transfers.sum();
        assert!(possible.contains(&b), "{whose}: b:{id} is {b}, none of {possible:?}");
    }
}
