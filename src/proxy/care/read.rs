//! Reads: they run on the lane, and only answers without content are looked into.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::content::{may_miss, tells_absence};
use super::{Careful, split};
use crate::proxy::asked::TRIES;
use crate::proxy::session::Session;
use crate::resp::{Reply, encode};
use crate::strategy::{RecallError, Recalled};
use crate::upstream::{Captured, Conn, Lost, Target};

impl Session {
    /// Runs reads on the lane. From the first answer on that may be due to a missing key, they run once more when
    /// what is known to be missing has been brought back. What is still without content runs together
    /// with a look at its keys ([`Session::read_whole`]), and what misses keys then runs with them in place.
    pub(super) async fn read_with_care(&mut self, batch: Vec<Careful>) {
        let mut left = &batch[..];
        for last in [false, true] {
            let (captured, whole) = match self.ask_reads(left).await {
                Ok(answered) => answered,
                Err(lost) => return self.refuse(&lost, left.len()),
            };
            let replies = split(&captured.frame, left.len()).unwrap_or_default();
            if whole {
                replies.iter().for_each(|reply| self.hand_over(reply, captured.hold.as_ref()));
                return;
            }
            let misses = |(careful, reply): (&Careful, &&[u8])| {
                may_miss(careful.name(), careful.needs.keys.len(), reply)
            };
            let good = left.iter().zip(&replies).position(misses).unwrap_or(replies.len());
            for reply in &replies[..good] {
                self.hand_over(reply, captured.hold.as_ref());
            }
            left = &left[good..];
            if last || left.is_empty() {
                break;
            }
            match self.bring_back_missing(left, &replies[good..]).await {
                Ok(Some(answered)) => left = &left[answered..],
                Err(RecallError::Over) => return self.start_afresh(left),
                Ok(None) | Err(_) => break,
            }
            if left.is_empty() {
                return;
            }
        }
        match self.read_whole(left).await {
            Ok(left) => self.run_under_watch(left).await,
            Err((Lost::Unknown, left)) => self.start_afresh(left),
            Err((lost, left)) => self.refuse(&lost, left.len()),
        }
    }

    /// The answers to reads; where they are lost with a connection they are asked again. True with them: who gave them
    /// lacked nothing, as nobody has to look any more.
    async fn ask_reads(&mut self, reads: &[Careful]) -> Result<(Captured, bool), Lost> {
        let mut tries = 0;
        loop {
            let whole = !self.worker.shared.presence.partial();
            match run(&*self.current_lane()?, reads).await {
                Err(Lost::Unknown) if tries < TRIES => tries += 1,
                answered => return Ok((answered?, whole)),
            }
        }
    }

    /// Has the keys brought back that are missing by these replies, if the first one's is; how many of the reads are
    /// answered by that.
    async fn bring_back_missing(
        &mut self,
        left: &[Careful],
        replies: &[&[u8]],
    ) -> Result<Option<usize>, RecallError> {
        let missing = |(careful, reply): (&Careful, &&[u8])| match &careful.needs.keys[..] {
            [(_, key)] if tells_absence(careful.name(), reply) => Some(key.clone()),
            _ => None,
        };
        let missing: Vec<Option<Bytes>> = left.iter().zip(replies).map(missing).collect();
        if missing.first().is_none_or(Option::is_none) {
            return Ok(None);
        }
        let at_once = missing.iter().take_while(|key| key.is_some()).count();
        let keys = missing.into_iter().flatten().collect();
        let recalled = self.worker.shared.presence.recall(self.key.db, keys).await?;
        let mut answered = 0;
        for (careful, (reply, recalled)) in
            left.iter().zip(replies.iter().zip(recalled)).take(at_once)
        {
            match recalled {
                Recalled::Absent => self.hand_over(reply, None),
                Recalled::Back(content) if careful.name() == "get" => {
                    let mut reply = Vec::with_capacity(content.len() + 16);
                    encode(&Reply::Bulk(content), self.key.protocol, &mut reply);
                    self.hand_over(&reply, None);
                }
                _ => break,
            }
            answered += 1;
        }
        Ok(Some(answered))
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

    /// Answers the first of the reads for which that can be done without `WATCH`; returns the others, also when Redis
    /// is lost.
    async fn read_whole<'a>(
        &mut self,
        mut left: &'a [Careful],
    ) -> Result<&'a [Careful], (Lost, &'a [Careful])> {
        for last in [false, true] {
            let seen = self.look(left).await.map_err(|lost| (lost, left))?;
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
            if answers == Err(RecallError::Over) {
                return Err((Lost::Unknown, left));
            }
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
