//! Function libraries: `FUNCTION`, `FCALL`, `FCALL_RO`.
//! Source: <https://redis.io/docs/latest/develop/programmability/functions-intro/>.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use mlua::Value;

use super::eval::keys_and_args;
use super::interpreter::Interpreter;
use super::running::{Kind, function_stats};
use super::shebang::Flags;
use super::{Scripts, Start, broken, raise};
use crate::engine::delta::Step;
use crate::engine::library_name;
use crate::engine::stop::{Answer, Stop, shown};
use crate::engine::{Call, Keyspace, glob, number};
use crate::rdb;
use crate::resp::{Reply, split_arguments};

mod register;

pub use register::{Loading, register};

const HELP: [&str; 40] = [
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries:",
    "    * Library name",
    "    * The engine used to run the Library",
    "    * Library description",
    "    * Functions list",
    "    * Library code (if WITHCODE is given)",
    "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
    "STATS",
    "    Return information about the current function running:",
    "    * Function name",
    "    * Command used to run the function",
    "    * Duration in MS that the function is running",
    "    If no function is running, return nil",
    "    In addition, returns a list of available engines.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the libraries.",
    "    * SYNC: Synchronously flush the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
    "    control how to handle existing libraries (default APPEND):",
    "    * FLUSH: delete all existing libraries.",
    "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
    "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
    "      libraries with the new libraries (notice that even on this option there is a chance of failure",
    "      in case of functions name collision with another library).",
    "HELP",
    "    Prints this help.",
];

/// The libraries that are loaded, by name.
#[derive(Clone, Debug, Default)]
pub struct Libraries(BTreeMap<Bytes, Library>);

#[derive(Clone, Debug)]
struct Library {
    source: Bytes,
    functions: BTreeMap<Bytes, Declared>,
}

/// A function as its library has registered it.
#[derive(Clone, Debug)]
pub struct Declared {
    pub description: Option<Bytes>,
    pub flags: Flags,
}

impl Libraries {
    /// The function of this name, in any case.
    pub fn find(&self, function: &[u8]) -> Option<(&Bytes, &Declared)> {
        let mut functions = self.0.values().flat_map(|library| &library.functions);
        functions.find(|(name, _)| name.eq_ignore_ascii_case(function))
    }

    /// How many libraries and functions there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.0.len(), self.0.values().map(|library| library.functions.len()).sum())
    }
}

impl Scripts {
    pub(super) fn function(&mut self, ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
        let name = call.arg(1)?.to_ascii_lowercase();
        let args = &call.args[2..];
        match (name.as_slice(), args.len()) {
            (b"load", 1..) => self.load(ks, args),
            (b"delete", 1) => self.delete(ks, &args[0]),
            (b"list", _) => self.list(args),
            (b"dump", 0) => Ok(Reply::Bulk(self.dump())),
            (b"restore", 1 | 2) => self.restore(ks, args),
            (b"flush", 0 | 1) => self.flush(ks, args),
            (b"stats", 0) => self.stats(),
            (b"kill", 0) => self.shared.running.kill(Kind::Function),
            (b"help", 0) => {
                Ok(Reply::Array(HELP.iter().map(|line| Reply::Simple((*line).into())).collect()))
            }
            (b"flush", _) | (b"restore", 3..) => {
                let name = shown(call.arg(1)?);
                Err(Stop::failed(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{name}'. Try \
                     FUNCTION HELP."
                )))
            }
            (b"load" | b"delete" | b"dump" | b"restore" | b"stats" | b"kill" | b"help", _) => {
                let name = String::from_utf8_lossy(&name);
                let text = format!("ERR wrong number of arguments for 'function|{name}' command");
                Err(Stop::failed(text))
            }
            _ => {
                let name = shown(call.arg(1)?);
                Err(Stop::failed(format!("ERR unknown subcommand '{name}'. Try FUNCTION HELP.")))
            }
        }
    }

    /// Takes in a library that is stored already.
    pub fn load_library(&mut self, source: &Bytes) -> Answer<()> {
        let (name, library) = self.prepare(source, &mut self.libraries.clone(), true)?;
        self.link(name, library);
        Ok(())
    }

    pub(super) fn fcall(
        &mut self,
        keyspace: &mut Keyspace,
        call: &Call<'_>,
        read_only: bool,
    ) -> Answer<Reply> {
        let name = call.arg(1)?;
        let Some((name, declared)) = self.libraries.find(name) else {
            return Err(Stop::error("ERR Function not found"));
        };
        let (name, flags) = (name.clone(), declared.flags);
        let no_writes = flags.no_writes();
        let count = number::parse_int(call.arg(2)?)
            .ok_or(Stop::error("ERR Bad number of keys provided"))?;
        let (keys, args) = keys_and_args(call, count)?;
        if read_only && !no_writes {
            return Err(Stop::error(
                "ERR Can not execute a script with write flag using *_ro command.",
            ));
        }
        let refused = self.straits.for_script(Some(flags))?;
        self.revive()?;
        let name = String::from_utf8_lossy(&name);
        let read_only = read_only || no_writes;
        let start = Start { kind: Kind::Function, name: &name, read_only, refused, keys, args };
        self.run(keyspace, call, &start)
    }

    /// Makes a new interpreter when the last one was given up, with all libraries.
    fn revive(&mut self) -> Answer<()> {
        if self.functions.is_some() {
            return Ok(());
        }
        let libraries = std::mem::take(&mut self.libraries);
        self.interpreter()?;
        for library in libraries.0.values() {
            self.load_library(&library.source)?;
        }
        Ok(())
    }

    fn interpreter(&mut self) -> Answer<&Interpreter> {
        Ok(match &mut self.functions {
            Some(interpreter) => interpreter,
            none => {
                let new = Interpreter::new(Kind::Function, &self.shared, self.max_bytes);
                none.insert(new.map_err(|error| broken(&raise::message(&error)))?)
            }
        })
    }

    /// Runs a library's main chunk. `others` are the libraries that its names must not collide with;
    /// one of its own name among them is replaced, when that is allowed.
    fn prepare(
        &mut self,
        source: &Bytes,
        others: &mut Libraries,
        replace: bool,
    ) -> Answer<(Bytes, Prepared)> {
        let name = library_name(source)?;
        let end = memchr::memchr(b'\n', source).unwrap_or(source.len());
        let words = split_arguments(&source[..end]).unwrap_or_default();
        let engine = words.first().and_then(|word| word.get(2..)).unwrap_or_default();
        if !engine.eq_ignore_ascii_case(b"lua") {
            let engine = shown(engine);
            return Err(Stop::failed(format!("ERR Engine '{engine}' not found")));
        }
        if !replace && others.0.contains_key(&name) {
            let name = shown(&name);
            return Err(Stop::failed(format!("ERR Library '{name}' already exists")));
        }
        others.0.remove(&name);
        let shared = self.shared.clone();
        let interpreter = self.interpreter()?;
        let fault = interpreter.define("library", &source[end..], "@user_function");
        if let Some(fault) = fault.map_err(|error| broken(&raise::message(&error)))? {
            let fault = String::from_utf8_lossy(&fault).into_owned();
            return Err(Stop::failed(format!("ERR Error compiling function: {fault}")));
        }
        *shared.loading.lock() = Some(Loading::default());
        *shared.load_began.lock() = Some(Instant::now());
        let fault = interpreter.load("library");
        let too_long = fault.is_err() && shared.loads_too_long();
        *shared.load_began.lock() = None;
        let registered = shared.loading.lock().take().unwrap_or_default();
        if too_long {
            return Err(Stop::error("ERR Error registering functions: FUNCTION LOAD timeout"));
        }
        let fault = match fault.map_err(|error| broken(&raise::message(&error)))? {
            Value::Nil => None,
            Value::Table(fault) => fault.get::<Option<mlua::LuaString>>("err").ok().flatten(),
            other => {
                let text = interpreter.lua.coerce_string(other).ok().flatten();
                let text = text.map(|text| [b"ERR ", &*text.as_bytes()].concat());
                text.and_then(|text| interpreter.lua.create_string(text).ok())
            }
        };
        if let Some(fault) = fault {
            let fault = fault.to_string_lossy();
            return Err(Stop::failed(format!("ERR Error registering functions: {fault}")));
        }
        if registered.0.is_empty() {
            return Err(Stop::error("ERR No functions registered"));
        }
        if let Some(taken) = registered.0.keys().find(|name| others.find(name).is_some()) {
            let taken = shown(taken);
            return Err(Stop::failed(format!("ERR Function {taken} already exists")));
        }
        Ok((name, Prepared { source: source.clone(), registered }))
    }

    /// Makes a library known, in place of the one that had its name.
    fn link(&mut self, name: Bytes, prepared: Prepared) {
        self.unlink(&name);
        let mut functions = BTreeMap::new();
        for (function, (declared, callback)) in prepared.registered.0 {
            if let Some(interpreter) = &self.functions {
                // Without memory for it, the call will say that there is no such function.
                let _ = interpreter.keep(&String::from_utf8_lossy(&function), Some(callback));
            }
            functions.insert(function, declared);
        }
        self.libraries.0.insert(name, Library { source: prepared.source, functions });
    }

    fn unlink(&mut self, name: &Bytes) -> bool {
        let Some(library) = self.libraries.0.remove(name) else { return false };
        if let Some(interpreter) = &self.functions {
            for function in library.functions.keys() {
                let _ = interpreter.keep(&String::from_utf8_lossy(function), None);
            }
        }
        true
    }

    fn load(&mut self, ks: &mut Keyspace, args: &[Bytes]) -> Answer<Reply> {
        let [options @ .., source] = args else {
            return Err(Stop::error("ERR Function code is missing"));
        };
        let known = |option: &&Bytes| option.eq_ignore_ascii_case(b"replace");
        if let Some(unknown) = options.iter().find(|option| !known(option)) {
            let unknown = shown(unknown);
            return Err(Stop::failed(format!("ERR Unknown option given: {unknown}")));
        }
        self.revive()?;
        let mut others = self.libraries.clone();
        let (name, prepared) = self.prepare(source, &mut others, !options.is_empty())?;
        self.link(name.clone(), prepared);
        ks.push_step(Step::Function(name.clone(), Some(source.clone())));
        Ok(Reply::Bulk(name))
    }

    fn delete(&mut self, ks: &mut Keyspace, name: &Bytes) -> Answer<Reply> {
        if !self.unlink(name) {
            return Err(Stop::error("ERR Library not found"));
        }
        ks.push_step(Step::Function(name.clone(), None));
        Ok(Reply::OK)
    }

    fn flush(&mut self, ks: &mut Keyspace, args: &[Bytes]) -> Answer<Reply> {
        let known = |mode: &Bytes| {
            mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async")
        };
        match args {
            [] => {}
            [mode] if known(mode) => {}
            _ => {
                return Err(Stop::error("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
            }
        }
        self.libraries = Libraries::default();
        self.functions = None;
        ks.push_step(Step::FlushFunctions);
        Ok(Reply::OK)
    }

    fn dump(&self) -> Bytes {
        rdb::encode_functions(self.libraries.0.values().map(|library| &library.source))
    }

    fn restore(&mut self, ks: &mut Keyspace, args: &[Bytes]) -> Answer<Reply> {
        let policy = args.get(1).map(|policy| policy.to_ascii_lowercase());
        let (flush, replace) = match policy.as_deref() {
            None | Some(b"append") => (false, false),
            Some(b"replace") => (false, true),
            Some(b"flush") => (true, false),
            Some(_) => {
                return Err(Stop::error(
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or \
                     REPLACE.",
                ));
            }
        };
        let sources = rdb::decode_functions(&args[0])
            .map_err(|fault| Stop::error(fault.function_restore_reply()))?;
        self.revive()?;
        // All of them are looked at before the first is taken in.
        let mut new = Libraries::default();
        let mut prepared = Vec::new();
        for source in &sources {
            let (name, library) = self.prepare(source, &mut new, false)?;
            let functions = library.registered.0.iter();
            let functions = functions.map(|(name, (declared, _))| (name.clone(), declared.clone()));
            let kept = Library { source: source.clone(), functions: functions.collect() };
            new.0.insert(name.clone(), kept);
            prepared.push((name, library));
        }
        if !flush {
            let mut others = self.libraries.clone();
            for name in new.0.keys() {
                if others.0.remove(name).is_some() && !replace {
                    let name = shown(name);
                    return Err(Stop::failed(format!("ERR Library {name} already exists")));
                }
            }
            let mut functions = new.0.values().flat_map(|library| library.functions.keys());
            if let Some(taken) = functions.find(|name| others.find(name).is_some()) {
                let taken = shown(taken);
                return Err(Stop::failed(format!("ERR Function {taken} already exists")));
            }
        } else {
            let names: Vec<Bytes> = self.libraries.0.keys().cloned().collect();
            for name in &names {
                self.unlink(name);
            }
            ks.push_step(Step::FlushFunctions);
        }
        for (name, library) in prepared {
            ks.push_step(Step::Function(name.clone(), Some(library.source.clone())));
            self.link(name, library);
        }
        Ok(Reply::OK)
    }

    fn stats(&self) -> Answer<Reply> {
        Ok(function_stats(self.shared.running.stats()?, self.libraries.counts()))
    }

    fn list(&self, args: &[Bytes]) -> Answer<Reply> {
        let (mut with_code, mut pattern) = (false, None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if !with_code && arg.eq_ignore_ascii_case(b"withcode") {
                with_code = true;
            } else if pattern.is_none() && arg.eq_ignore_ascii_case(b"libraryname") {
                let given = args.next();
                pattern =
                    Some(given.ok_or(Stop::error("ERR library name argument was not given"))?);
            } else {
                return Err(Stop::failed(format!("ERR Unknown argument {}", shown(arg))));
            }
        }
        let wanted = |name: &[u8]| {
            let lower = name.to_ascii_lowercase();
            pattern.is_none_or(|p| glob::matches(&p.to_ascii_lowercase(), &lower))
        };
        let shown = self.libraries.0.iter().filter(|(name, _)| wanted(name));
        Ok(Reply::Array(shown.map(|(name, library)| library.reply(name, with_code)).collect()))
    }
}

/// A library whose main chunk has run, and that is not known yet.
struct Prepared {
    source: Bytes,
    registered: Loading,
}

impl Library {
    /// One element of `FUNCTION LIST`.
    fn reply(&self, name: &Bytes, with_code: bool) -> Reply {
        let function = |(name, declared): (&Bytes, &Declared)| {
            let flags = declared.flags.names().map(|flag| Reply::Simple(flag.into()));
            Reply::Map(vec![
                (Reply::bulk("name"), Reply::Bulk(name.clone())),
                (Reply::bulk("description"), Reply::bulk_or_nil(declared.description.clone())),
                (Reply::bulk("flags"), Reply::Set(flags.collect())),
            ])
        };
        let functions = self.functions.iter().map(function).collect();
        let mut reply = vec![
            (Reply::bulk("library_name"), Reply::Bulk(name.clone())),
            (Reply::bulk("engine"), Reply::bulk("LUA")),
            (Reply::bulk("functions"), Reply::Array(functions)),
        ];
        if with_code {
            reply.push((Reply::bulk("library_code"), Reply::Bulk(self.source.clone())));
        }
        Reply::Map(reply)
    }
}
