//! The keys of one database that are in memory, by name; and, from the first `SCAN` on, in the order in which
//! `SCAN` visits them, so that a page costs what it shows and not what there is.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;
use hashbrown::{HashMap, hash_map};

use super::Slot;
use crate::engine::scan::place;

/// Bytes that a key takes in the order of `SCAN`, roughly.
pub(super) const PLACE_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Slots {
    named: HashMap<Bytes, Slot, ahash::RandomState>,
    /// Every name in `named` with its position; `None` until somebody scans.
    ordered: Option<BTreeSet<(u64, Bytes)>>,
}

impl Slots {
    pub fn get(&self, key: &[u8]) -> Option<&Slot> {
        self.named.get(key)
    }

    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Slot> {
        self.named.get_mut(key)
    }

    pub fn contains_key(&self, key: &[u8]) -> bool {
        self.named.contains_key(key)
    }

    pub fn len(&self) -> usize {
        self.named.len()
    }

    pub fn iter(&self) -> hash_map::Iter<'_, Bytes, Slot> {
        self.named.iter()
    }

    pub fn insert(&mut self, key: Bytes, slot: Slot) {
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(place(&key));
        }
        self.named.insert(key, slot);
    }

    pub fn remove(&mut self, key: &Bytes) {
        if let Some(ordered) = &mut self.ordered {
            ordered.remove(&place(key));
        }
        self.named.remove(key);
    }

    /// Keeps the slots that `keeps` says; the order is made anew when it is next asked for.
    pub fn retain(&mut self, mut keeps: impl FnMut(&Slot) -> bool) {
        self.ordered = None;
        self.named.retain(|_, slot| keeps(slot));
    }

    pub fn clear(&mut self) {
        *self = Slots::default();
    }

    pub fn is_ordered(&self) -> bool {
        self.ordered.is_some()
    }

    /// Names and their slots from a position on, in order. The first call of all looks at every name.
    pub fn from(&mut self, position: u64) -> impl Iterator<Item = (u64, &Bytes, &Slot)> {
        let Slots { named, ordered } = self;
        let ordered = ordered.get_or_insert_with(|| named.keys().map(place).collect());
        let behind = ordered.range((Bound::Included((position, Bytes::new())), Bound::Unbounded));
        behind.filter_map(|(position, key)| Some((*position, key, named.get(key)?)))
    }
}

impl<'a> IntoIterator for &'a Slots {
    type Item = (&'a Bytes, &'a Slot);
    type IntoIter = hash_map::Iter<'a, Bytes, Slot>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn the_order_follows_what_comes_and_goes() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut slots = Slots::default();
        for round in 0..5000 {
            let key = Bytes::from(format!("key:{}", rng.random_range(0..300)));
            match rng.random_range(0..10) {
                0..6 => slots.insert(key, Slot::Absent { used: round }),
                6..9 => slots.remove(&key),
                _ if round % 97 == 0 => {
                    slots.retain(|slot| matches!(slot, Slot::Absent { used } if used % 3 > 0));
                }
                _ => {
                    let from = rng.random_range(0..=crate::engine::scan::LAST);
                    let mut expected: Vec<(u64, Bytes)> = slots.named.keys().map(place).collect();
                    expected.retain(|(position, _)| *position >= from);
                    expected.sort_unstable();
                    let found = slots.from(from).map(|(position, key, _)| (position, key.clone()));
                    assert_eq!(found.collect::<Vec<_>>(), expected, "seed {seed}, round {round}");
                }
            }
        }
    }
}
