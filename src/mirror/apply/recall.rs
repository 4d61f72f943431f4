//! What PostgreSQL has of keys that Redis lacks, at a place in the stream.

use bytes::Bytes;

use super::{Applier, ApplyError, now_ms};
use crate::engine::{Db, Keyspace, Need, Part, Stop};
use crate::mirror::recall::State;

/// A key may be asked for this often before it is taken to be absent: every load brings what was asked
/// for, so only a defect gets there.
const MAX_LOADS: usize = 8;

impl Applier {
    /// The mark of a recall has come by: everything before it is in the keyspace.
    pub(super) async fn answer_recall(&mut self, number: u64) -> Result<(), ApplyError> {
        let Some((names, answer)) = self.shared.recalls.take(number) else { return Ok(()) };
        let needs: Vec<Need> = names
            .iter()
            .map(|(db, key)| Need { db: *db, key: key.clone(), part: Part::All })
            .filter_map(|need| self.keyspace.lacks(&need))
            .collect();
        if !needs.is_empty() {
            self.load(&needs).await?;
        }
        let mut states = Vec::with_capacity(names.len());
        for (db, key) in &names {
            // Its state in the keyspace is not the one that Redis had.
            let state = match self.rereads.is_suspended(*db, key) {
                true => State::Unknown,
                false => self.state_of(*db, key).await?,
            };
            states.push(state);
        }
        // Whoever asked may have given up.
        let _ = answer.send(states);
        Ok(())
    }

    async fn state_of(&mut self, db: Db, key: &Bytes) -> Result<State, ApplyError> {
        for _ in 0..MAX_LOADS {
            match read(&mut self.keyspace, db, key) {
                Ok(Read::Over) => {
                    // Redis, which lacks it, will never say that it has expired.
                    if self.keyspace.remove(db, key).is_ok() {
                        return Ok(State::Absent);
                    }
                }
                Ok(Read::State(state)) => return Ok(state),
                Err(Stop::NotLoaded(needs)) => self.load(&needs).await?,
                Err(Stop::Error(_)) => break,
            }
        }
        Ok(State::Unknown)
    }

    /// A delete that may have been an eviction: what is over goes, the rest stays.
    pub(super) async fn run_doubtful(&mut self, db: Db, args: &[Bytes]) -> Result<(), ApplyError> {
        let Some(key) = args.get(1) else { return Ok(()) };
        let need = Need { db, key: key.clone(), part: Part::Meta };
        if let Some(need) = self.keyspace.lacks(&need) {
            self.load(&[need]).await?;
        }
        let over = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| at_ms <= now_ms());
        if let Ok(Some(at_ms)) = self.keyspace.expires_at(db, key)
            && over(at_ms)
        {
            return self.run_command(db, &[Bytes::from_static(b"DEL"), key.clone()]).await;
        }
        Ok(())
    }
}

enum Read {
    State(State),
    /// Its time is over.
    Over,
}

fn read(keyspace: &mut Keyspace, db: Db, key: &Bytes) -> Result<Read, Stop> {
    let Some(entry) = keyspace.whole_value(db, key)? else { return Ok(Read::State(State::Absent)) };
    Ok(match entry.expires_at_ms {
        Some(at_ms) if at_ms <= now_ms() => Read::Over,
        at_ms => Read::State(State::of(&entry.value, at_ms)),
    })
}
