//! The command engine: Redis's data types and commands as pure, synchronous code without I/O.
//!
//! [`execute`] runs one command on a [`Keyspace`]. It has two callers: the mirror, which applies the
//! replication stream, and the server when PostgreSQL answers. Each command is written once, as
//! straight-line code; when something it needs is not in memory it stops with
//! [`Stop::NotLoaded`], having changed nothing, and is run again after the load.
//!
//! The rule for every command: read everything first (each read may stop), check all arguments,
//! then change. A command that answers an error has changed nothing.

mod args;
mod bits;
pub mod delta;
mod encoding;
pub mod events;
mod expiry;
mod generic;
mod geo;
pub mod glob;
mod hashes;
mod hyperloglog;
mod keyspace;
mod lists;
pub mod number;
mod object;
mod partial_sort;
pub mod scan;
pub mod script;
mod sets;
mod sort;
mod stop;
mod streams;
mod strings;
mod table;
pub mod value;
mod zsets;

use bytes::Bytes;

pub use generic::library_name;
pub use keyspace::{
    Count, End, Entry, Expiry, Found, Keyspace, LARGE, Loaded, MOST, Savepoint, StreamChange, View,
};
pub use object::{opaque, to_object};
pub use stop::{Answer, Need, Part, Stop, Window, widen};
pub use table::{Command, Footprint, find, needs};
pub use value::Value;

use crate::resp::{Protocol, Reply};

/// Number of a logical database.
pub type Db = u32;

/// One command as it is run.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub db: Db,
    pub protocol: Protocol,
    /// The command's name and its arguments; never empty.
    pub args: &'a [Bytes],
    /// It comes from the replication stream: already checked by Redis, with deterministic effects.
    pub from_log: bool,
}

impl<'a> Call<'a> {
    /// The argument at `index`; the arity was checked, so a missing one is a syntax error.
    pub fn arg(&self, index: usize) -> Answer<&'a Bytes> {
        self.args.get(index).ok_or(Stop::SYNTAX)
    }

    /// Redis's words for a call with too few or too many arguments.
    fn wrong_arity(&self) -> Stop {
        let name = self.args.first().and_then(|name| find(name)).map_or("", |found| found.name);
        Stop::failed(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// The key of a command whose first argument it is.
    pub fn key(&self) -> Answer<&'a Bytes> {
        self.arg(1)
    }
}

/// Commands that look at keys without using them.
const LOOKS_ONLY: [&str; 8] =
    ["ttl", "pttl", "expiretime", "pexpiretime", "type", "exists", "object", "debug"];

/// Runs one command. [`Stop::Error`] carries Redis's words. What is not loaded is named as the store
/// knows it.
pub fn execute(keyspace: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let name = call.arg(0)?;
    let Some(command) = find(name) else {
        return Err(Stop::failed(unknown_command(call.args)));
    };
    if !command.takes(call.args.len()) {
        return Err(call.wrong_arity());
    }
    let before = keyspace.mutations();
    keyspace.leaves_marks = !LOOKS_ONLY.contains(&command.name);
    let mut answer = (command.run)(keyspace, call);
    if let Err(Stop::NotLoaded(needs)) = &mut answer {
        for need in needs {
            (need.db, need.key) = keyspace.stored(need.db, &need.key);
        }
    }
    if keyspace.is_heard() {
        events::tell(keyspace, call, command.name, &answer);
    }
    debug_assert!(
        !matches!(answer, Err(Stop::NotLoaded(_)))
            || before == keyspace.mutations()
            || keyspace.expiry == Expiry::ByClock,
        "{} changed something before it stopped",
        command.name
    );
    answer
}

/// Redis's words for a command that it does not have.
pub fn unknown_command(args: &[Bytes]) -> String {
    const MOST: usize = 128;
    let (mut shown, mut len) = (String::new(), 0);
    for arg in args.iter().skip(1) {
        if len >= MOST {
            break;
        }
        let text = stop::c_text(arg, MOST - len);
        len += text.len() + 3;
        shown.push_str(&format!("'{}' ", stop::shown(text)));
    }
    let name = stop::shown(stop::c_text(&args[0], MOST));
    format!("ERR unknown command '{name}', with args beginning with: {shown}")
}
