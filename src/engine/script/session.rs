//! What a running script reaches: the keyspace, the protocol that it has chosen, what has happened to
//! it. The functions that scripts call live as long as the interpreter, so the keyspace is lent to
//! them by value while a script runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Outside;
use super::outside::Tally;
use super::random::Random;
use super::running::Running;
use super::straits::Straits;
use crate::commands;
use crate::engine::events::Happened;
use crate::engine::stop::{Need, Stop, shown};
use crate::engine::{self, Call, Db, Expiry, Keyspace};
use crate::resp::{Protocol, Reply};

/// How long the main chunk of a library may run.
const LOAD_LIMIT: Duration = Duration::from_millis(500);

/// One run of a script.
pub struct Run {
    pub keyspace: Keyspace,
    pub db: Db,
    /// What the script has chosen with `redis.setresp`.
    pub protocol: Protocol,
    pub read_only: bool,
    refused: Straits,
    pub random: Random,
    /// What lacked when a command stopped: the script ends, and is run again.
    pub lacking: Option<Vec<Need>>,
    /// The error that has ended it, and where.
    pub failure: Option<Failure>,
    wrote: bool,
    /// What it has called, for the statistics.
    pub tallies: BTreeMap<&'static str, Tally>,
}

/// An uncaught error: its text, without a leading dash, and its place.
pub struct Failure {
    pub text: Vec<u8>,
    pub place: Option<(String, i64)>,
}

impl Run {
    pub fn new(
        keyspace: Keyspace,
        db: Db,
        read_only: bool,
        refused: Straits,
        random: Random,
    ) -> Run {
        let (protocol, lacking, failure) = (Protocol::Resp2, None, None);
        let wrote = false;
        let tallies = BTreeMap::new();
        Run { keyspace, db, protocol, read_only, refused, random, lacking, failure, wrote, tallies }
    }
}

/// What `redis.call` comes to.
pub enum Called {
    Replied(Reply, Protocol),
    /// The script itself is at fault; the text without a code.
    Refused(&'static str),
    /// Something is not in memory.
    Stopped,
}

/// Reached by the interpreter's functions.
#[derive(Clone)]
pub struct Shared {
    run: Arc<Mutex<Option<Run>>>,
    outside: Arc<Mutex<Box<dyn Outside>>>,
    pub running: Arc<Running>,
    /// What a library registers while it is loaded.
    pub loading: Arc<Mutex<Option<super::library::Loading>>>,
    /// When its main chunk began to run.
    pub load_began: Arc<Mutex<Option<Instant>>>,
}

impl Shared {
    pub fn new(outside: Box<dyn Outside>) -> Shared {
        Shared {
            run: Arc::default(),
            outside: Arc::new(Mutex::new(outside)),
            running: Arc::default(),
            loading: Arc::default(),
            load_began: Arc::default(),
        }
    }

    pub fn begin(&self, run: Run) {
        *self.run.lock() = Some(run);
    }

    pub fn end(&self) -> Option<Run> {
        self.run.lock().take()
    }

    /// None outside of a run.
    pub fn with<R>(&self, f: impl FnOnce(&mut Run) -> R) -> Option<R> {
        self.run.lock().as_mut().map(f)
    }

    pub fn is_running(&self) -> bool {
        self.run.lock().is_some()
    }

    /// True when the script has to end, whatever it catches.
    pub fn is_over(&self) -> bool {
        self.with(|run| run.lacking.is_some()) == Some(true) || self.running.is_killed()
    }

    /// True when a library's main chunk has run for too long.
    pub fn loads_too_long(&self) -> bool {
        self.load_began.lock().is_some_and(|began| began.elapsed() > LOAD_LIMIT)
    }

    pub fn outside<R>(&self, f: impl FnOnce(&mut dyn Outside) -> R) -> R {
        f(self.outside.lock().as_mut())
    }

    /// Runs a command that a script calls; none outside of a run.
    pub fn call(&self, words: &[Bytes]) -> Option<Called> {
        self.with(|run| self.call_in(run, words))
    }

    fn call_in(&self, run: &mut Run, words: &[Bytes]) -> Called {
        if run.lacking.is_some() {
            return Called::Stopped;
        }
        let Some(command) = command(words) else {
            return Called::Refused("Unknown Redis command called from script");
        };
        if !command.takes(words.len()) {
            return Called::Refused("Wrong number of args calling Redis command from script");
        }
        if command.flags.noscript {
            return Called::Refused("This Redis command is not allowed from script");
        }
        if !self.outside(|outside| outside.may_call(words)) {
            return Called::Refused(
                "The user executing the script can't run this command or subcommand",
            );
        }
        if run.read_only && (command.flags.write || MAY_REPLICATE.contains(&command.name)) {
            return Called::Refused("Write commands are not allowed from read-only scripts.");
        }
        if let Some(text) = run.refused.refuses(&command.flags).filter(|_| !run.wrote) {
            return Called::Replied(Reply::error(text), run.protocol);
        }
        if command.flags.write && !run.wrote {
            run.wrote = true;
            self.running.wrote();
        }
        if run.keyspace.notes_calls() {
            run.keyspace.happen(Happened::Called { db: run.db, words: words.to_vec() });
        }
        let began = Instant::now();
        let protocol = run.protocol;
        let call = Call { db: run.db, protocol, args: words, from_log: false };
        let answer = if command.name == "select" {
            select(run, words)
        } else if command.name.starts_with("xread") && asks_to_block(words) {
            let name = shown(&words[0]);
            let text = format!("ERR {name} command is not allowed with BLOCK option from scripts");
            Err(Stop::failed(text))
        } else if engine::find(&words[0]).is_some() {
            engine::execute(&mut run.keyspace, &call)
        } else {
            self.outside(|outside| outside.call(&mut run.keyspace, &call))
        };
        if !matches!(answer, Err(Stop::NotLoaded(_))) {
            let tally = run.tallies.entry(command.name).or_default();
            tally.add(began.elapsed(), &answer);
        }
        match answer {
            Ok(reply) => Called::Replied(reply, protocol),
            Err(Stop::Error(text)) => Called::Replied(Reply::Error(text), protocol),
            Err(Stop::NotLoaded(needs)) => {
                run.lacking = Some(needs);
                Called::Stopped
            }
        }
    }
}

/// Commands that write nothing and still travel to replicas.
const MAY_REPLICATE: [&str; 3] = ["pfcount", "publish", "spublish"];

/// `XREAD` or `XREADGROUP` with `BLOCK`.
fn asks_to_block(words: &[Bytes]) -> bool {
    let options = words.iter().take_while(|word| !word.eq_ignore_ascii_case(b"streams"));
    options.skip(1).any(|word| word.eq_ignore_ascii_case(b"block"))
}

fn select(run: &mut Run, words: &[Bytes]) -> engine::Answer<Reply> {
    let index = engine::number::int(&words[1])?;
    match u32::try_from(index) {
        Ok(db) if db < run.keyspace.databases_configured => run.db = db,
        _ => return Err(Stop::error("ERR DB index is out of range")),
    }
    Ok(Reply::OK)
}

/// The command, or subcommand, that these words call.
pub fn command(words: &[Bytes]) -> Option<&'static commands::Command> {
    let command = commands::lookup(words.first()?)?;
    match words.get(1) {
        Some(name) if command.container => commands::lookup_sub(command, name),
        _ => Some(command).filter(|command| command.name != "tandem"),
    }
}

/// Stands in for the keyspace that is lent to a script.
pub fn placeholder() -> Keyspace {
    Keyspace::new(1, true, Expiry::ByLog, 0)
}
