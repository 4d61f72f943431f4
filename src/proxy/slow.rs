//! Commands that need a closer look: they wait until nothing is outstanding, then take their time.

use super::pinned::{Pin, as_meant};
use super::request::{End, Request};
use super::session::Session;
use crate::commands::{Class, lookup_sub};
use crate::resp::{Reply, elements, encode};
use crate::strategy::Fault;
use crate::upstream::{Captured, Conn, Lost};
use std::rc::Rc;

const NOAUTH: &str = "NOAUTH Authentication required.";

/// Words that begin the lines of an HTTP request: Redis closes the connection without an answer.
const HTTP: [&[u8]; 2] = [b"post", b"host:"];

pub(super) fn wrong_arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

fn is_http(request: &Request) -> bool {
    request.command.is_none() && HTTP.contains(&request.option(0).as_slice())
}

impl Session {
    pub async fn slow(&mut self, request: Request) -> Result<(), End> {
        self.drained().await?;
        self.placed = None;
        if is_http(&request) {
            tracing::warn!(
                client = %self.info.address,
                "possible security attack: a client speaks HTTP, a browser may be misused to reach Redis; client closed"
            );
            return Err(End::Closed);
        }
        let class = request.command.map_or(Class::Unknown, |command| command.class);
        let name = request.command.map_or("", |command| command.name);
        if !self.trusted {
            // Redis looks for the command first, then for its arity, then for the authentication.
            let peer = name == "tandem" && request.option(1) == b"peer";
            if peer || matches!(name, "auth" | "hello" | "quit" | "reset") {
                return self.own(&request).await;
            }
            // A command that is not in the table may be a module's: only Redis knows.
            let wrong = request.command.filter(|command| !command.takes(request.words.len()));
            let error = match wrong {
                Some(command) => wrong_arity(command.name),
                None => NOAUTH.to_owned(),
            };
            let bare = error.strip_prefix("ERR ").unwrap_or(&error);
            self.answer_error(&match class {
                Class::Exec => format!("EXECABORT Transaction discarded because of: {bare}"),
                _ => error,
            });
            return Ok(());
        }
        self.notice_lost_pin();
        if self.outbox.is_dead() {
            return Err(End::Closed);
        }
        if let Some(why) = self.broken_multi.clone().filter(|_| !matches!(name, "quit" | "reset")) {
            self.in_broken_multi(class, &why);
            return Ok(());
        }
        if self.answer_aside(&request).await? {
            return Ok(());
        }
        let second = request.words.get(1).map(Vec::as_slice);
        if self.worker.shared.gate.refusing() && self.refuses(request.command, second) {
            self.refuse_write(class);
            return Ok(());
        }
        match class {
            Class::Own => self.own(&request).await,
            Class::Exec => self.exec(&request).await,
            Class::Replication => {
                self.answer_error(&format!(
                    "ERR {} is not available through Tandem: connect to Redis itself",
                    name.to_uppercase()
                ));
                Ok(())
            }
            Class::Unknown => self.unknown(&request).await,
            Class::Flush => {
                let frame = as_meant(&request.frame);
                self.pass(&Request { frame, ..request }).await
            }
            // Only a lost connection brings other commands here; they start afresh, each where it belongs.
            _ => {
                self.put_back(&request.frame);
                Ok(())
            }
        }
    }

    /// The client's own connection went away with the state that it held.
    fn notice_lost_pin(&mut self) {
        let Some(pin) = self.pin.as_ref().filter(|pin| !pin.conn.usable()) else { return };
        if pin.watching && pin.multi.is_none() {
            // Nobody watches the client's keys any more, and there is no other way to tell it.
            self.outbox.kill();
        }
        self.broken_multi =
            pin.multi.is_some().then(|| pin.conn.why_lost().unwrap_or(Lost::Unknown));
        self.drop_pin();
    }

    /// PostgreSQL cannot commit it, and nothing less will do.
    fn refuse_write(&mut self, class: Class) {
        self.worker.pool.context().meter.fault(Fault::WriteRefused, 1);
        if class == Class::Exec {
            // Redis forgets the transaction with the connection.
            self.drop_pin();
            self.answer_error(
                "EXECABORT Transaction discarded because PostgreSQL is away and strategy.on_unavailable is \"refuse\"",
            );
            return;
        }
        self.answer_error(
            "UNAVAILABLE PostgreSQL is away and strategy.on_unavailable is \"refuse\": the write was not run",
        );
    }

    /// MULTI was lost with the connection: nothing is queued any more, EXEC says so.
    fn in_broken_multi(&mut self, class: Class, why: &Lost) {
        match class {
            Class::Exec => {
                self.broken_multi = None;
                self.answer_error(match why {
                    Lost::Unknown => {
                        "EXECABORT Transaction discarded because the connection to Redis was lost."
                    }
                    // There never was one: the client has got an error for each command.
                    _ => "EXECABORT Transaction discarded because of previous errors.",
                });
            }
            Class::Discard => {
                self.broken_multi = None;
                self.answer(&Reply::OK);
            }
            _ => match why {
                Lost::Unknown => self.answer_error(
                    "UNAVAILABLE the connection to Redis was lost during MULTI: the command was not queued",
                ),
                why => self.refuse(why, 1),
            },
        }
    }

    /// EXEC of a transaction with a SELECT in it: the client ends up in that database if it ran.
    async fn exec(&mut self, request: &Request) -> Result<(), End> {
        let multi = self.pin.as_mut().and_then(|pin| pin.multi.as_mut());
        let keys = multi.map(|multi| std::mem::take(&mut multi.keys)).unwrap_or_default();
        if let Err(text) = self.bring_back(&keys).await {
            self.give_up_on_pin(&text);
            self.outbox.flush();
            return Ok(());
        }
        let Some(pin) = self.pin.as_mut() else { return self.pass(request).await };
        let conn = Rc::clone(&pin.conn);
        let multi = pin.multi.take().unwrap_or_default();
        pin.watching = false;
        let Some(reply) = self.call(&conn, request, multi.writes).await? else { return Ok(()) };
        // Not decoded: the other replies may be of any size and depth.
        let replies = elements(&reply.frame).unwrap_or_default();
        for (place, db) in multi.selects {
            if replies.get(place).is_some_and(|reply| reply.starts_with(b"+")) {
                self.set_db(db);
            }
        }
        self.info.multi.store(-1, std::sync::atomic::Ordering::Relaxed);
        if let Some(ms) = multi.pause {
            self.worker.shared.pause(ms);
        }
        self.outbox.push_captured(&reply);
        self.outbox.flush();
        // The connection may stand in another database than its key says.
        self.drop_pin();
        Ok(())
    }

    /// A command that is not in the table: it may leave state behind, unless Redis does not know it
    /// either.
    async fn unknown(&mut self, request: &Request) -> Result<(), End> {
        let conn = match self.take_pin() {
            Ok(pin) => Rc::clone(&pin.conn),
            Err(lost) => {
                self.refuse(&lost, 1);
                return Ok(());
            }
        };
        let Some(reply) = self.call(&conn, request, true).await? else { return Ok(()) };
        if !reply.frame.starts_with(b"-ERR unknown command")
            && let Some(pin) = &mut self.pin
        {
            pin.sticky = true;
        }
        self.outbox.push_captured(&reply);
        self.outbox.flush();
        Ok(())
    }

    /// Lets Redis answer, on whichever connection the client has.
    pub async fn pass(&mut self, request: &Request) -> Result<(), End> {
        if let Some(reply) = self.ask(request).await? {
            self.outbox.push_captured(&reply);
            self.outbox.flush();
        }
        Ok(())
    }

    /// Redis's answer, on whichever connection the client has; none: the client has got an error.
    pub async fn ask(&mut self, request: &Request) -> Result<Option<Captured>, End> {
        let conn = match &self.pin {
            Some(Pin { conn, .. }) => Ok(Rc::clone(conn)),
            None => self.current_lane(),
        };
        let writes = request
            .command
            .is_none_or(|command| command.call_writes(request.words.get(1).map(Vec::as_slice)));
        match conn {
            Ok(conn) => self.call(&conn, request, writes).await,
            Err(lost) => {
                self.refuse(&lost, 1);
                Ok(None)
            }
        }
    }

    /// Sends the request on `conn` and waits; none: the client has got an error.
    pub async fn call(
        &mut self,
        conn: &Rc<Conn>,
        request: &Request,
        writes: bool,
    ) -> Result<Option<Captured>, End> {
        match conn.call(&request.frame, writes).await {
            Ok(reply) => Ok(Some(reply)),
            Err(lost) => {
                self.refuse(&lost, 1);
                Ok(None)
            }
        }
    }

    /// An answer of the proxy's own.
    pub fn answer(&mut self, reply: &Reply) {
        let mut bytes = Vec::new();
        encode(reply, self.key.protocol, &mut bytes);
        self.answer_bytes(&bytes);
    }

    pub fn set_db(&mut self, db: u32) {
        self.key.db = db;
        self.info.db.store(db, std::sync::atomic::Ordering::Relaxed);
    }

    /// True for a client of RESP2 with subscriptions, which may not do anything else.
    pub fn listens(&self) -> bool {
        let subscribed = self.pin.as_ref().is_some_and(Pin::subscribed);
        subscribed && self.key.protocol == crate::resp::Protocol::Resp2
    }

    async fn own(&mut self, request: &Request) -> Result<(), End> {
        let name = request.command.map_or("", |command| command.name);
        if self.listens() && !matches!(name, "quit" | "reset") {
            return self.pass(request).await;
        }
        if request.command.is_some_and(|command| !command.takes(request.words.len())) {
            self.answer_error(&wrong_arity(name));
            return Ok(());
        }
        match name {
            "select" => self.select(request).await,
            "auth" => self.auth(request).await,
            "hello" => self.hello(request).await,
            "quit" => {
                self.leave_pin().await;
                self.answer(&Reply::OK);
                Err(End::Finish)
            }
            "reset" => {
                self.leave_pin().await;
                self.reset()
            }
            "info" => self.information(request).await,
            "tandem" => self.tandem(request).await,
            _ => match request.command.and_then(|c| lookup_sub(c, &request.option(1))) {
                Some(sub) if sub.takes(request.words.len()) => self.client(sub.name, request).await,
                // Unknown or incomplete subcommands get Redis's own error.
                _ => self.pass(request).await,
            },
        }
    }

    /// Gives up the client's own connection and waits until Redis knows: a subscription or a tracking
    /// redirection must be over when the client is told so.
    async fn leave_pin(&mut self) {
        if let Some(pin) = &self.pin {
            let conn = Rc::clone(&pin.conn);
            conn.quit().await;
            self.drop_pin();
        }
    }
}
