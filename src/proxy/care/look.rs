//! A read and whether its keys are there, seen at one moment: a transaction on the lane.

use super::read::call_many;
use super::{Careful, split};
use crate::proxy::session::Session;
use crate::resp::{elements, push_command};
use crate::upstream::{Captured, Hold, Lost};

/// What was seen, one element per read; empty when Redis did not take them together.
#[derive(Default)]
pub(super) struct Seen {
    pub reads: Vec<SeenRead>,
    pub hold: Option<Hold>,
}

pub(super) struct SeenRead {
    pub reply: Vec<u8>,
    /// All its keys were there.
    pub whole: bool,
}

impl Session {
    /// Runs the reads at one moment, together with a look at their keys.
    pub(super) async fn look(&mut self, batch: &[Careful]) -> Result<Seen, Lost> {
        if batch.is_empty() {
            return Ok(Seen::default());
        }
        let mut frames = Vec::new();
        push_command(&["MULTI"], &mut frames);
        for careful in batch {
            let keys = careful.needs.keys.iter().map(|(_, key)| &key[..]);
            let exists: Vec<&[u8]> = std::iter::once(&b"EXISTS"[..]).chain(keys).collect();
            push_command(&exists, &mut frames);
            frames.extend_from_slice(&careful.request.frame);
        }
        push_command(&["EXEC"], &mut frames);
        let count = 2 * batch.len() + 2;
        let lane = self.current_lane()?;
        let captured = call_many(&lane, &frames, count, false).await?;
        Ok(seen(batch, captured))
    }
}

fn seen(batch: &[Careful], captured: Captured) -> Seen {
    let replies = split(&captured.frame, 2 * batch.len() + 2);
    let replies = replies.and_then(|replies| elements(replies.last()?)).unwrap_or_default();
    let reads = batch.iter().zip(replies.chunks_exact(2)).map(|(careful, pair)| SeenRead {
        reply: pair[1].to_vec(),
        whole: pair[0] == format!(":{}\r\n", careful.needs.keys.len()).as_bytes(),
    });
    Seen { reads: reads.collect(), hold: captured.hold }
}
