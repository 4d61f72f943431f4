use std::sync::atomic::Ordering;

use crate::proxy::registry::ClientKind;
use crate::proxy::request::{End, Request, number};
use crate::proxy::session::{ReplyMode, Session};
use crate::resp::{Reply, command};

pub(super) const SYNTAX: &str = "ERR syntax error";

/// For subcommands that the proxy answers itself: a call that changes nothing in Redis, and that Redis
/// refuses to a user who may not have the subcommand.
const PROBES: &[(&str, &str)] = &[
    ("client|id", "CLIENT ID"),
    ("client|getname", "CLIENT GETNAME"),
    // The name that the connection has anyway.
    ("client|setname", "CLIENT SETNAME tandem"),
    ("client|info", "CLIENT INFO"),
    ("client|list", "CLIENT LIST ID 0"),
    ("client|reply", "CLIENT REPLY ON"),
    ("client|no-evict", "CLIENT NO-EVICT OFF"),
    ("client|kill", "CLIENT KILL ID 9223372036854775807"),
];

impl Session {
    /// `CLIENT …`; `name` is the full name in the command table, and the arity is right.
    pub async fn client(&mut self, name: &str, request: &Request) -> Result<(), End> {
        self.info.touch(crate::commands::lookup(name.as_bytes()).map_or("client", |c| c.name));
        if !self.is_permitted(name, request).await? {
            return Ok(());
        }
        match name {
            "client|id" => self.answer(&Reply::Int(self.info.id as i64)),
            "client|getname" => {
                let name = self.info.name.lock().clone();
                self.answer(&Reply::bulk_or_nil((!name.is_empty()).then(|| name.into())));
            }
            "client|setname" => match self.set_name(&request.words[2]) {
                Ok(()) => self.answer(&Reply::OK),
                Err(error) => self.answer_error(&error),
            },
            "client|info" => {
                let line = format!("{}\n", self.current_line());
                self.answer(&Reply::Verbatim("txt".into(), line.into()));
            }
            "client|list" => {
                let reply = self.client_list(request);
                self.answer(&reply);
            }
            "client|reply" => self.client_reply(request),
            "client|no-evict" => match request.option(2).as_slice() {
                flag @ (b"on" | b"off") => {
                    self.info.no_evict.store(flag == b"on", Ordering::Relaxed);
                    self.answer(&Reply::OK);
                }
                _ => self.answer_error(SYNTAX),
            },
            "client|kill" => return self.client_kill(request).await,
            "client|unblock" => return self.client_unblock(request).await,
            "client|pause" | "client|unpause" => return self.client_pause(request).await,
            "client|tracking" => return self.client_tracking(request).await,
            "client|getredir" | "client|trackinginfo" => return self.tracking_info(request).await,
            _ => return self.pass(request).await,
        }
        Ok(())
    }

    /// Whether the client's user may have the subcommand; if not, the client has Redis's answer. The
    /// proxy's own user may.
    async fn is_permitted(&mut self, name: &str, request: &Request) -> Result<bool, End> {
        let probe = PROBES.iter().find(|(probed, _)| *probed == name);
        let Some((_, probe)) = probe.filter(|_| self.key.credentials != self.home.credentials)
        else {
            return Ok(true);
        };
        let words: Vec<Vec<u8>> = probe.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let frame = command(&words).to_vec();
        let probe = Request { command: request.command, frame, words };
        let Some(reply) = self.ask(&probe).await? else { return Ok(false) };
        let refused = reply.frame.starts_with(b"-NOPERM");
        if refused {
            self.outbox.push_captured(&reply);
            self.outbox.flush();
        }
        Ok(!refused)
    }

    /// This client's line, with what its own connection knows.
    fn current_line(&self) -> String {
        self.refresh();
        self.info.line()
    }

    /// Brings what others see of this client up to date.
    pub(super) fn refresh(&self) {
        let info = &self.info;
        let subscriptions =
            self.pin.as_ref().map(|pin| pin.conn.subscriptions()).unwrap_or_default();
        info.channels.store(subscriptions.channels, Ordering::Relaxed);
        info.patterns.store(subscriptions.patterns, Ordering::Relaxed);
        info.shards.store(subscriptions.shards, Ordering::Relaxed);
        let (monitor, tracking) = match &self.pin {
            Some(pin) => (pin.monitor, pin.tracking),
            None => (false, false),
        };
        info.monitor.store(monitor, Ordering::Relaxed);
        info.tracking.store(tracking, Ordering::Relaxed);
    }

    fn client_list(&self, request: &Request) -> Reply {
        self.refresh();
        let registry = &self.worker.shared.registry;
        let words = &request.words;
        let clients = match (words.len(), request.option(2).as_slice()) {
            (2, _) => registry.all(),
            (4, b"type") => {
                let Some(kind) = ClientKind::parse(&words[3]) else {
                    return unknown_kind(&words[3]);
                };
                registry.all().into_iter().filter(|client| client.kind() == kind).collect()
            }
            (4.., b"id") => {
                let mut found = Vec::new();
                for word in &words[3..] {
                    let id = number::<i64>(word);
                    let Some(id) = id else { return Reply::error("ERR Invalid client ID") };
                    found.extend(u64::try_from(id).ok().and_then(|id| registry.get(id)));
                }
                found
            }
            _ => return Reply::error(SYNTAX),
        };
        let lines: String = clients.iter().map(|client| client.line() + "\n").collect();
        Reply::Verbatim("txt".into(), lines.into())
    }

    fn client_reply(&mut self, request: &Request) {
        match request.option(2).as_slice() {
            b"on" => {
                self.replies = ReplyMode::On;
                self.answer(&Reply::OK);
            }
            b"off" => self.replies = ReplyMode::Off,
            b"skip" => {
                if self.replies != ReplyMode::Off {
                    self.replies = ReplyMode::Skip;
                }
            }
            _ => self.answer_error(SYNTAX),
        }
    }

    /// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`, for the id that the client's own connection has in Redis.
    async fn client_unblock(&mut self, request: &Request) -> Result<(), End> {
        let words = &request.words;
        let id = number::<u64>(&words[2]);
        let reason = request.option(3);
        if words.len() > 4 || id.is_none() || !matches!(&reason[..], b"" | b"timeout" | b"error") {
            return self.pass(request).await;
        }
        let target = id.and_then(|id| self.worker.shared.registry.get(id));
        let redis_id = target.map_or(0, |target| target.redis_id.load(Ordering::Relaxed));
        if redis_id == 0 {
            self.answer(&Reply::Int(0));
            return Ok(());
        }
        let mut translated = words.clone();
        translated[2] = redis_id.to_string().into_bytes();
        let frame = command(&translated).to_vec();
        self.pass(&Request { command: request.command, frame, words: translated }).await
    }

    /// `CLIENT PAUSE ms [WRITE|ALL]`, `CLIENT UNPAUSE`: Redis decides, the proxy remembers, so that
    /// a client that waits does not hold up others on its lane.
    async fn client_pause(&mut self, request: &Request) -> Result<(), End> {
        let Some(reply) = self.ask(request).await? else { return Ok(()) };
        if reply.frame == b"+OK\r\n" {
            let ms = request.words.get(2).and_then(|word| number(word));
            self.worker.shared.pause(ms.unwrap_or(0));
        }
        self.outbox.push_captured(&reply);
        self.outbox.flush();
        Ok(())
    }
}

pub(super) fn unknown_kind(name: &[u8]) -> Reply {
    Reply::error(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name)))
}
