//! Transactions of clients, and whatever else runs on a connection of the client's own.

use bytes::Bytes;

use super::read::call_many;
use super::watch::{CROWDED, MOST_TRIES, Outcome, run_watched};
use super::{Careful, Name, split};
use crate::commands::{self, Class, Command};
use crate::proxy::block::Block;
use crate::proxy::request::{End, Stop};
use crate::proxy::session::Session;
use crate::resp::{RequestLimits, RequestScanner, Scan, elements, push_command};
use crate::strategy::{Families, RecallError, Recalled};
use crate::upstream::{Captured, Key, Lost, Target};

/// The keys that the queued commands must not miss.
pub(super) fn keys(
    db: u32,
    mut data: &[u8],
    limits: &RequestLimits,
    families: &Families,
) -> Vec<Name> {
    let mut scanner = RequestScanner::default();
    let mut keys = Vec::new();
    while let Ok(Scan::Command(length)) = scanner.scan(data, limits, true) {
        let arguments = scanner.take_arguments();
        let words: Vec<&[u8]> =
            arguments.iter().map(|&(from, to)| &data[from as usize..to as usize]).collect();
        if let Some(command) = words.first().and_then(|name| commands::lookup(name)) {
            keys.extend(
                super::needs(db, command, &words, families).into_iter().flat_map(|n| n.keys),
            );
        }
        scanner.recycle(arguments);
        data = &data[length..];
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

impl Session {
    /// Runs whole transactions, each with all its keys in place.
    pub(super) async fn run_transactions(&mut self, batch: &[Careful]) {
        for (at, careful) in batch.iter().enumerate() {
            let Some(block) = &careful.block else { continue };
            if !self.run_block(careful, block).await {
                return self.start_afresh(&batch[at..]);
            }
        }
    }

    /// False: nothing of it was run, and it has to start afresh.
    async fn run_block(&mut self, careful: &Careful, block: &Block) -> bool {
        let count = careful.replies();
        let keys: Vec<&Name> = careful.needs.keys.iter().collect();
        // One more command keeps its effects together in the stream: a delete among them cannot be taken for
        // an eviction. Another user may not be allowed to publish.
        let signs = self.key.credentials == self.home.credentials;
        let (queued, end) = careful.request.frame.split_at(block.queued.length);
        let mut frames = queued.to_vec();
        if signs {
            let channel = self.worker.shared.gate.channel();
            push_command(&["PUBLISH", channel, ""], &mut frames);
        }
        frames.extend_from_slice(end);
        let mut outcome = Outcome::Again;
        let shared = std::sync::Arc::clone(&self.worker.shared);
        for _ in 0..MOST_TRIES {
            let _unswapped = shared.presence.swaps.read().await;
            let conn = match self.worker.pool.pin(&self.key) {
                Ok(conn) => conn,
                Err(lost) => {
                    self.refuse(&lost, count);
                    return true;
                }
            };
            outcome = match self.watch_in_place(&conn, &keys).await {
                Ok(()) => {
                    run_watched(&conn, &frames, count + usize::from(signs), block.end.writes).await
                }
                Err(outcome) => outcome,
            };
            self.finished(conn, &outcome);
            if !matches!(outcome, Outcome::Again) {
                break;
            }
        }
        match outcome {
            Outcome::Ran(captured) => self.hand_over_block(&captured, count, signs),
            Outcome::Again => self.hand_over_errors(CROWDED, count),
            Outcome::Failed(text) => self.hand_over_errors(&text, count),
            Outcome::Afresh => return false,
            Outcome::Lost(lost) => self.refuse(&lost, count),
        }
        true
    }

    fn hand_over_block(&mut self, captured: &Captured, count: usize, signs: bool) {
        let replies = split(&captured.frame, count + usize::from(signs)).unwrap_or_default();
        let (Some(queued), Some(exec)) = (replies.get(..count - 1), replies.last()) else {
            return self.refuse(&Lost::Unknown, count);
        };
        queued.iter().for_each(|reply| self.hand_over(reply, None));
        let exec = if signs { without_sign(exec) } else { None }.unwrap_or_else(|| exec.to_vec());
        self.hand_over(&exec, captured.hold.as_ref());
    }

    /// Sends a command to the client's own connection, once its keys are in place.
    pub(in crate::proxy) fn pin_with_care(
        &mut self,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) -> Option<Stop> {
        if self.worker.shared.presence.partial() {
            match self.placed.take() {
                None => {
                    let keys = self.keys_on_pin(command, frame, arguments);
                    if !keys.is_empty() {
                        return Some(Stop::Place(keys));
                    }
                }
                Some(Ok(())) => {}
                Some(Err(text)) => {
                    self.give_up_on_pin(&text);
                    return None;
                }
            }
        }
        self.send_pinned(command, frame, arguments);
        None
    }

    /// The keys that must be in place now. Those of queued commands are remembered for EXEC.
    fn keys_on_pin(
        &mut self,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) -> Vec<Name> {
        let Some(command) = command else { return Vec::new() };
        let words: Vec<&[u8]> =
            arguments.iter().map(|&(from, to)| &frame[from as usize..to as usize]).collect();
        let multi = self.pin.as_mut().and_then(|pin| pin.multi.as_mut());
        let queued = multi.as_ref().and_then(|multi| multi.selects.last());
        let db = queued.map_or(self.key.db, |(_, db)| *db);
        let needs = super::needs(db, command, &words, &self.worker.shared.families);
        let keys = needs.map(|needs| needs.keys).unwrap_or_default();
        match multi {
            Some(multi) if command.class == Class::Exec => std::mem::take(&mut multi.keys),
            Some(multi) => {
                multi.keys.extend(keys);
                Vec::new()
            }
            None => keys,
        }
    }

    /// Brings back what Redis lacks of these keys. They may be evicted again before they are used, but
    /// Redis has just seen them.
    pub(in crate::proxy) async fn put_in_place(&mut self, keys: Vec<Name>) -> Result<(), End> {
        let placed = self.bring_back(&keys).await;
        if placed.is_err() {
            // The error comes behind the replies that are still owed.
            self.drained().await?;
        }
        self.placed = Some(placed);
        Ok(())
    }

    pub(in crate::proxy) async fn bring_back(&mut self, keys: &[Name]) -> Result<(), String> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        for some in keys.chunk_by(|(a, _), (b, _)| a == b) {
            self.bring_back_to(some[0].0, some).await?;
        }
        Ok(())
    }

    /// Until Redis has them, or nobody has.
    async fn bring_back_to(&mut self, db: u32, names: &[Name]) -> Result<(), String> {
        let place = Key { db, ..self.key.clone() };
        let mut frames = Vec::new();
        names.iter().for_each(|(_, key)| push_command(&[&b"EXISTS"[..], key], &mut frames));
        for _ in 0..MOST_TRIES {
            let lane = self.worker.pool.lane(&place).map_err(|lost| lost.to_string())?;
            let there = match call_many(&lane, &frames, names.len(), false).await {
                Ok(there) => there,
                Err(Lost::Unknown) if self.takes_another_try() => continue,
                Err(lost) => return Err(self.not_run(lost).to_string()),
            };
            let replies = split(&there.frame, names.len()).unwrap_or_default();
            let missing = names.iter().zip(&replies).filter(|(_, there)| **there == b":0\r\n");
            let missing: Vec<Bytes> = missing.map(|((_, key), _)| key.clone()).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let answers = self.worker.shared.presence.recall(db, missing).await;
            let answers = match answers {
                Ok(answers) => answers,
                Err(RecallError::Over) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            if answers.iter().all(|answer| *answer == Recalled::Absent) {
                return Ok(());
            }
        }
        Err(CROWDED.to_owned())
    }

    /// The command is not run; a transaction that it was to end is dropped.
    pub(in crate::proxy) fn give_up_on_pin(&mut self, text: &str) {
        if let Some(pin) = self.pin.as_mut().filter(|pin| pin.multi.is_some()) {
            let mut discard = Vec::new();
            push_command(&["DISCARD"], &mut discard);
            (pin.multi, pin.watching) = (None, false);
            let (sender, _) = tokio::sync::oneshot::channel();
            pin.conn.submit(&discard, 1, false, Target::Capture(sender));
        }
        self.answer_error(text);
    }
}

/// The reply to EXEC without the reply to its last command.
fn without_sign(exec: &[u8]) -> Option<Vec<u8>> {
    let all = elements(exec)?;
    let (_, own) = all.split_last()?;
    let mut reply = format!("*{}\r\n", own.len()).into_bytes();
    own.iter().for_each(|element| reply.extend_from_slice(element));
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_is_cut_off() {
        let exec = b"*3\r\n:1\r\n*1\r\n$1\r\na\r\n:0\r\n";
        let rest = without_sign(exec).expect("replies");
        assert_eq!(rest, b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n");
        assert_eq!(without_sign(b"-EXECABORT x\r\n"), None);
    }

    #[test]
    fn the_keys_of_all_queued_commands_are_needed() {
        let limits = RequestLimits::from(&crate::config::Config::default().limits);
        let mut data = Vec::new();
        for line in ["MULTI", "LPUSH l a", "SET s 1", "GET g", "LTRIM l 0 1", "EXEC"] {
            push_command(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>(), &mut data);
        }
        let keys = keys(3, &data, &limits, &Families::new(Vec::new()));
        assert_eq!(keys, [(3, Bytes::from("g")), (3, Bytes::from("l"))]);
    }
}
