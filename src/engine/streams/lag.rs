//! How far a group has come, counted in entries.

use crate::engine::value::{Group, Stream, StreamId};

/// What the counters of a stream tell; `first_id` is the id of the oldest entry, 0-0 without one.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub len: u64,
    pub added: u64,
    pub first_id: StreamId,
    pub last_id: StreamId,
    pub max_deleted_id: StreamId,
}

impl Counts {
    pub fn of(stream: &Stream, first_id: StreamId) -> Counts {
        Counts {
            len: stream.len(),
            added: stream.entries_added,
            first_id,
            last_id: stream.last_id,
            max_deleted_id: stream.max_deleted_id,
        }
    }

    /// True when an entry from `start` on may have been deleted.
    fn has_holes_from(&self, start: StreamId) -> bool {
        let none = self.len == 0 || self.max_deleted_id == StreamId::default();
        !none && self.first_id <= self.max_deleted_id && start <= self.max_deleted_id
    }

    /// How many entries had been added up to `id`; `None`: not to be known.
    fn added_up_to(&self, id: StreamId) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        if id == self.last_id || (self.len == 0 && id < self.last_id) {
            return Some(self.added);
        }
        if id > self.last_id {
            return None;
        }
        let whole =
            self.max_deleted_id == StreamId::default() || self.max_deleted_id < self.first_id;
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less if whole => Some(self.added.saturating_sub(self.len)),
            std::cmp::Ordering::Equal if whole => {
                Some(self.added.saturating_add(1).saturating_sub(self.len))
            }
            _ => None,
        }
    }

    /// A group's counter after it has read the entry `id` above its last one.
    pub fn after_reading(&self, entries_read: Option<u64>, id: StreamId) -> Option<u64> {
        match entries_read {
            Some(read) if !self.has_holes_from(id) => Some(read.wrapping_add(1)),
            other if self.added == 0 => other,
            _ => self.added_up_to(id),
        }
    }

    /// Entries that a group has yet to read; `None`: not to be known.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.added == 0 {
            return Some(0);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_holes_from(group.last_id) => read,
            _ => self.added_up_to(group.last_id)?,
        };
        Some(self.added.wrapping_sub(read) as i64)
    }
}
