//! Commands that wait for a key: `BLPOP`, `BZPOPMIN`, `XREAD BLOCK` and their kin.
//!
//! The engine answers them at once, with nothing if there is nothing. Who has got nothing waits in a queue;
//! after each command and transaction that has changed something the queue is served from its
//! front, so that whoever has waited longest for a key gets it, as in Redis.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::keeper::Gone;
use super::link::Link;
use super::peer::{Peer, Unblock};
use super::period::Period;
use super::session::{Flow, Session};
use crate::commands;
use crate::engine::value::{Kind, Value};
use crate::engine::{self, Answer, Db, Stop};
use crate::resp::Reply;

/// Everybody who waits, in the order of their coming.
#[derive(Default)]
pub(super) struct Blocked {
    waiting: BTreeMap<u64, Waiter>,
    last: u64,
    /// Something has changed since the queue was served.
    disturbed: bool,
}

#[derive(Clone)]
struct Waiter {
    peer: Rc<Peer>,
    db: Db,
    args: Rc<[Bytes]>,
}

impl Blocked {
    /// A key has changed.
    pub fn disturb(&mut self) {
        self.disturbed = true;
    }

    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    fn enter(&mut self, waiter: Waiter) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, waiter);
        self.last
    }
}

impl Period {
    /// Tries again what others wait for.
    pub fn serve_blocked(self: &Rc<Self>) {
        loop {
            let queue: Vec<(u64, Waiter)> = {
                let mut blocked = self.blocked.borrow_mut();
                if !std::mem::take(&mut blocked.disturbed) || blocked.waiting.is_empty() {
                    return;
                }
                blocked.waiting.iter().map(|(number, waiter)| (*number, waiter.clone())).collect()
            };
            for (number, waiter) in queue {
                let began = Instant::now();
                let reply = match self.attempt(&waiter) {
                    Ok(Reply::Nil | Reply::NilArray) => continue,
                    Ok(reply) => reply,
                    Err(Stop::NotLoaded(mut needs)) => {
                        // Nobody counts the tries.
                        engine::widen(&mut needs);
                        let period = Rc::clone(self);
                        tokio::task::spawn_local(async move {
                            if period.load(needs).await.is_ok() {
                                period.blocked.borrow_mut().disturb();
                                period.serve_blocked();
                            }
                        });
                        continue;
                    }
                    Err(Stop::Error(text)) if is(&waiter.args, "xreadgroup") => {
                        match self.all_streams(&waiter) {
                            true => Reply::Error(text),
                            false => Reply::error("UNBLOCKED the stream key no longer exists"),
                        }
                    }
                    // The source is ready, and the destination is of another type.
                    Err(Stop::Error(text)) if self.source_is_ready(&waiter) => Reply::Error(text),
                    // Another type is at the key for now.
                    Err(Stop::Error(_)) => continue,
                };
                self.blocked.borrow_mut().waiting.remove(&number);
                waiter.peer.blocked.set(false);
                self.note_slow(&waiter.peer, &waiter.args, began.elapsed());
                let command = waiter.args.first().and_then(|name| commands::lookup(name));
                if let (Reply::Error(text), Some(command)) = (&reply, command) {
                    self.statistics.lock().failed(command.name, text);
                }
                waiter.peer.push(&reply);
                self.deliver();
            }
        }
    }
}

impl Period {
    /// Runs the command again. Where one of several keys is of another type, the others still count.
    fn attempt(&self, waiter: &Waiter) -> Answer<Reply> {
        let run = |args: &[Bytes]| self.execute(&waiter.peer, waiter.db, args);
        let answer = run(&waiter.args);
        let singles = match &answer {
            Err(Stop::Error(_)) => key_by_key(&waiter.args),
            _ => Vec::new(),
        };
        for args in singles {
            match run(&args) {
                Ok(Reply::Nil | Reply::NilArray) | Err(Stop::Error(_)) => {}
                answer => return answer,
            }
        }
        answer
    }

    /// True when every key of an `XREADGROUP` is still there, as a stream.
    fn all_streams(&self, waiter: &Waiter) -> bool {
        let keyspace = self.keyspace.borrow();
        let keys = crate::commands::lookup(b"xreadgroup").map(|found| found.keys(&waiter.args));
        keys.unwrap_or_default().iter().all(|(at, _)| {
            let entry = keyspace.peek(waiter.db, &waiter.args[*at]);
            entry.is_some_and(|entry| entry.value.kind() == Kind::Stream)
        })
    }

    fn source_is_ready(&self, waiter: &Waiter) -> bool {
        let keyspace = self.keyspace.borrow();
        let moves = is(&waiter.args, "blmove") || is(&waiter.args, "brpoplpush");
        let source = keyspace.peek(waiter.db, &waiter.args[1]);
        moves && source.is_some_and(|entry| entry.value.kind() == Kind::List)
    }
}

/// A command that waits for the first of several keys, as one command for each of them.
fn key_by_key(args: &[Bytes]) -> Vec<Vec<Bytes>> {
    let one = Bytes::from_static(b"1");
    match (&args[0].to_ascii_lowercase()[..], args) {
        (b"blpop" | b"brpop" | b"bzpopmin" | b"bzpopmax", [name, keys @ .., timeout]) => {
            keys.iter().map(|key| vec![name.clone(), key.clone(), timeout.clone()]).collect()
        }
        (b"blmpop" | b"bzmpop", [name, timeout, count, rest @ ..]) => {
            let count = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok());
            let (keys, options) = rest.split_at(count.unwrap_or(0).min(rest.len()));
            let head = |key: &Bytes| vec![name.clone(), timeout.clone(), one.clone(), key.clone()];
            keys.iter().map(|key| [head(key), options.to_vec()].concat()).collect()
        }
        _ => Vec::new(),
    }
}

impl Session {
    pub fn serve_blocked(&self) {
        self.period.serve_blocked();
    }

    /// A command that may wait.
    pub async fn blocking(&mut self, args: &[Bytes], link: &mut Link) -> Result<Flow, Gone> {
        let reply = self.run(args).await?;
        let timeout = timeout(args);
        let (Reply::Nil | Reply::NilArray, Some(limit)) = (&reply, timeout) else {
            self.answer(&reply);
            self.serve_blocked();
            return Ok(Flow::Go);
        };
        let waiter = Waiter {
            peer: Rc::clone(&self.peer),
            db: self.db,
            args: self.with_last_ids(args).into(),
        };
        self.peer.blocked.set(true);
        self.peer.unblock.set(None);
        let number = self.period.blocked.borrow_mut().enter(waiter);
        self.serve_blocked();
        let end = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        while self.peer.blocked.get() {
            self.period.deliver();
            let gone = tokio::select! {
                spoken = link.idle() => spoken.is_err() || self.peer.killed.get(),
                () = &mut end => {
                    self.peer.unblock.set(Some(Unblock::Timeout));
                    false
                }
            };
            let unblock = self.peer.unblock.take();
            if self.peer.blocked.get() && (gone || unblock.is_some()) {
                self.period.blocked.borrow_mut().waiting.remove(&number);
                self.peer.blocked.set(false);
                match unblock {
                    Some(Unblock::Error) => {
                        self.answer(&Reply::error("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
                    }
                    _ => self.answer(&reply),
                }
            }
            if gone {
                return Ok(Flow::Close);
            }
        }
        Ok(Flow::Go)
    }

    /// With `$` replaced by what it means now: entries that come while the client waits count.
    fn with_last_ids(&self, args: &[Bytes]) -> Vec<Bytes> {
        let mut args = args.to_vec();
        let streams = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"streams"));
        let Some(first) = streams.filter(|_| is(&args, "xread")) else { return args };
        let count = (args.len() - first - 1) / 2;
        let keyspace = self.period.keyspace.borrow();
        for at in first + 1..first + 1 + count {
            if &args[at + count][..] == b"$" {
                let last = keyspace.peek(self.db, &args[at]).and_then(|entry| match &entry.value {
                    Value::Stream(stream) => Some(stream.last_id),
                    _ => None,
                });
                let last = last.unwrap_or_default();
                args[at + count] = format!("{}-{}", last.ms, last.seq).into();
            }
        }
        args
    }
}

fn is(args: &[Bytes], name: &str) -> bool {
    args[0].eq_ignore_ascii_case(name.as_bytes())
}

/// How long a command waits that the engine has accepted: `Some(None)` without end, `None` not at all.
fn timeout(args: &[Bytes]) -> Option<Option<Duration>> {
    let text = |arg: &Bytes| std::str::from_utf8(arg).ok()?.parse::<f64>().ok();
    let seconds = match &args[0].to_ascii_lowercase()[..] {
        b"xread" | b"xreadgroup" => {
            let block = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"block"))?;
            text(args.get(block + 1)?)? / 1000.0
        }
        b"blmpop" | b"bzmpop" => text(args.get(1)?)?,
        _ => text(args.last()?)?,
    };
    Some((seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
}
