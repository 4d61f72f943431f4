//! `EVAL`, `EVALSHA`, their read-only forms, and `SCRIPT`.

use std::sync::Arc;

use bytes::Bytes;

use super::api::hex_sha1;
use super::interpreter::Interpreter;
use super::running::Kind;
use super::{Script, Scripts, Start, broken, raise, shebang};
use crate::engine::number;
use crate::engine::stop::{Answer, Stop, shown};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

const NO_SCRIPT: Stop = Stop::error("NOSCRIPT No matching script. Please use EVAL.");
const READ_ONLY: Stop =
    Stop::error("ERR Can not execute a script with write flag using *_ro command.");

const HELP: [&str; 17] = [
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DEBUG (YES|SYNC|NO)",
    "    Set the debug mode for subsequent scripts executed.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Very dangerous on replicas.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the scripts cache.",
    "    * SYNC: Synchronously flush the scripts cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "HELP",
    "    Prints this help.",
];

/// The keys and the other arguments behind a number of keys at index 2.
pub fn keys_and_args<'a>(call: &Call<'a>, count: i64) -> Answer<(&'a [Bytes], &'a [Bytes])> {
    let rest = call.args.get(3..).unwrap_or_default();
    if count < 0 {
        return Err(Stop::error("ERR Number of keys can't be negative"));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    rest.split_at_checked(count)
        .ok_or(Stop::error("ERR Number of keys can't be greater than number of args"))
}

impl Scripts {
    pub(super) fn eval(
        &mut self,
        keyspace: &mut Keyspace,
        call: &Call<'_>,
        read_only: bool,
    ) -> Answer<Reply> {
        let (keys, args) = keys_and_args(call, number::int(call.arg(2)?)?)?;
        let source = call.arg(1)?;
        let sha = match self.known.get(source) {
            Some(sha) => Arc::clone(sha),
            None => {
                let sha = hex_sha1(source);
                self.compile(&sha, Some(source))?;
                let sha = Arc::<str>::from(sha);
                self.known.insert(source.clone(), Arc::clone(&sha));
                sha
            }
        };
        self.compile(&sha, Some(source))?;
        self.run_script(keyspace, call, &sha, read_only, (keys, args))
    }

    pub(super) fn eval_sha(
        &mut self,
        keyspace: &mut Keyspace,
        call: &Call<'_>,
        read_only: bool,
    ) -> Answer<Reply> {
        let sha = call.arg(1)?;
        if sha.len() != 40 {
            return Err(NO_SCRIPT);
        }
        let (keys, args) = keys_and_args(call, number::int(call.arg(2)?)?)?;
        let sha = String::from_utf8_lossy(sha).to_ascii_lowercase();
        self.compile(&sha, None)?;
        self.run_script(keyspace, call, &sha, read_only, (keys, args))
    }

    fn run_script(
        &mut self,
        keyspace: &mut Keyspace,
        call: &Call<'_>,
        sha: &str,
        read_only: bool,
        (keys, args): (&[Bytes], &[Bytes]),
    ) -> Answer<Reply> {
        let flags = self.cache.get(sha).and_then(|script| script.flags);
        if read_only && flags.is_some_and(|flags| !flags.no_writes()) {
            return Err(READ_ONLY);
        }
        let read_only = read_only || flags.is_some_and(|flags| flags.no_writes());
        let refused = self.straits.for_script(flags)?;
        let start = Start { kind: Kind::Eval, name: sha, read_only, refused, keys, args };
        self.run(keyspace, call, &start)
    }

    /// Makes sure that the interpreter has a script, which is new when it comes with its source.
    fn compile(&mut self, sha: &str, source: Option<&Bytes>) -> Answer<()> {
        let (source, flags) = match (self.cache.get(sha), source) {
            (Some(script), _) if script.compiled => return Ok(()),
            (Some(script), _) => (script.source.clone(), None),
            (None, None) => return Err(NO_SCRIPT),
            (None, Some(source)) => (source.clone(), Some(shebang::flags(source)?)),
        };
        let (flags, skipped) = match flags {
            Some(flags) => flags,
            None => shebang::flags(&source)?,
        };
        let interpreter = match &mut self.eval {
            Some(interpreter) => interpreter,
            none => {
                let new = Interpreter::new(Kind::Eval, &self.shared, self.max_bytes);
                none.insert(new.map_err(|error| broken(&raise::message(&error)))?)
            }
        };
        let fault = interpreter.define(sha, &source[skipped..], "@user_script");
        if let Some(fault) = fault.map_err(|error| broken(&raise::message(&error)))? {
            let fault = String::from_utf8_lossy(&fault).into_owned();
            return Err(Stop::failed(format!(
                "ERR Error compiling script (new function): {fault}"
            )));
        }
        self.cache.insert(sha.into(), Script { source, flags, compiled: true });
        Ok(())
    }

    pub(super) fn script(&mut self, call: &Call<'_>) -> Answer<Reply> {
        let name = call.arg(1)?.to_ascii_lowercase();
        match (name.as_slice(), &call.args[2..]) {
            (b"load", [source]) => {
                let sha = hex_sha1(source);
                self.compile(&sha, Some(source))?;
                Ok(Reply::bulk(sha))
            }
            (b"exists", shas @ [_, ..]) => {
                let known = |sha: &Bytes| {
                    std::str::from_utf8(sha).is_ok_and(|sha| self.cache.contains_key(sha))
                };
                Ok(Reply::Array(shas.iter().map(|sha| Reply::Int(known(sha).into())).collect()))
            }
            (b"flush", mode) => {
                let known = |mode: &Bytes| {
                    mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async")
                };
                if mode.len() > 1 || mode.iter().any(|mode| !known(mode)) {
                    return Err(Stop::error("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
                }
                self.cache.clear();
                self.known.clear();
                self.eval = None;
                Ok(Reply::OK)
            }
            (b"kill", []) => self.shared.running.kill(Kind::Eval),
            (b"debug", [_]) => Err(Stop::error("ERR SCRIPT DEBUG is not available here")),
            (b"help", []) => {
                Ok(Reply::Array(HELP.iter().map(|line| Reply::Simple((*line).into())).collect()))
            }
            (b"load" | b"exists" | b"kill" | b"debug" | b"help", _) => {
                let name = String::from_utf8_lossy(&name);
                Err(Stop::failed(format!(
                    "ERR wrong number of arguments for 'script|{name}' command"
                )))
            }
            _ => {
                let name = shown(call.arg(1)?);
                Err(Stop::failed(format!("ERR unknown subcommand '{name}'. Try SCRIPT HELP.")))
            }
        }
    }
}
