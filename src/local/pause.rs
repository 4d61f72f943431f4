//! `CLIENT PAUSE`: commands that wait for its end.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::period::Period;
use super::session::Session;
use crate::commands::{self, Class, Command};
use crate::engine::{Answer, Stop};
use crate::resp::Reply;

/// Far beyond anybody's patience, and within what a clock can add.
const MAX_PAUSE_MS: u64 = 1 << 40;

/// Somebody who is held up, for as long as this lives.
struct Waits<'a>(&'a Cell<usize>);

impl<'a> Waits<'a> {
    fn new(count: &'a Cell<usize>) -> Waits<'a> {
        count.set(count.get() + 1);
        Waits(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Session {
    /// `CLIENT PAUSE ms [WRITE|ALL]`.
    pub fn pause(&self, words: &[Bytes]) -> Answer<Reply> {
        let writes_only = match words.get(1).map(|mode| mode.to_ascii_lowercase()).as_deref() {
            Some(b"write") => true,
            None | Some(b"all") => false,
            _ => return Err(Stop::error("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        };
        let text = std::str::from_utf8(&words[0]).ok();
        let ms = text.and_then(|ms| ms.parse::<i64>().ok());
        let ms = ms.ok_or(Stop::error("ERR timeout is not an integer or out of range"))?;
        let ms = u64::try_from(ms).map_err(|_| Stop::error("ERR timeout is negative"))?;
        self.period.pause(ms, writes_only);
        Ok(Reply::OK)
    }

    /// Waits while a `CLIENT PAUSE` concerns the command.
    pub async fn held_up(&self, command: &Command, args: &[Bytes]) {
        let queues = self.multi.is_some() && command.class != Class::Exec;
        if self.period.paused.get().is_some() && !queues {
            let writes = match (&self.multi, command.class) {
                (Some(multi), Class::Exec) => multi.queued.iter().any(|args| {
                    commands::lookup(&args[0]).is_some_and(|found| self.may_write(found, args))
                }),
                _ => self.may_write(command, args),
            };
            self.period.while_paused(writes).await;
        }
    }

    /// Whether a command changes data or travels to replicas. The proxy's own barriers do neither.
    fn may_write(&self, command: &Command, args: &[Bytes]) -> bool {
        let own =
            || args.get(1).is_some_and(|channel| *channel == self.period.gate.channel().as_bytes());
        match command.name {
            "publish" if own() => false,
            _ if command.is_script() => self.period.scripts.borrow().may_write(args),
            _ => {
                command.call_writes(args.get(1).map(|word| &word[..]))
                    || matches!(command.name, "publish" | "spublish")
            }
        }
    }
}

impl Period {
    /// A longer pause stays, and one of everything is not weakened, as in Redis.
    pub fn pause(&self, ms: u64, writes_only: bool) {
        let end = Instant::now() + Duration::from_millis(ms.min(MAX_PAUSE_MS));
        let (end, writes_only) = match self.paused.get() {
            Some((until, before)) if until > Instant::now() => {
                (end.max(until), writes_only && before)
            }
            _ => (end, writes_only),
        };
        self.paused.set(Some((end, writes_only)));
    }

    pub fn unpause(&self) {
        self.paused.set(None);
        self.resumed.notify_waiters();
    }

    /// Waits while a `CLIENT PAUSE` concerns the command.
    pub async fn while_paused(&self, writes: bool) {
        loop {
            let resumed = self.resumed.notified();
            match self.paused.get() {
                Some((end, writes_only)) if end > Instant::now() && (writes || !writes_only) => {
                    let end = tokio::time::Instant::from_std(end);
                    let _waits = Waits::new(&self.held_up);
                    tokio::select! {
                        () = tokio::time::sleep_until(end) => {}
                        () = resumed => {}
                    }
                }
                _ => return,
            }
        }
    }
}
