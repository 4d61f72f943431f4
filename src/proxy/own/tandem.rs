use std::sync::atomic::Ordering;

use serde_json::json;

use crate::config::{Mode, is_loopback};
use crate::proxy::request::{End, Request};
use crate::proxy::session::Session;
use crate::resp::Reply;
use crate::sync::{Busy, Class, Outcome, SyncError};

const HELP: &[&str] = &[
    "TANDEM <subcommand> [<arg> ...]. Subcommands are:",
    "STATUS",
    "    The state of the proxy, of Redis, of PostgreSQL and of the mirror.",
    "STRATEGY",
    "    The strategy in force and the mode it has come to.",
    "STRATEGY <strategy> [FORCE]",
    "    Switches to dual_write, cache_first, database_first, redis_only or postgres_only;",
    "    FORCE: also where something may be lost, or a backend is away.",
    "MIRROR",
    "    The state of the mirror: position, lag, counters.",
    "HELP",
    "    Print this help.",
];

impl Session {
    /// `TANDEM STATUS | STRATEGY [<strategy> [FORCE]] | MIRROR | HELP`.
    pub async fn tandem(&mut self, request: &Request) -> Result<(), End> {
        let subcommand = request.option(1);
        let facts = self.facts_of_tandem();
        let map = |wanted: &dyn Fn(&str) -> bool| {
            let pairs = facts.iter().filter(|(name, _)| wanted(name));
            let text = |text: &str| Reply::bulk(text.as_bytes().to_vec());
            Reply::Map(pairs.map(|(name, value)| (text(name), text(value))).collect())
        };
        let reply = match (subcommand.as_slice(), request.words.len()) {
            (b"status", 2) => map(&|_| true),
            (b"strategy", 2) => map(&|name| {
                name.starts_with("strategy") || matches!(name, "mode" | "mode_reason" | "ack")
            }),
            (b"strategy", 3) => self.switch_strategy(request, false).await,
            (b"strategy", 4) if request.option(3) == b"force" => {
                self.switch_strategy(request, true).await
            }
            (b"mirror", 2) => map(&|name| name.starts_with("mirror_")),
            (b"peer", 3) => self.admit(&request.words[2]),
            (b"help", 2) => {
                Reply::Array(HELP.iter().map(|line| Reply::Simple((*line).into())).collect())
            }
            _ => {
                let given = String::from_utf8_lossy(request.words.get(1).map_or(b"", |w| w));
                let given: String = given.chars().take(128).collect();
                Reply::error(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{given}'. Try TANDEM HELP."
                ))
            }
        };
        self.answer(&reply);
        Ok(())
    }

    /// `TANDEM PEER <proof>`: another proxy hands on what its clients ask. They have proven there who they are.
    fn admit(&mut self, word: &[u8]) -> Reply {
        if !self.worker.shared.status.admits(word, |secret| self.reader.proof(secret)) {
            return Reply::error("ERR this proxy does not lead, or it is not its secret");
        }
        (self.peer, self.trusted, self.user) = (true, true, None);
        self.info.peer.store(true, Ordering::Relaxed);
        Reply::OK
    }

    async fn switch_strategy(&self, request: &Request, force: bool) -> Reply {
        if !self.may_administer() {
            return Reply::error(
                "NOPERM switching the strategy is for the proxy's own user or one with that right, who has given a password or is on this machine",
            );
        }
        let name = String::from_utf8_lossy(&request.words[2]).into_owned();
        let Some(to) = Mode::parse(&name) else {
            let known = Mode::ALL.map(Mode::as_str).join(", ");
            return Reply::error(format!("ERR there is no such strategy; there are {known}"));
        };
        let shared = &self.worker.shared;
        let by = format!("user {}, a client from {}", self.info.user.lock(), self.info.address);
        let arguments = json!({ "strategy": to.as_str(), "force": force, "by": by });
        let switcher = shared.switcher.clone();
        let work = |_| async move { Ok(switcher.switch(to, force, by).await?.describe()) };
        match shared.jobs.start("switch", Class::Change, arguments, work) {
            Ok(job) => match job.end().await {
                Outcome::Done(_) => Reply::OK,
                Outcome::Failed(SyncError::Refused(why)) => Reply::error(format!("ERR {why}")),
                Outcome::Failed(error) => Reply::error(format!("UNAVAILABLE {error}")),
            },
            Err(Busy { id, kind }) => {
                Reply::error(format!("ERR job {id} ({kind}) is running: wait for it or cancel it"))
            }
        }
    }

    /// Whether the client may change how the proxy works: as whoever may write anything in Redis, the proxy's own user,
    /// and not by being anywhere in a network that is let in without a password.
    fn may_administer(&self) -> bool {
        let near = self.info.unix || is_loopback(&self.info.address);
        let own = self.key.credentials == self.home.credentials;
        let asked = match &self.user {
            // That the user may have the command was seen before it came here.
            Some(listed) => !listed.user.is_open(),
            None => self.worker.shared.access.asks(),
        };
        self.trusted && own && (near || asked)
    }
}
