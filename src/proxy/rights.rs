//! What the users of `[[listen.users]]` may do: seen before a command goes anywhere.

use bytes::Bytes;

use super::access::Listed;
use super::request::{End, Request};
use super::session::Session;
use super::slow::wrong_arity;
use crate::acl::{Denied, User, acl};
use crate::commands::{Class, Command, lookup_sub};
use crate::engine::{Stop, unknown_command};
use crate::resp::{Reply, command};
use crate::strategy::Fault;
use crate::upstream::Target;

/// What the proxy answers itself where others of the client's commands go to Redis.
#[derive(Debug, PartialEq, Eq)]
enum Aside {
    Refused(String),
    /// `ACL`: Redis knows nothing of these users.
    Acl,
}

/// Why a command of `user` does not go its usual way; none: it does. `queues`: it is within `MULTI`.
fn aside<W: AsRef<[u8]>>(
    user: &User,
    command: Option<&'static Command>,
    words: &[W],
    queues: bool,
) -> Option<Aside> {
    let own = command.is_some_and(is_own);
    if user.is_full() && !own {
        return None;
    }
    // Of a module's command nobody here knows the keys.
    let Some(command) = command.filter(|command| !command.name.contains('|')) else {
        let words: Vec<Bytes> =
            words.iter().map(|word| Bytes::copy_from_slice(word.as_ref())).collect();
        return Some(Aside::Refused(unknown_command(&words)));
    };
    if let Some(error) = malformed(command, words) {
        return Some(Aside::Refused(error));
    }
    if queues && own {
        // Redis would do it for the connection, which is the proxy's.
        return Some(Aside::Refused("ERR Command not allowed inside a transaction".into()));
    }
    if let Err(denied) = user.check(words) {
        return Some(Aside::Refused(denied.error(words)));
    }
    // What is published there the proxies take for their own word: it could keep writes from PostgreSQL.
    if command.name == "publish" && words[1].as_ref().starts_with(b"__tandem:") {
        return Some(Aside::Refused(Denied::Channel(1).error(words)));
    }
    (command.name == "acl").then_some(Aside::Acl)
}

/// True for commands about who the client is.
fn is_own(command: &'static Command) -> bool {
    matches!(command.name, "acl" | "auth" | "hello")
}

/// What is wrong with a call before its keys can be looked for.
fn malformed<W: AsRef<[u8]>>(command: &'static Command, words: &[W]) -> Option<String> {
    if !command.takes(words.len()) {
        return Some(wrong_arity(command.name));
    }
    let word = words.get(1).filter(|_| command.container && command.name != "tandem")?.as_ref();
    match lookup_sub(command, word) {
        None => {
            let asked: String = String::from_utf8_lossy(word).chars().take(128).collect();
            let container = command.name.to_uppercase();
            Some(format!("ERR unknown subcommand '{asked}'. Try {container} HELP."))
        }
        Some(sub) => (!sub.takes(words.len())).then(|| wrong_arity(sub.name)),
    }
}

impl Session {
    /// True when this command has to be looked at closely, because of whose it is.
    pub fn stands_aside(
        &self,
        listed: &Listed,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) -> bool {
        if listed.user.is_full() && !command.is_some_and(is_own) {
            return false;
        }
        let word = |&(from, to): &(u32, u32)| &frame[from as usize..to as usize];
        let words: Vec<&[u8]> = arguments.iter().map(word).collect();
        aside(&listed.user, command, &words, self.queues()).is_some()
    }

    /// True when commands are being queued.
    fn queues(&self) -> bool {
        self.pin.as_ref().is_some_and(|pin| pin.multi.is_some())
    }

    /// Answers a command that may not go to Redis; false: it may.
    pub async fn answer_aside(&mut self, request: &Request) -> Result<bool, End> {
        let Some(listed) = self.user.clone() else { return Ok(false) };
        match aside(&listed.user, request.command, &request.words, self.queues()) {
            None => Ok(false),
            Some(Aside::Refused(error)) => {
                self.refuse_command(request, &error);
                Ok(true)
            }
            Some(Aside::Acl) => {
                if self.listens() {
                    // Redis has an error for that.
                    self.pass(request).await?;
                    return Ok(true);
                }
                let words: Vec<Bytes> =
                    request.words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
                let users = self.worker.shared.access.users();
                let reply = acl(&users, &listed.name, &words).unwrap_or_else(|stop| match stop {
                    Stop::Error(text) => Reply::Error(text),
                    Stop::NotLoaded(_) => Reply::Nil,
                });
                self.answer(&reply);
                Ok(true)
            }
        }
    }

    /// What a refusal comes to in a transaction, it comes to in Redis too.
    fn refuse_command(&mut self, request: &Request, error: &str) {
        self.worker.pool.context().meter.fault(Fault::Refused, 1);
        let ends = request.command.is_some_and(|command| command.class == Class::Exec);
        if let Some(pin) = self.pin.as_mut().filter(|pin| pin.multi.is_some()) {
            // Who queues a command with an argument missing has a transaction that cannot run.
            let spoils: &[&[u8]] = if ends { &[b"DISCARD"] } else { &[b"GET"] };
            pin.conn.submit(&command(spoils), 1, false, Target::Nobody);
            if ends {
                (pin.multi, pin.watching) = (None, false);
                self.info.multi.store(-1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        self.answer_error(&match ends {
            true => {
                let bare = error.strip_prefix("ERR ").unwrap_or(error);
                format!("EXECABORT Transaction discarded because of: {bare}")
            }
            false => error.to_owned(),
        });
    }
}
