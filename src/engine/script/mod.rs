//! Scripts and functions in Lua 5.1, as Redis 7.0 runs them.
//!
//! [`Scripts`] stands beside the keyspace and has one entry, [`Scripts::execute`], for the commands of
//! [`Scripts::takes`] (`EVAL`, `EVALSHA`, their `_RO` forms, `SCRIPT`, `FUNCTION`, `FCALL`,
//! `FCALL_RO`). It answers as [`super::execute`] does:
//!
//! ```ignore
//! let answer = if Scripts::takes(name) {
//!     scripts.execute(&mut keyspace, &call)
//! } else {
//!     engine::execute(&mut keyspace, &call)
//! };
//! ```
//!
//! With [`Stop::NotLoaded`] the keyspace is as it was before the script (a savepoint is rolled back):
//! load, and call again with the same clock. Random numbers go on from the same state, so the script
//! takes the same way.
//!
//! Commands that the engine lacks (`PUBLISH`, `CONFIG`, …) go to [`Outside`]. A script holds the
//! keyspace for as long as it runs; other threads ask [`Scripts::running`] whether it is slow, and
//! have it killed there.
//!
//! Libraries are persisted as [`Step::Function`](super::delta::Step) of the delta and taken in again
//! with [`Scripts::load_library`].

mod api;
mod convert;
mod eval;
mod globals;
mod interpreter;
mod libraries;
mod library;
mod memory;
mod outside;
mod raise;
mod random;
mod running;
mod session;
mod shebang;
mod straits;

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

pub use outside::{Alone, Level, Outside, Tally};
pub use running::{Kind, Running};
pub use straits::Straits;

use self::interpreter::Interpreter;
use self::library::Libraries;
use self::random::Random;
use self::session::{Run, Shared};
use self::shebang::Flags;
use super::stop::{Answer, Need, Part, Stop};
use super::{Call, Keyspace};
use crate::resp::Reply;

/// How much scripts, and how much functions, may hold in memory, in bytes, unless told otherwise.
const MAX_BYTES: usize = 256 << 20;

/// The script cache, the function libraries and the interpreters that run them.
pub struct Scripts {
    shared: Shared,
    /// By SHA1 in hex.
    cache: HashMap<String, Script, ahash::RandomState>,
    /// The SHA1 of each script that has come as its text.
    known: HashMap<Bytes, Arc<str>, ahash::RandomState>,
    libraries: Libraries,
    /// Made when first used, and anew after a flush or when it ran out of memory.
    eval: Option<Interpreter>,
    functions: Option<Interpreter>,
    random: Random,
    /// What the server cannot do at the moment.
    pub straits: Straits,
    /// Bytes that one interpreter may hold.
    pub max_bytes: usize,
}

struct Script {
    source: Bytes,
    /// None without a shebang: as scripts were before Redis 7.0.
    flags: Option<Flags>,
    /// It is compiled in the interpreter there is.
    compiled: bool,
}

/// A script or function that is about to run.
struct Start<'a> {
    kind: Kind,
    /// SHA1 or function.
    name: &'a str,
    read_only: bool,
    refused: Straits,
    keys: &'a [Bytes],
    args: &'a [Bytes],
}

impl Scripts {
    pub fn new(outside: Box<dyn Outside>) -> Scripts {
        Scripts {
            shared: Shared::new(outside),
            cache: HashMap::default(),
            known: HashMap::default(),
            libraries: Libraries::default(),
            eval: None,
            functions: None,
            random: Random::new(),
            straits: Straits::default(),
            max_bytes: MAX_BYTES,
        }
    }

    /// True for the commands that [`Scripts::execute`] runs, in any case.
    pub fn takes(name: &[u8]) -> bool {
        const NAMES: [&str; 8] =
            ["eval", "evalsha", "eval_ro", "evalsha_ro", "script", "function", "fcall", "fcall_ro"];
        NAMES.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }

    /// What runs now, for other threads.
    pub fn running(&self) -> std::sync::Arc<Running> {
        self.shared.running.clone()
    }

    /// Whether a call of a script or function may write; what cannot be known may.
    pub fn may_write(&self, args: &[Bytes]) -> bool {
        let Some(what) = args.get(1) else { return true };
        let flags = match args[0].to_ascii_lowercase().as_slice() {
            b"eval" => shebang::flags(what).ok().and_then(|(flags, _)| flags),
            b"evalsha" => {
                let sha = String::from_utf8_lossy(what).to_ascii_lowercase();
                self.cache.get(&sha).and_then(|script| script.flags)
            }
            b"fcall" => self.libraries.find(what).map(|(_, declared)| declared.flags),
            _ => return false,
        };
        flags.is_none_or(|flags| !flags.no_writes())
    }

    /// How many scripts are kept, and how many libraries and functions.
    pub fn counts(&self) -> (usize, usize, usize) {
        let (libraries, functions) = self.libraries.counts();
        (self.cache.len(), libraries, functions)
    }

    /// Runs one of the commands of [`Scripts::takes`].
    pub fn execute(&mut self, keyspace: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
        let name = call.arg(0)?.to_ascii_lowercase();
        let words = crate::commands::lookup(&name);
        if words.is_some_and(|command| !command.takes(call.args.len())) {
            let name = String::from_utf8_lossy(&name);
            let text = format!("ERR wrong number of arguments for '{name}' command");
            return Err(Stop::failed(text));
        }
        match name.as_slice() {
            b"eval" => self.eval(keyspace, call, false),
            b"eval_ro" => self.eval(keyspace, call, true),
            b"evalsha" => self.eval_sha(keyspace, call, false),
            b"evalsha_ro" => self.eval_sha(keyspace, call, true),
            b"script" => self.script(call),
            b"function" => self.function(keyspace, call),
            b"fcall" => self.fcall(keyspace, call, false),
            b"fcall_ro" => self.fcall(keyspace, call, true),
            _ => super::execute(keyspace, call),
        }
    }

    /// Lends the keyspace to a script and runs it.
    fn run(&mut self, ks: &mut Keyspace, call: &Call<'_>, start: &Start<'_>) -> Answer<Reply> {
        let interpreter = match start.kind {
            Kind::Eval => &self.eval,
            Kind::Function => &self.functions,
        };
        let Some(interpreter) = interpreter else { return Err(broken("no interpreter")) };
        let savepoint = ks.savepoint();
        ks.declare(Some(start.keys));
        let lent = std::mem::replace(ks, session::placeholder());
        let run = Run::new(lent, call.db, start.read_only, start.refused, self.random);
        self.shared.begin(run);
        let counts = self.libraries.counts();
        self.shared.running.begin(start.name, start.kind, call.args, counts);
        let ran = (|| {
            let keys = interpreter.strings(start.keys)?;
            let args = interpreter.strings(start.args)?;
            match start.kind {
                Kind::Eval => interpreter.run(start.name, keys, args),
                Kind::Function => interpreter.call(start.name, keys, args),
            }
        })();
        self.shared.running.end();
        let Some(run) = self.shared.end() else { return Err(broken("no session")) };
        let reply = match &ran {
            Ok(Ok(value)) => Ok(convert::to_reply(&interpreter.lua, value.clone(), run.protocol)),
            Ok(Err(value)) => Err(failure(start, &run, value)),
            Err(_) if run.failure.is_some() => Err(failure(start, &run, &mlua::Value::Nil)),
            Err(error) => Err(broken(&raise::message(error))),
        };
        let out_of_memory = match &ran {
            Ok(Err(value)) => {
                value.as_string().is_some_and(|text| &*text.as_bytes() == b"not enough memory")
            }
            Ok(Ok(_)) => false,
            Err(_) => true,
        };
        drop(ran);
        *ks = run.keyspace;
        ks.declare(None);
        if let Some(mut needs) = run.lacking {
            ks.rollback(savepoint);
            // The first look at each key that is declared, all at once.
            let declared = start.keys.iter().map(|key| Need {
                db: call.db,
                key: key.clone(),
                part: Part::Meta,
            });
            needs.extend(declared.filter_map(|need| ks.lacks(&need)));
            return Err(Stop::NotLoaded(needs));
        }
        self.shared.outside(|outside| outside.called(&run.tallies));
        ks.release(savepoint);
        self.random = run.random;
        if out_of_memory {
            self.restart(start.kind);
        }
        reply
    }

    /// The next script gets a new interpreter.
    fn restart(&mut self, kind: Kind) {
        match kind {
            Kind::Eval => {
                self.eval = None;
                self.cache.values_mut().for_each(|script| script.compiled = false);
            }
            Kind::Function => self.functions = None,
        }
    }
}

/// The error reply of a script that ended with one. Source: `luaCallFunction` of Redis 7.0.
fn failure(start: &Start<'_>, run: &Run, value: &mlua::Value) -> Stop {
    let name = start.name;
    let Some(failure) = &run.failure else {
        let text =
            value.as_string().map(|text| String::from_utf8_lossy(&text.as_bytes()).into_owned());
        let text = text.unwrap_or_else(|| "execution failure".into());
        return Stop::failed(format!("ERR Error running script {name}, {text}"));
    };
    let text = String::from_utf8_lossy(super::stop::c_text(&failure.text, usize::MAX));
    match &failure.place {
        Some((source, line)) => Stop::failed(format!("{text} script: {name}, on {source}:{line}.")),
        None => Stop::failed(text),
    }
}

/// Runs one level of a recursion whose depth scripts decide on, with room on the stack.
fn with_stack<R>(level: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(64 << 10, 1 << 20, level)
}

/// The interpreter itself could not go on.
fn broken(what: &str) -> Stop {
    Stop::failed(format!("ERR Error running script: {what}"))
}
