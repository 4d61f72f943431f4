//! Commands about the connection and the server: what the engine does not have.

use bytes::Bytes;

use super::channels::Kind;
use super::greeting::{NOT_TRUSTED, greeting};
use super::peer::Unblock;
use super::period::Period;
use super::redact::redacted;
use super::session::Session;
use super::users::DEFAULT;
use crate::commands;
use crate::engine::events::Happened;
use crate::engine::{Answer, Stop};
use crate::resp::{Protocol, Reply};
use crate::strategy::Barrier;

/// Commands of a Redis server that have no meaning where PostgreSQL has the data.
const NOT_HERE: [&str; 12] = [
    "asking",
    "bgrewriteaof",
    "cluster",
    "failover",
    "migrate",
    "module",
    "readonly",
    "readwrite",
    "replicaof",
    "restore-asking",
    "shutdown",
    "slaveof",
];

fn wrong_arity(name: &str) -> Stop {
    Stop::failed(format!("ERR wrong number of arguments for '{name}' command"))
}

fn unknown_sub(container: &str, sub: &[u8]) -> Stop {
    let sub = String::from_utf8_lossy(sub);
    Stop::failed(format!("ERR unknown subcommand '{sub}'. Try {} HELP.", container.to_uppercase()))
}

fn text(text: impl Into<Bytes>) -> Reply {
    Reply::Verbatim("txt".into(), text.into())
}

impl Session {
    /// Answers a command that is not the engine's; `None`: it is.
    pub fn own(&mut self, args: &[Bytes]) -> Option<Answer<Reply>> {
        let command = commands::lookup(&args[0])?;
        let sub = match args.get(1) {
            Some(word) => word.to_ascii_lowercase(),
            None => Vec::new(),
        };
        if let Some(full) = commands::lookup_sub(command, &sub)
            && !full.takes(args.len())
        {
            return Some(Err(wrong_arity(full.name)));
        }
        Some(match command.name {
            "ping" if args.len() > 2 => Err(wrong_arity("ping")),
            "ping" => Ok(self.ping(args)),
            // The representation is tested where it is made.
            "pfselftest" => Ok(Reply::OK),
            "echo" => Ok(Reply::Bulk(args[1].clone())),
            "time" => Ok(time()),
            "select" => self.select(&args[1]),
            "auth" => self.auth(&args[1..]),
            "hello" => self.hello(&args[1..]),
            "reset" => {
                self.leave();
                self.db = 0;
                self.trusted = !self.period.asks();
                *self.peer.user.borrow_mut() = DEFAULT.into();
                self.peer.protocol.set(Protocol::Resp2);
                Ok(Reply::Simple("RESET".into()))
            }
            "unwatch" => {
                self.unwatch();
                Ok(Reply::OK)
            }
            "publish" => self.publish(args, false),
            "spublish" => self.publish(args, true),
            "pubsub" => self.pubsub(&sub, &args[2..]),
            "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe"
            | "sunsubscribe" => {
                Err(Stop::error("ERR subscriptions are not possible in MULTI here"))
            }
            "client" => self.client(&sub, args),
            "config" => self.config(&sub, args),
            "command" => super::command::command(&sub, args),
            "info" => Ok(text(self.period.info(&args[1..]))),
            "monitor" => {
                if !self.peer.monitor.replace(true) {
                    self.period.monitors.set(self.period.monitors.get() + 1);
                    self.period.keyspace.borrow_mut().note_calls(true);
                }
                Ok(Reply::OK)
            }
            "debug" => self.debug(&sub, args),
            "memory" if sub != b"usage" => Ok(text("Memory belongs to the whole proxy here")),
            "memory" => return Some(self.memory_usage(args)),
            "wait" => Ok(Reply::Int(0)),
            "role" => Ok(Reply::Array(vec![
                Reply::bulk("master"),
                Reply::Int(0),
                Reply::Array(Vec::new()),
            ])),
            // Every write that was acknowledged is on PostgreSQL's disk.
            "save" => Ok(Reply::OK),
            "bgsave" => Ok(Reply::Simple("Background saving started".into())),
            "lastsave" => Ok(Reply::Int(super::run::now_ms() / 1000)),
            "lolwut" => Ok(text("Tandem\n")),
            "slowlog" => self.slow_log(&sub, args),
            "latency" => self.latency(&sub, args),
            "acl" => self.acl(&sub, args),
            name if NOT_HERE.contains(&name) => Err(Stop::failed(format!(
                "ERR {} is not available in postgres_only",
                name.to_uppercase()
            ))),
            _ => return None,
        })
    }

    fn ping(&self, args: &[Bytes]) -> Reply {
        if self.peer.subscribed.get() && self.peer.protocol.get() == Protocol::Resp2 {
            let echoed = args.get(1).cloned().unwrap_or_default();
            return Reply::Array(vec![Reply::bulk("pong"), Reply::Bulk(echoed)]);
        }
        args.get(1).map_or(Reply::Simple("PONG".into()), |word| Reply::Bulk(word.clone()))
    }

    fn select(&mut self, word: &Bytes) -> Answer<Reply> {
        let number = std::str::from_utf8(word).ok().and_then(|word| word.parse::<i64>().ok());
        let number = number.ok_or(Stop::NOT_AN_INTEGER)?;
        let count = self.period.keyspace.borrow().databases_configured;
        let db = u32::try_from(number).ok().filter(|db| *db < count);
        self.db = db.ok_or(Stop::error("ERR DB index is out of range"))?;
        Ok(Reply::OK)
    }

    fn auth(&mut self, words: &[Bytes]) -> Answer<Reply> {
        *self.peer.user.borrow_mut() = self.period.users.lock().authenticate(words)?;
        self.trusted = true;
        Ok(Reply::OK)
    }

    fn hello(&mut self, words: &[Bytes]) -> Answer<Reply> {
        let mut protocol = self.peer.protocol.get();
        let mut rest = words;
        if let [version, more @ ..] = words {
            protocol = match &version[..] {
                b"2" => Protocol::Resp2,
                b"3" => Protocol::Resp3,
                _ => return Err(Stop::error("NOPROTO unsupported protocol version")),
            };
            rest = more;
        }
        while let [option, value, more @ ..] = rest {
            rest = match (&option.to_ascii_lowercase()[..], more) {
                (b"auth", [password, more @ ..]) => {
                    self.auth(&[value.clone(), password.clone()])?;
                    more
                }
                (b"setname", _) => {
                    *self.peer.name.borrow_mut() = value.clone();
                    more
                }
                _ => return Err(Stop::SYNTAX),
            };
        }
        if !rest.is_empty() {
            return Err(Stop::SYNTAX);
        }
        if !self.trusted {
            return Err(NOT_TRUSTED);
        }
        self.peer.protocol.set(protocol);
        Ok(greeting(protocol, self.peer.id))
    }

    /// `PUBLISH`. The barriers of the proxy's connections are for the commit, not for subscribers.
    fn publish(&mut self, args: &[Bytes], sharded: bool) -> Answer<Reply> {
        let period = &self.period;
        if args[1] == period.gate.channel().as_bytes() {
            let barrier = Barrier::parse(&args[2]);
            period.barriers.borrow_mut().extend(barrier);
            period.changed();
            return Ok(Reply::Int(0));
        }
        let (channel, text) = (args[1].clone(), args[2].clone());
        let count = period.channels.lock().count(&channel, sharded);
        period.keyspace.borrow_mut().happen(Happened::Published { channel, text, sharded });
        Ok(Reply::Int(count))
    }

    fn pubsub(&self, sub: &[u8], words: &[Bytes]) -> Answer<Reply> {
        let mut channels = self.period.channels.lock();
        Ok(match sub {
            b"channels" => channels.names(Kind::Channel, words.first()),
            b"shardchannels" => channels.names(Kind::Shard, words.first()),
            b"numsub" => channels.counts(Kind::Channel, words),
            b"shardnumsub" => channels.counts(Kind::Shard, words),
            b"numpat" => Reply::Int(channels.pattern_count()),
            _ => return Err(unknown_sub("pubsub", sub)),
        })
    }

    fn client(&mut self, sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
        match sub {
            b"id" => Ok(Reply::Int(self.peer.id as i64)),
            b"getname" => {
                let name = self.peer.name.borrow().clone();
                Ok(Reply::bulk_or_nil((!name.is_empty()).then_some(name)))
            }
            b"setname" => {
                *self.peer.name.borrow_mut() = args[2].clone();
                Ok(Reply::OK)
            }
            b"no-evict" => Ok(Reply::OK),
            b"list" | b"info" => Ok(text(self.period.client_lines())),
            b"unblock" => {
                let number =
                    std::str::from_utf8(&args[2]).ok().and_then(|id| id.parse::<i64>().ok());
                let id = number.ok_or(Stop::NOT_AN_INTEGER)?;
                let unblock = match args.get(3).map(|how| how.to_ascii_lowercase()).as_deref() {
                    None | Some(b"timeout") => Unblock::Timeout,
                    Some(b"error") => Unblock::Error,
                    _ => {
                        return Err(Stop::error(
                            "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
                        ));
                    }
                };
                let peers = self.period.peers.borrow();
                let peer = u64::try_from(id).ok().and_then(|id| peers.get(&id));
                let Some(peer) = peer.filter(|peer| peer.blocked.get()) else {
                    return Ok(Reply::Int(0));
                };
                peer.unblock.set(Some(unblock));
                peer.wake.notify_one();
                Ok(Reply::Int(1))
            }
            b"kill" => self.client_kill(&args[2..]),
            b"pause" => self.pause(&args[2..]),
            b"unpause" => {
                self.period.unpause();
                Ok(Reply::OK)
            }
            b"tracking" => self.tracking(args),
            b"caching" => self.caching(&args[2]),
            b"getredir" => Ok(self.redirection()),
            b"trackinginfo" => Ok(self.tracking_info()),
            _ => Err(unknown_sub("client", &args[1])),
        }
    }

    /// `CLIENT KILL`: clients are killed where they are connected; here are the proxy's own connections.
    fn client_kill(&self, words: &[Bytes]) -> Answer<Reply> {
        if words.len() == 1 {
            return Err(Stop::error("ERR No such client"));
        }
        for pair in words.chunks(2) {
            let of_user = pair[0].eq_ignore_ascii_case(b"user");
            let user = pair.get(1).filter(|_| of_user).map(|user| String::from_utf8_lossy(user));
            if let Some(user) =
                user.filter(|user| !self.period.users.lock().all.contains_key(&**user))
            {
                return Err(Stop::failed(format!("ERR No such user '{user}'")));
            }
        }
        Ok(Reply::Int(0))
    }

    fn config(&self, sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
        match sub {
            b"get" => Ok(self.period.settings.borrow().get(&args[2..])),
            b"set" => {
                let answer = self.period.settings.borrow_mut().set(&args[2..]);
                self.period.listen();
                self.period.limit_tracking();
                answer
            }
            b"resetstat" => {
                self.period.commands.set(0);
                self.period.statistics.lock().reset();
                Ok(Reply::OK)
            }
            b"rewrite" => Err(Stop::error("ERR The server is running without a config file")),
            _ => Err(unknown_sub("config", &args[1])),
        }
    }

    fn debug(&self, sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
        match sub {
            b"set-active-expire" => {
                self.period.settings.borrow_mut().active_expire = args[2..] != ["0"];
                Ok(Reply::OK)
            }
            _ => Err(Stop::error("ERR DEBUG is not available in postgres_only")),
        }
    }

    /// `MEMORY USAGE key [SAMPLES n]`: about the bytes that the whole value takes in memory.
    fn memory_usage(&self, args: &[Bytes]) -> Answer<Reply> {
        let key = args.get(2).ok_or(wrong_arity("memory|usage"))?;
        let mut keyspace = self.period.keyspace.borrow_mut();
        keyspace.now_ms = super::run::now_ms();
        let entry = keyspace.whole_value(self.db, key)?;
        Ok(entry
            .map_or(Reply::Nil, |entry| Reply::Int((entry.value.weight() + key.len()) as i64 + 64)))
    }
}

impl Period {
    /// True when clients have to say a password.
    pub fn asks(&self) -> bool {
        self.users.lock().ask()
    }

    /// `CLIENT LIST`.
    fn client_lines(&self) -> String {
        let peers = self.peers.borrow();
        let line = |peer: &std::rc::Rc<super::peer::Peer>| {
            let name = String::from_utf8_lossy(&peer.name.borrow()).into_owned();
            let flags = if peer.blocked.get() { "b" } else { "N" };
            format!(
                "id={} name={name} age={} flags={flags}\n",
                peer.id,
                peer.created.elapsed().as_secs()
            )
        };
        peers.values().map(line).collect()
    }

    /// Shows a command to those who watch with `MONITOR`; `from` is a client or a script.
    pub fn show_to_monitors(&self, db: u32, from: &str, args: &[Bytes]) {
        if self.monitors.get() == 0 {
            return;
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let mut line = format!("{}.{:06} [{db} {from}]", now.as_secs(), now.subsec_micros());
        for arg in redacted(args).iter() {
            line.push_str(&format!(" \"{}\"", arg.escape_ascii()));
        }
        for peer in self.peers.borrow().values().filter(|peer| peer.monitor.get()) {
            peer.push(&Reply::Simple(line.clone().into()));
        }
    }
}

fn time() -> Reply {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let part = |number: u64| Reply::bulk(number.to_string());
    Reply::Array(vec![part(now.as_secs()), part(u64::from(now.subsec_micros()))])
}
