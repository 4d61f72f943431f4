use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::proxy::request::{End, Request, number};
use crate::proxy::session::Session;
use crate::resp::{Reply, command, decode_reply, encode};

/// How long the target of a redirection has to come up with a connection of its own.
const TARGET_WAIT: Duration = Duration::from_secs(1);

impl Session {
    /// `CLIENT TRACKING ON|OFF …`: Redis has to see the client's reads on one connection.
    pub(super) async fn client_tracking(&mut self, request: &Request) -> Result<(), End> {
        let mut words = request.words.clone();
        let mut redirect = None;
        for at in 3..words.len().saturating_sub(1) {
            if request.option(at) == b"redirect" {
                let id = number(&words[at + 1]);
                if let Some(id) = id {
                    let redis_id = self.redis_id_of(id).await;
                    redirect = Some((redis_id, id));
                    words[at + 1] = redis_id.to_string().into_bytes();
                }
            }
        }
        let conn = match self.take_pin() {
            Ok(pin) => Rc::clone(&pin.conn),
            Err(lost) => {
                self.refuse(&lost, 1);
                return Ok(());
            }
        };
        let on = request.option(2) == b"on";
        if on {
            conn.watch(&self.outbox);
        }
        let frame = command(&words).to_vec();
        let translated = Request { command: request.command, frame, words };
        let Some(reply) = self.call(&conn, &translated, false).await? else { return Ok(()) };
        if reply.frame == b"+OK\r\n"
            && let Some(pin) = &mut self.pin
        {
            (pin.tracking, pin.redirect) = (on, redirect.filter(|_| on));
            self.info.redis_id.store(pin.conn.facts().id, Ordering::Relaxed);
        }
        self.refresh();
        self.outbox.push_captured(&reply);
        self.outbox.flush();
        Ok(())
    }

    /// `CLIENT GETREDIR`, `CLIENT TRACKINGINFO`: Redis's answer, with the client's id for Redis's.
    pub(super) async fn tracking_info(&mut self, request: &Request) -> Result<(), End> {
        let Some(mut reply) = self.ask(request).await? else { return Ok(()) };
        if let Ok(mut answer) = decode_reply(&reply.frame) {
            self.translate(&mut answer);
            reply.frame.clear();
            encode(&answer, self.key.protocol, &mut reply.frame);
        }
        self.outbox.push_captured(&reply);
        self.outbox.flush();
        Ok(())
    }

    /// Replaces the id of the redirection's connection in Redis by that of its client.
    fn translate(&self, reply: &mut Reply) {
        let redirect = self.pin.as_ref().and_then(|pin| pin.redirect);
        match (reply, redirect) {
            (Reply::Int(id), Some((redis_id, client))) if *id == redis_id => *id = client as i64,
            (Reply::Array(items), _) => items.iter_mut().for_each(|item| self.translate(item)),
            (Reply::Map(pairs), _) => pairs.iter_mut().for_each(|(_, value)| self.translate(value)),
            _ => {}
        }
    }

    /// The id in Redis of a client's own connection, which it is asked to take if it has none.
    /// For an unknown client an id that Redis does not know either.
    async fn redis_id_of(&mut self, id: u64) -> i64 {
        const NOBODY: i64 = i64::MAX;
        if id == self.info.id {
            let Ok(pin) = self.take_pin() else { return NOBODY };
            let conn = Rc::clone(&pin.conn);
            return match conn.opened().await {
                Ok(()) => conn.facts().id,
                Err(_) => NOBODY,
            };
        }
        let Some(target) = self.worker.shared.registry.get(id) else { return NOBODY };
        let deadline = tokio::time::Instant::now() + TARGET_WAIT;
        loop {
            match target.push_id.load(Ordering::Acquire) {
                0 => {}
                redis_id => return redis_id,
            }
            if tokio::time::Instant::now() > deadline || target.is_killed() {
                return NOBODY;
            }
            target.ask_pin();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
