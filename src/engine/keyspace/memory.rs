use super::slots::PLACE_BYTES;
use super::{Entry, Keyspace, Slot};

impl Keyspace {
    /// Keeps the memory held near `max_bytes`. What changed after the changes numbered `committed`
    /// stays, because PostgreSQL does not have it yet; call it between batches, and let no load overtake
    /// a commit, so that a deletion that was dropped here is not seen as a key again. Cheap until enough has been added since the
    /// last sweep; then one pass over all keys. Returns the number of keys dropped.
    pub fn sweep(&mut self, max_bytes: usize, committed: u64) -> usize {
        self.committed = committed;
        if self.grown < max_bytes / 4 {
            return 0;
        }
        self.grown = 0;
        let mut ages: Vec<(u64, usize)> = Vec::new();
        let mut total = 0;
        for space in self.dbs.values() {
            let place = if space.slots.is_ordered() { PLACE_BYTES } else { 0 };
            for slot in &space.slots {
                let (used, weight) = match slot {
                    (key, Slot::Present(entry)) => (entry.used, key.len() + 128 + entry.weight()),
                    (key, Slot::Absent { used }) => (*used, key.len() + 64),
                };
                total += weight + place;
                ages.push((used, weight + place));
            }
        }
        // Down to three quarters, so that the next sweep is a quarter of the budget away.
        let Some(mut excess) = total.checked_sub(max_bytes * 3 / 4).filter(|excess| *excess > 0)
        else {
            return 0;
        };
        ages.sort_unstable();
        let mut cut = 0;
        for (used, weight) in ages {
            cut = used;
            excess = excess.saturating_sub(weight);
            if excess == 0 {
                break;
            }
        }
        self.drop_unused_since(cut, committed)
    }

    fn drop_unused_since(&mut self, cut: u64, committed: u64) -> usize {
        let mut dropped = 0;
        for space in self.dbs.values_mut() {
            let before = space.slots.len();
            space.slots.retain(|slot| match slot {
                Slot::Present(entry) => entry.used > cut || !evictable(entry, committed),
                Slot::Absent { used } => *used > cut,
            });
            if space.slots.len() < before {
                space.whole = false;
            }
            dropped += before - space.slots.len();
        }
        dropped
    }
}

fn evictable(entry: &Entry, committed: u64) -> bool {
    entry.touched <= committed
}
