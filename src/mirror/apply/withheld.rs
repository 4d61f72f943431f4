//! Barriers that came by while keys waited to be read again from Redis.
//!
//! What was written to such a key before the barrier is in PostgreSQL only when the key has been
//! read: its client's acknowledgement waits for that commit.

use std::collections::VecDeque;

use super::plan::Passed;
use super::reread::Rereads;

struct Entry {
    barrier: Passed,
    /// Where the re-reads stood when the barrier came by.
    place: u64,
    /// Its batch is in PostgreSQL. Otherwise the barrier comes again with the log when PostgreSQL fails.
    landed: bool,
}

/// In the order of the stream.
#[derive(Default)]
pub struct Withheld(VecDeque<Entry>);

/// What a commit acknowledges.
#[derive(Default)]
pub struct Released {
    pub barriers: Vec<Passed>,
    /// So many of them are from earlier batches, which PostgreSQL has: the log does not bring them again.
    earlier: usize,
}

impl Withheld {
    /// Of the barriers up to the next commit, those with nothing before them that PostgreSQL will lack.
    pub fn pass(&mut self, barriers: Vec<Passed>, rereads: &Rereads) -> Released {
        if rereads.is_idle() && self.0.is_empty() {
            return Released { barriers, earlier: 0 };
        }
        let place = rereads.place();
        let entries = barriers.into_iter().map(|barrier| Entry { barrier, place, landed: false });
        self.0.extend(entries);
        let waits = self.0.iter().position(|entry| !rereads.behind(entry.place));
        let covered = waits.unwrap_or(self.0.len());
        let earlier = self.0.iter().take(covered).filter(|entry| entry.landed).count();
        Released { barriers: self.0.drain(..covered).map(|e| e.barrier).collect(), earlier }
    }

    /// The commit that followed [`Withheld::pass`] is in PostgreSQL.
    pub fn landed(&mut self) {
        self.0.iter_mut().for_each(|entry| entry.landed = true);
    }

    /// The commit failed, and the keys that PostgreSQL knows of are read again from the beginning.
    pub fn undo(&mut self, released: Released) {
        self.0.retain(|entry| entry.landed);
        let earlier = released.barriers.into_iter().take(released.earlier);
        for barrier in earlier.rev() {
            self.0.push_front(Entry { barrier, place: 0, landed: true });
        }
    }
}
