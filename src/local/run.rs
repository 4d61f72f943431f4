use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hashbrown::HashSet;

use super::keeper::Gone;
use super::peer::Peer;
use super::period::Period;
use super::session::Session;
use super::tracking::Tracked;
use crate::commands;
use crate::engine::script::{Scripts, Straits};
use crate::engine::{self, Answer, Call, Db, Keyspace, Need, Stop};
use crate::resp::Reply;

/// A command may stop for a need this many times; every load brings what was asked for, so only a
/// defect, or a cache far too small, gets here.
const MAX_LOADS: usize = 1000;

/// Unix time in ms.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

impl Period {
    /// What has to be refused at the moment.
    pub fn straits(&self) -> Straits {
        let settings = self.settings.borrow();
        let most = settings.max_memory;
        Straits {
            out_of_memory: most > 0 && super::info::resident_bytes() > most,
            too_few_replicas: settings.too_few_replicas,
        }
    }

    /// Runs one command of the engine with what is in memory.
    pub fn execute(&self, peer: &Peer, db: Db, args: &[Bytes]) -> Answer<Reply> {
        let call = Call { db, protocol: peer.protocol.get(), args, from_log: false };
        self.act(peer, |keyspace| match args.first() {
            Some(name) if Scripts::takes(name) => {
                self.users.lock().acting.clone_from(&peer.user.borrow());
                let mut scripts = self.scripts.borrow_mut();
                scripts.straits = self.straits();
                scripts.execute(keyspace, &call)
            }
            _ => engine::execute(keyspace, &call),
        })
    }

    /// Does something with what is in memory, for a client.
    pub fn act<T>(&self, peer: &Peer, act: impl FnOnce(&mut Keyspace) -> T) -> T {
        let mut keyspace = self.keyspace.borrow_mut();
        keyspace.now_ms = now_ms();
        keyspace.act(peer.id, peer.tracked.borrow().as_ref().is_some_and(Tracked::reads));
        let before = keyspace.mutations();
        let done = act(&mut keyspace);
        if keyspace.mutations() != before {
            self.changed();
            self.blocked.borrow_mut().disturb();
        }
        done
    }

    /// Loads what these commands will probably need, in one round trip.
    pub async fn load_ahead<'a>(
        &self,
        commands: impl Iterator<Item = (Db, &'a [Bytes])>,
    ) -> Result<(), Gone> {
        let missing = self.missing(commands);
        if missing.is_empty() {
            return Ok(());
        }
        self.load(missing.into_iter().collect()).await
    }

    fn missing<'a>(&self, commands: impl Iterator<Item = (Db, &'a [Bytes])>) -> HashSet<Need> {
        let (mut needs, mut missing) = (Vec::new(), HashSet::new());
        let keyspace = self.keyspace.borrow();
        for (db, args) in commands {
            needs.clear();
            engine::needs(db, args, &mut needs);
            missing.extend(needs.iter().filter_map(|need| keyspace.lacks(need)));
        }
        missing
    }
}

impl Session {
    /// Runs one command, loading what it needs.
    pub async fn run(&mut self, args: &[Bytes]) -> Result<Reply, Gone> {
        for tries in 0..MAX_LOADS {
            match self.try_run(args) {
                Ok(reply) => return Ok(reply),
                Err(Stop::Error(text)) => return Ok(Reply::Error(text)),
                Err(Stop::NotLoaded(mut needs)) => {
                    patiently(tries, &mut needs);
                    self.period.load(needs).await?;
                }
            }
        }
        Ok(too_small())
    }

    /// Runs one command with what is in memory; [`Stop::NotLoaded`] leaves no trace.
    pub fn try_run(&mut self, args: &[Bytes]) -> Answer<Reply> {
        let start = Instant::now();
        let answer = match self.own(args) {
            Some(answer) => answer,
            None => self.period.execute(&self.peer, self.db, args),
        };
        if !matches!(answer, Err(Stop::NotLoaded(_))) {
            self.note(args, start.elapsed(), &answer);
        }
        answer
    }

    /// Counts a command that has run.
    pub fn note(&self, args: &[Bytes], took: Duration, answer: &Answer<Reply>) {
        let Some(command) = commands::lookup(&args[0]) else { return };
        let barrier = |args: &[Bytes]| args[1] == self.period.gate.channel().as_bytes();
        if command.name == "publish" && args.len() == 3 && barrier(args) {
            return;
        }
        // What the proxy says on each new connection is nobody's command.
        if !matches!(command.name, "exec" | "hello" | "auth" | "select") {
            self.period.note_slow(&self.peer, args, took);
        }
        let sub = args.get(1).and_then(|word| commands::lookup_sub(command, word));
        let error = match answer {
            Err(Stop::Error(text)) | Ok(Reply::Error(text)) => Some(&**text),
            _ => None,
        };
        let name = sub.map_or(command.name, |sub| sub.name);
        self.period.statistics.lock().ran(name, took, error);
    }
}

/// Tries of a command or transaction after which it waits no longer for windows onto large values:
/// whoever goes on changing a value makes them void. Fewer than there are windows kept of one value.
const PATIENCE: usize = 8;

/// What is loaded after so many tries.
pub(super) fn patiently(tries: usize, needs: &mut [Need]) {
    if tries >= PATIENCE {
        engine::widen(needs);
    }
}

pub(super) fn too_small() -> Reply {
    Reply::error(
        "ERR what the command needs does not stay in memory: raise mirror.cache_bytes in proxy.toml",
    )
}
