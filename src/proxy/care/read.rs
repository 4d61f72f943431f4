use tokio::sync::oneshot;

use super::content::may_miss;
use super::{Careful, split};
use crate::proxy::session::Session;
use crate::upstream::{Captured, Conn, Lost, Target};

impl Session {
    /// Runs reads on the lane. From the first answer on that may be due to a missing key they are run
    /// again, with their keys in place.
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
        if good < batch.len() {
            self.run_under_watch(&batch[good..]).await;
        }
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
