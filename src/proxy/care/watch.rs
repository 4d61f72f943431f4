//! Running commands under `WATCH`: their keys are watched, the missing ones are brought back, and the
//! commands run as one transaction, which Redis refuses when a key was touched or evicted meanwhile.

use std::rc::Rc;

use super::read::call_many;
use super::{Careful, Name, Way, guard, split};
use crate::proxy::session::Session;
use crate::resp::{elements, push_command};
use crate::strategy::{RecallError, Recalled};
use crate::upstream::{Captured, Conn, Lost};

/// So often others may get in between before the client is told.
pub(super) const MOST_TRIES: usize = 64;

pub(super) const CROWDED: &str =
    "UNAVAILABLE keys were touched or evicted again and again: the command was not run";

/// How a try ended.
pub(super) enum Outcome {
    /// The replies to MULTI and all that follows it, EXEC last.
    Ran(Captured),
    /// Somebody got in between.
    Again,
    /// The commands did not run.
    Failed(String),
    /// Whoever was asked answers no more, and the commands did not run.
    Afresh,
    Lost(Lost),
}

impl Outcome {
    /// The connection was lost before the commands were sent.
    fn before_the_commands(lost: Lost) -> Outcome {
        match lost {
            Lost::Unknown => Outcome::Afresh,
            lost => Outcome::Lost(lost),
        }
    }
}

impl Session {
    /// Runs the commands in their order, each with all its keys in place.
    pub(super) async fn run_under_watch(&mut self, batch: &[Careful]) {
        let mut left = batch;
        while !left.is_empty() {
            let done = self.run_guarded(left).await;
            left = left.get(done..).unwrap_or_default();
            let apart = match left.first() {
                None => return,
                // Its key is missing; so may be others, and all are brought back together.
                Some(stopped) if guard::fits(stopped) => left.len(),
                Some(_) => left.iter().take_while(|careful| !guard::fits(careful)).count(),
            };
            let Some(done) = self.run_some(&left[..apart]).await else {
                return self.start_afresh(left);
            };
            left = left.get(done..).unwrap_or_default();
        }
    }

    /// Runs all of them, or only the first when Redis did not take them together. Returns how many have
    /// been answered; none: they have to start afresh.
    async fn run_some(&mut self, batch: &[Careful]) -> Option<usize> {
        let mut outcome = Outcome::Again;
        let shared = std::sync::Arc::clone(&self.worker.shared);
        for _ in 0..MOST_TRIES {
            let _unswapped = shared.presence.swaps.read().await;
            let conn = match self.worker.pool.pin(&self.key) {
                Ok(conn) => conn,
                Err(lost) => {
                    self.refuse(&lost, batch.len());
                    return Some(batch.len());
                }
            };
            outcome = self.try_under_watch(&conn, batch).await;
            self.finished(conn, &outcome);
            if !matches!(outcome, Outcome::Again) {
                break;
            }
        }
        match outcome {
            Outcome::Ran(captured) => return self.take_replies(&captured, batch).await,
            Outcome::Again => self.hand_over_errors(CROWDED, batch.len()),
            Outcome::Failed(text) => self.hand_over_errors(&text, batch.len()),
            Outcome::Afresh => return None,
            Outcome::Lost(lost) => self.refuse(&lost, batch.len()),
        }
        Some(batch.len())
    }

    async fn try_under_watch(&self, conn: &Rc<Conn>, batch: &[Careful]) -> Outcome {
        let mut keys: Vec<&Name> = batch.iter().flat_map(|careful| &careful.needs.keys).collect();
        keys.sort_unstable();
        keys.dedup();
        if let Err(outcome) = self.watch_in_place(conn, &keys).await {
            return outcome;
        }
        let (frames, replies) = self.transaction(batch);
        let writes = batch.iter().any(|c| c.request.command.is_none_or(|command| command.writes));
        run_watched(conn, &frames, replies, writes).await
    }

    /// Watches the keys, all of which are then where they belong; otherwise nothing is watched.
    pub(super) async fn watch_in_place(
        &self,
        conn: &Rc<Conn>,
        keys: &[&Name],
    ) -> Result<(), Outcome> {
        let missing = missing(conn, self.key.db, keys).await?;
        for some in missing.chunk_by(|(a, _), (b, _)| a == b) {
            let lacking = some.iter().map(|(_, key)| key.clone()).collect();
            let answers = self.worker.shared.presence.recall(some[0].0, lacking).await;
            let outcome = match answers {
                Ok(all) if all.iter().all(|answer| *answer == Recalled::Absent) => continue,
                Ok(_) => Outcome::Again,
                Err(RecallError::Over) => Outcome::Afresh,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            return Err(match call_many(conn, &unwatch(), 1, false).await {
                Ok(_) => outcome,
                Err(lost) => Outcome::before_the_commands(lost),
            });
        }
        Ok(())
    }

    /// Gives the connection of a try back, unless it may be in the middle of something.
    pub(super) fn finished(&self, conn: Rc<Conn>, outcome: &Outcome) {
        match outcome {
            Outcome::Lost(_) | Outcome::Afresh => conn.close(),
            _ => self.worker.pool.release(conn),
        }
    }

    /// The commands as a transaction, and how many replies it has.
    fn transaction(&self, batch: &[Careful]) -> (Vec<u8>, usize) {
        let mut frames = Vec::new();
        push_command(&["MULTI"], &mut frames);
        batch.iter().for_each(|careful| frames.extend_from_slice(&careful.request.frame));
        let signs = usize::from(self.signs(batch));
        if signs > 0 {
            let channel = self.worker.shared.gate.channel();
            push_command(&["PUBLISH", channel, ""], &mut frames);
        }
        push_command(&["EXEC"], &mut frames);
        (frames, batch.len() + signs + 2)
    }

    /// True when the transaction has one more command, which keeps it together in the stream: a delete in
    /// it cannot be taken for an eviction. Another user may not be allowed to publish.
    fn signs(&self, batch: &[Careful]) -> bool {
        self.key.credentials == self.home.credentials
            && batch.iter().any(|careful| careful.needs.way == Way::Watch)
    }

    /// Hands the replies to the client; how many commands have been answered.
    async fn take_replies(&mut self, captured: &Captured, batch: &[Careful]) -> Option<usize> {
        let (_, count) = self.transaction(batch);
        let replies = split(&captured.frame, count).unwrap_or_default();
        let (Some(exec), Some(queued)) = (replies.last(), replies.get(1..=batch.len())) else {
            self.refuse(&Lost::Unknown, batch.len());
            return Some(batch.len());
        };
        if let Some(replies) = elements(exec).filter(|replies| replies.len() >= batch.len()) {
            for reply in &replies[..batch.len()] {
                self.hand_over(reply, captured.hold.as_ref());
            }
            return Some(batch.len());
        }
        // One of them was not even queued. Alone, the others may be.
        let refusal = queued.first().filter(|reply| reply.starts_with(b"-"));
        match refusal.or((batch.len() == 1).then_some(exec)) {
            Some(refusal) => {
                self.hand_over(refusal, None);
                Some(1)
            }
            None => Box::pin(self.run_some(&batch[..1])).await,
        }
    }
}

fn unwatch() -> Vec<u8> {
    let mut frame = Vec::new();
    push_command(&["UNWATCH"], &mut frame);
    frame
}

/// Watches the keys, and says which of them Redis lacks. The connection is in the database `home`, and stays there.
async fn missing(conn: &Conn, home: u32, keys: &[&Name]) -> Result<Vec<Name>, Outcome> {
    let (mut frames, mut count, mut asked) = (Vec::new(), 0, Vec::with_capacity(keys.len()));
    let mut push = |words: &[&[u8]]| {
        push_command(words, &mut frames);
        count += 1;
        count - 1
    };
    for some in keys.chunk_by(|(a, _), (b, _)| a == b) {
        let db = some[0].0;
        if db != home {
            push(&[b"SELECT", db.to_string().as_bytes()]);
        }
        let names = some.iter().map(|(_, key)| &key[..]);
        let watch: Vec<&[u8]> = std::iter::once(&b"WATCH"[..]).chain(names).collect();
        push(&watch);
        asked.extend(some.iter().map(|name| (push(&[b"EXISTS", &name.1]), name)));
        if db != home {
            push(&[b"SELECT", home.to_string().as_bytes()]);
        }
    }
    let captured = match call_many(conn, &frames, count, false).await {
        Ok(captured) => captured,
        Err(lost) => return Err(Outcome::before_the_commands(lost)),
    };
    let replies = split(&captured.frame, count).unwrap_or_default();
    if replies.is_empty() {
        return Err(Outcome::Lost(Lost::Unknown));
    }
    if let Some(error) = replies.iter().find(|reply| reply.starts_with(b"-")) {
        let text = String::from_utf8_lossy(&error[1..]).trim_end().to_owned();
        return match call_many(conn, &unwatch(), 1, false).await {
            Ok(_) => Err(Outcome::Failed(text)),
            Err(lost) => Err(Outcome::before_the_commands(lost)),
        };
    }
    let missing = asked.into_iter().filter(|(at, _)| replies[*at] == b":0\r\n");
    Ok(missing.map(|(_, name)| (*name).clone()).collect())
}

/// Runs a transaction behind its WATCH.
pub(super) async fn run_watched(
    conn: &Conn,
    frames: &[u8],
    replies: usize,
    writes: bool,
) -> Outcome {
    match call_many(conn, frames, replies, writes).await {
        Ok(captured) if is_refused(&captured.frame, replies) => Outcome::Again,
        Ok(captured) => Outcome::Ran(captured),
        Err(lost) => Outcome::Lost(lost),
    }
}

/// True when EXEC, the last of `count` replies, says that a watched key was touched.
fn is_refused(frame: &[u8], count: usize) -> bool {
    let exec = split(frame, count).and_then(|replies| replies.last().copied());
    exec.is_some_and(|exec| exec == b"*-1\r\n" || exec == b"_\r\n")
}
