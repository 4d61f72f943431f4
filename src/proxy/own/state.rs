use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::proxy::request::{End, Request};
use crate::proxy::session::{ReplyMode, Session};
use crate::resp::{Protocol, Reply, command, strict_number};
use crate::upstream::{Conn, Key, Lost};

/// Databases that Redis has unless configured otherwise; asked for only while it is away.
const DEFAULT_DATABASES: u32 = 16;
const MAX_DB: u32 = i32::MAX.unsigned_abs();

impl Session {
    /// `SELECT db`.
    pub async fn select(&mut self, request: &Request) -> Result<(), End> {
        let number = strict_number(&request.words[1]);
        let wrong = match number.map(i32::try_from) {
            None => "ERR value is not an integer or out of range",
            Some(Err(_)) => {
                "ERR value is out of range, value must between -2147483648 and 2147483647"
            }
            Some(Ok(_)) => "ERR DB index is out of range",
        };
        let Some(db) = number.and_then(|n| u32::try_from(n).ok()).filter(|&n| n <= MAX_DB) else {
            self.answer_error(wrong);
            return Ok(());
        };
        match self.change(|key| key.db = db).await {
            Ok(()) => {
                self.info.db.store(db, Ordering::Relaxed);
                self.answer(&Reply::OK);
            }
            // A client that takes the answer for granted must not find itself in another database.
            Err(lost) if lost.passes() && db < DEFAULT_DATABASES => {
                self.set_db(db);
                self.answer(&Reply::OK);
            }
            Err(lost) => self.refuse(&lost, 1),
        }
        Ok(())
    }

    /// `RESET`: as if the client had just connected.
    pub fn reset(&mut self) -> Result<(), End> {
        self.drop_pin();
        self.broken_multi = None;
        self.replies = ReplyMode::On;
        self.key = self.home.clone();
        let access = &self.worker.shared.access;
        let (user, trusted) = access.stranger();
        self.user = user.filter(|_| !self.peer);
        self.trusted = self.peer || trusted;
        let info = &self.info;
        info.name.lock().clear();
        *info.user.lock() =
            self.user.as_ref().map_or(access.home_name(), |user| &*user.name).into();
        info.db.store(self.key.db, Ordering::Relaxed);
        info.resp.store(2, Ordering::Relaxed);
        info.monitor.store(false, Ordering::Relaxed);
        info.tracking.store(false, Ordering::Relaxed);
        self.answer(&Reply::Simple("RESET".into()));
        Ok(())
    }

    /// Moves the client to another database or protocol: to another lane, or its own connection does
    /// the same.
    pub(super) async fn change(&mut self, with: impl FnOnce(&mut Key)) -> Result<(), Lost> {
        let mut key = self.key.clone();
        with(&mut key);
        if let Some(pin) = self.pin.as_mut().filter(|pin| pin.holds()) {
            let change = if key.db != self.key.db {
                command(&[&b"SELECT"[..], key.db.to_string().as_bytes()])
            } else {
                let version: &[u8] = if key.protocol == Protocol::Resp3 { b"3" } else { b"2" };
                command(&[&b"HELLO"[..], version])
            };
            let conn = Rc::clone(&pin.conn);
            // The connection no longer is what its key says: it must not be shared afterwards.
            pin.sticky = true;
            accepted(&conn, &change).await?;
        } else {
            self.give_back();
            if key.db != self.key.db {
                if key.credentials != self.home.credentials {
                    // Another user may not be allowed to SELECT at all.
                    let conn = self.worker.pool.pin(&self.key)?;
                    let db = key.db.to_string();
                    let asked = accepted(&conn, &command(&["SELECT", &db])).await;
                    conn.close();
                    asked?;
                }
                // Whether there is such a database only Redis knows.
                self.worker.pool.lane(&key)?.opened().await?;
            }
        }
        self.key = key;
        Ok(())
    }
}

/// Sends `command` on `conn`; Redis's error becomes that of the client's command.
async fn accepted(conn: &Rc<Conn>, command: &[u8]) -> Result<(), Lost> {
    let reply = conn.call(command, false).await?;
    match reply.frame.strip_prefix(b"-") {
        Some(text) => Err(Lost::Refused(String::from_utf8_lossy(text).trim_end().into())),
        None => Ok(()),
    }
}
