//! Reads: they run on the lane, and only answers without content are looked into.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::content::may_miss;
use super::{Careful, split};
use crate::proxy::session::Session;
use crate::strategy::Recalled;
use crate::upstream::{Captured, Conn, Lost, Target};

impl Session {
    /// Runs reads on the lane. From the first answer on that may be due to a missing key, they run again together
    /// with a look at their keys, and once more when what is missing has been brought back. What misses keys then
    /// runs with them in place.
    pub(super) async fn read_with_care(&mut self, batch: Vec<Careful>) {
        let asked = match self.current_lane() {
            Ok(lane) => run(&lane, &batch).await,
            Err(lost) => Err(lost),
        };
        let captured = match asked {
            Ok(captured) => captured,
            Err(lost) => return self.refuse(&lost, batch.len()),
        };
        let replies = split(&captured.frame, batch.len()).unwrap_or_default();
        let misses = |(careful, reply): (&Careful, &&[u8])| {
            let name = careful.request.command.map_or("", |command| command.name);
            may_miss(name, careful.needs.keys.len(), reply)
        };
        let good = batch.iter().zip(&replies).position(misses).unwrap_or(replies.len());
        for reply in &replies[..good] {
            self.hand_over(reply, captured.hold.as_ref());
        }
        match self.read_whole(&batch[good..]).await {
            Ok(left) => self.run_under_watch(left).await,
            Err((lost, left)) => self.refuse(&lost, left),
        }
    }

    /// Runs them while no keys are being put in place.
    pub(super) async fn swap_databases(&mut self, batch: &[Careful]) {
        let shared = std::sync::Arc::clone(&self.worker.shared);
        let _alone = shared.presence.swaps.write().await;
        let swapped = match self.current_lane() {
            Ok(lane) => run(&lane, batch).await,
            Err(lost) => Err(lost),
        };
        match swapped {
            Ok(captured) => {
                for reply in split(&captured.frame, batch.len()).unwrap_or_default() {
                    self.hand_over(reply, captured.hold.as_ref());
                }
            }
            Err(lost) => self.refuse(&lost, batch.len()),
        }
    }

    /// Answers the first of the reads for which that can be done without `WATCH`; returns the others, of which there
    /// are so many when Redis is lost.
    async fn read_whole<'a>(
        &mut self,
        mut left: &'a [Careful],
    ) -> Result<&'a [Careful], (Lost, usize)> {
        for last in [false, true] {
            let seen = self.look(left).await.map_err(|lost| (lost, left.len()))?;
            let whole = seen.reads.iter().take_while(|read| read.whole).count();
            for read in &seen.reads[..whole] {
                self.hand_over(&read.reply, seen.hold.as_ref());
            }
            left = &left[whole..];
            // Which one of several keys is missing was not looked at.
            let apart = left.first().is_none_or(|first| first.needs.keys.len() > 1);
            let Some(first) = seen.reads.get(whole).filter(|_| !apart && !last) else { break };
            let missing = left.iter().zip(&seen.reads[whole..]);
            let missing =
                missing.filter(|(careful, read)| careful.needs.keys.len() == 1 && !read.whole);
            let keys: Vec<Bytes> =
                missing.map(|(careful, _)| careful.needs.keys[0].1.clone()).collect();
            let answers = self.worker.shared.presence.recall(self.key.db, keys).await;
            if answers.is_ok_and(|answers| answers.first() == Some(&Recalled::Absent)) {
                // So it was at the mark of the recall. The others were looked at before that, and an answer must
                // not be older than the one before it.
                self.hand_over(&first.reply, seen.hold.as_ref());
                left = &left[1..];
                break;
            }
        }
        Ok(left)
    }
}

/// The answers to all of them, one behind the other.
async fn run(lane: &Conn, batch: &[Careful]) -> Result<Captured, Lost> {
    let frames: Vec<u8> = batch.iter().flat_map(|c| c.request.frame.iter().copied()).collect();
    let writes = batch.iter().any(|c| c.request.command.is_none_or(|command| command.writes));
    call_many(lane, &frames, batch.len(), writes).await
}

/// Sends `count` commands and waits for all their replies, which come one behind the other.
pub(super) async fn call_many(
    conn: &Conn,
    frames: &[u8],
    count: usize,
    writes: bool,
) -> Result<Captured, Lost> {
    let (sender, receiver) = oneshot::channel();
    conn.submit(frames, count, writes, Target::Capture(sender));
    receiver.await.unwrap_or(Err(Lost::Unknown))
}
