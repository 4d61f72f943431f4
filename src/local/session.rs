use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::channels::Kind;
use super::keeper::Gone;
use super::link::Link;
use super::peer::Peer;
use super::period::Period;
use super::transaction::Multi;
use super::walk::replied;
use super::watched::Watched;
use crate::commands::{self, Class, Command};
use crate::engine::Db;
use crate::engine::script::Straits;
use crate::resp::{Protocol, Reply, encode};

/// What becomes of a connection after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    Close,
}

/// What one connection has in the server.
pub(super) struct Session {
    pub period: Rc<Period>,
    pub peer: Rc<Peer>,
    pub db: Db,
    pub trusted: bool,
    pub multi: Option<Multi>,
    pub watched: Vec<Rc<Watched>>,
    /// Channels, patterns and shard channels, in this order.
    pub subscriptions: [BTreeSet<Bytes>; 3],
}

/// What a connection with subscriptions may call in RESP2.
const WHILE_SUBSCRIBED: [&str; 9] = [
    "subscribe",
    "ssubscribe",
    "psubscribe",
    "unsubscribe",
    "sunsubscribe",
    "punsubscribe",
    "ping",
    "quit",
    "reset",
];

/// Whether `MONITOR` shows a command.
fn is_shown(command: &Command) -> bool {
    let hidden = command.flags.admin || command.flag_names.contains(&"skip_monitor");
    let shown_anyway = command.is_script() || command.name == "exec";
    command.name != "quit" && (!hidden || shown_anyway)
}

impl Session {
    pub fn new(period: Rc<Period>, peer: Rc<Peer>) -> Session {
        let trusted = !period.asks();
        Session {
            period,
            peer,
            db: 0,
            trusted,
            multi: None,
            watched: Vec::new(),
            subscriptions: Default::default(),
        }
    }

    /// Loads what these commands will need.
    pub async fn look_ahead(&self, commands: &[Vec<Bytes>]) -> Result<(), Gone> {
        if commands.is_empty() || !self.trusted {
            return Ok(());
        }
        self.period.load_ahead(commands.iter().map(|args| (self.db, &args[..]))).await
    }

    /// Answers one command.
    pub async fn handle(&mut self, args: Vec<Bytes>, link: &mut Link) -> Result<Flow, Gone> {
        self.period.tenure.lasting().await;
        self.period.commands.set(self.period.commands.get() + 1);
        // A subcommand is no command.
        let command = commands::lookup(&args[0]).filter(|found| !found.name.contains('|'));
        let class = command.map_or(Class::Unknown, |command| command.class);
        if let Some(refusal) = self.refusal(command, &args) {
            if let (Some(multi), true) = (&mut self.multi, class != Class::Exec) {
                multi.broken = true;
            }
            if let Reply::Error(text) = &refusal {
                let name = command.map(|command| command.name);
                self.period.statistics.lock().rejected(name, text);
            }
            self.answer(&refusal);
            return Ok(Flow::Go);
        }
        if let Some(text) = command.and_then(|command| self.straitened(command, &args)) {
            self.period.statistics.lock().rejected(command.map(|found| found.name), text);
            if class == Class::Exec {
                self.multi = None;
                self.unwatch();
                let text = format!("EXECABORT Transaction discarded because of: {text}");
                self.answer(&Reply::error(text));
            } else {
                self.break_multi();
                self.answer(&Reply::error(text));
            }
            return Ok(Flow::Go);
        }
        let sub =
            command.zip(args.get(1)).and_then(|(found, sub)| commands::lookup_sub(found, sub));
        if sub.or(command).is_some_and(is_shown) {
            self.period.show_to_monitors(self.db, "tandem", &args);
        }
        if let Some(command) = command {
            self.held_up(command, &args).await;
        }
        let name = command.map_or("", |command| command.name);
        if let Some(multi) = &mut self.multi {
            match (class, name) {
                (Class::Exec | Class::Discard | Class::Multi | Class::Watch, _)
                | (_, "quit" | "reset") => {}
                _ => {
                    multi.queued.push(args);
                    self.answer(&Reply::Simple("QUEUED".into()));
                    return Ok(Flow::Go);
                }
            }
        }
        if matches!(class, Class::Multi | Class::Discard | Class::Exec | Class::Watch) {
            self.note(&args, Duration::ZERO, &Ok(Reply::OK));
        }
        match class {
            Class::Multi => self.begin(),
            Class::Discard => self.discard(),
            Class::Exec => self.exec().await?,
            Class::Watch => self.watch(&args[1..]).await?,
            Class::Subscribe | Class::Unsubscribe => self.subscription(name, &args[1..]),
            Class::Blocking | Class::BlockingOption => return self.blocking(&args, link).await,
            _ if name == "quit" => {
                self.answer(&Reply::OK);
                return Ok(Flow::Close);
            }
            _ => {
                let start = Instant::now();
                let reply = match self.walk(name, &args).await? {
                    Some(answer) => {
                        self.note(&args, start.elapsed(), &answer);
                        replied(answer)
                    }
                    None => self.run(&args).await?,
                };
                self.answer(&reply);
            }
        }
        if self.multi.is_none()
            && name != "client"
            && let Some(tracked) = &mut *self.peer.tracked.borrow_mut()
        {
            tracked.caching = false;
        }
        self.period.deliver();
        self.serve_blocked();
        Ok(Flow::Go)
    }

    /// Why the command is not even looked at; in the order in which Redis looks.
    fn refusal(&self, command: Option<&Command>, args: &[Bytes]) -> Option<Reply> {
        let Some(command) = command else {
            let unknown = self.period.execute(&self.peer, self.db, args);
            return match unknown {
                Err(crate::engine::Stop::Error(text)) => Some(Reply::Error(text)),
                _ => None,
            };
        };
        if !command.takes(args.len()) {
            return Some(Reply::error(format!(
                "ERR wrong number of arguments for '{}' command",
                command.name
            )));
        }
        if let (true, Some(word)) = (command.container, args.get(1)) {
            match commands::lookup_sub(command, word) {
                None => {
                    let asked: String = String::from_utf8_lossy(word).chars().take(128).collect();
                    let container = command.name.to_uppercase();
                    return Some(Reply::error(format!(
                        "ERR unknown subcommand '{asked}'. Try {container} HELP."
                    )));
                }
                Some(sub) if !sub.takes(args.len()) => {
                    return Some(Reply::error(format!(
                        "ERR wrong number of arguments for '{}' command",
                        sub.name
                    )));
                }
                Some(_) => {}
            }
        }
        let free = command.flags.no_auth || matches!(command.name, "quit" | "reset");
        if !self.trusted && !free {
            return Some(Reply::error("NOAUTH Authentication required."));
        }
        if let Err(denied) = self.period.users.lock().check(&self.peer.user.borrow(), args) {
            return Some(Reply::error(denied.error(args)));
        }
        if self.multi.is_some() && command.flag_names.contains(&"no_multi") {
            return Some(Reply::error("ERR Command not allowed inside a transaction"));
        }
        let subscribed = self.peer.subscribed.get();
        let resp2 = self.peer.protocol.get() == Protocol::Resp2;
        if subscribed && resp2 && !WHILE_SUBSCRIBED.contains(&command.name) {
            return Some(Reply::error(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
                 are allowed in this context",
                command.name
            )));
        }
        None
    }

    /// Why the server cannot run a command at the moment.
    fn straitened(&self, command: &Command, args: &[Bytes]) -> Option<&'static str> {
        let straits = self.period.straits();
        if straits == Straits::default() {
            return None;
        }
        let sub = args.get(1).and_then(|word| commands::lookup_sub(command, word));
        let command = sub.unwrap_or(command);
        match (&self.multi, command.class) {
            (_, Class::Discard) => None,
            (Some(multi), Class::Exec) => multi
                .queued
                .iter()
                .find_map(|args| straits.refuses(&commands::lookup(&args[0])?.flags)),
            (Some(_), _) if !matches!(command.name, "quit" | "reset") => {
                straits.refuses_queueing(&command.flags)
            }
            _ => straits.refuses(&command.flags),
        }
    }

    /// A command was refused elsewhere.
    pub fn break_multi(&mut self) {
        if let Some(multi) = &mut self.multi {
            multi.broken = true;
        }
    }

    /// Appends a reply to what the client gets.
    pub fn answer(&self, reply: &Reply) {
        encode(reply, self.peer.protocol.get(), &mut self.peer.out.borrow_mut());
    }

    /// `SUBSCRIBE` and its five kin: a confirmation for each name.
    pub fn subscription(&mut self, name: &str, names: &[Bytes]) {
        let kind = match name {
            "psubscribe" | "punsubscribe" => Kind::Pattern,
            "ssubscribe" | "sunsubscribe" => Kind::Shard,
            _ => Kind::Channel,
        };
        let on = name == kind.words().0;
        let all: Vec<Bytes> = match names {
            [] => self.subscriptions[kind as usize].iter().cloned().collect(),
            names => names.to_vec(),
        };
        if all.is_empty() {
            self.confirm(kind, on, None);
        }
        for name in all {
            let mut channels = self.period.channels.lock();
            let mine = &mut self.subscriptions[kind as usize];
            if on {
                mine.insert(name.clone());
                channels.subscribe(kind, &name, self.peer.id);
            } else {
                mine.remove(&name);
                channels.unsubscribe(kind, &name, self.peer.id);
            }
            drop(channels);
            self.confirm(kind, on, Some(name));
        }
        let any = self.subscriptions.iter().any(|names| !names.is_empty());
        self.peer.subscribed.set(any);
    }

    fn confirm(&self, kind: Kind, on: bool, name: Option<Bytes>) {
        let [channels, patterns, shards] = &self.subscriptions;
        let count = match kind {
            Kind::Shard => shards.len(),
            _ => channels.len() + patterns.len(),
        };
        let (subscribed, unsubscribed) = kind.words();
        let word = if on { subscribed } else { unsubscribed };
        let count = Reply::Int(count as i64);
        self.answer(&Reply::Push(vec![Reply::bulk(word), Reply::bulk_or_nil(name), count]));
    }

    /// `RESET`, and what the end of the connection means to others.
    pub fn leave(&mut self) {
        self.multi = None;
        self.unwatch();
        self.untrack();
        self.peer.subscribed.set(false);
        let mut channels = self.period.channels.lock();
        for (kind, names) in
            [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().zip(&mut self.subscriptions)
        {
            for name in std::mem::take(names) {
                channels.unsubscribe(kind, &name, self.peer.id);
            }
        }
        drop(channels);
        if self.peer.monitor.replace(false) {
            let left = self.period.monitors.get() - 1;
            self.period.monitors.set(left);
            self.period.keyspace.borrow_mut().note_calls(left > 0);
        }
    }
}
