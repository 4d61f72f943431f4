//! Walks over the members of a large collection (`HSCAN`, `SSCAN`, `ZSCAN`).
//!
//! The second page of a walk puts the members in order once, and the pages behind it look there, and so do walks that
//! begin later. Members that come later are not in that order, and need not be shown to a walk that had begun; one that
//! begins when something has changed since has the order made anew. So a page costs what it shows, and no change costs
//! anything.

use bytes::Bytes;

use super::{Db, Keyspace, Slot};
use crate::engine::scan::{self, Scan};
use crate::engine::value::Value;

/// The order of a collection's members; it goes with the last page of a walk.
#[derive(Debug, Default)]
pub(super) struct Walk {
    places: Vec<(u64, Bytes)>,
    /// Something has changed since.
    pub stale: bool,
}

/// A copy of an entry has none.
impl Clone for Walk {
    fn clone(&self) -> Walk {
        Walk::default()
    }
}

impl Walk {
    pub fn weight(&self) -> usize {
        self.places.len() * size_of::<(u64, Bytes)>()
    }
}

impl Keyspace {
    /// A page of the members of a collection that is complete, from a cursor on, or everything when `at_once`, as
    /// `find` knows them; and the next cursor, 0 at the end.
    pub fn page<T>(
        &mut self,
        (db, key): (Db, &Bytes),
        scan: &Scan<'_>,
        (cursor, at_once): (u64, bool),
        find: impl Fn(&Value, &Bytes) -> Option<T>,
    ) -> (u64, Vec<(Bytes, T)>) {
        let slot = self.dbs.get_mut(&db).and_then(|space| space.slots.get_mut(key));
        let Some(Slot::Present(entry)) = slot else { return (0, Vec::new()) };
        let (value, walk) = (&entry.value, &mut entry.walk);
        let found = |name: &Bytes| Some((name.clone(), find(value, name)?));
        if at_once {
            return (0, names(value).filter_map(found).collect());
        }
        let from = scan::from(cursor);
        if from == 0 {
            if walk.stale {
                *walk = Walk::default();
            }
            if walk.places.is_empty() {
                let (next, page) = first(names(value), scan.count);
                return (next, page.into_iter().filter_map(found).collect());
            }
        }
        if walk.places.is_empty() {
            walk.places = names(value).map(scan::place).collect();
            walk.places.sort_unstable();
            walk.stale = false;
            self.grown += walk.weight();
        }
        let begin = walk.places.partition_point(|(position, _)| *position < from);
        let ahead = walk.places[begin..].iter();
        let ahead = ahead.filter_map(|(position, name)| Some((*position, found(name)?)));
        let (next, page) = scan.next_page(ahead);
        if next == 0 {
            *walk = Walk::default();
        }
        (next, page)
    }
}

/// The first page of all, which needs no order.
fn first<'a>(members: impl Iterator<Item = &'a Bytes>, count: usize) -> (u64, Vec<&'a Bytes>) {
    let mut all: Vec<(u64, &Bytes)> =
        members.map(|member| (scan::position(member), member)).collect();
    let mut next = 0;
    if all.len() > count {
        let (_, (last, _), _) =
            all.select_nth_unstable_by_key(count.saturating_sub(1), |(position, _)| *position);
        let (last, before) = (*last, all.len());
        // Those with one hash stay together, as a cursor cannot stand between them.
        all.retain(|(position, _)| *position <= last);
        next = if all.len() < before { last + 1 } else { 0 };
    }
    (next, all.into_iter().map(|(_, member)| member).collect())
}

/// In the order in which Redis shows those of a small collection.
fn names(value: &Value) -> Box<dyn Iterator<Item = &Bytes> + '_> {
    match value {
        Value::Hash(hash) => Box::new(hash.known.keys()),
        Value::Set(set) => Box::new(set.known.keys()),
        Value::ZSet(zset) => Box::new(zset.ordered.iter().flatten().map(|(_, member)| member)),
        Value::String(_) | Value::List(_) | Value::Stream(_) | Value::Opaque(_) => {
            Box::new(std::iter::empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Expiry;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeSet;

    /// Several walks at a time, each from its own moment on, while members come and go.
    #[test]
    fn what_stays_is_returned_whatever_comes_and_goes() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut ks = Keyspace::new(1, true, Expiry::ByClock, 1);
        let key = Bytes::from_static(b"set");
        let name = |n: u32| Bytes::from(format!("member:{n}"));
        let mut there: BTreeSet<u32> = (0..1000).collect();
        for n in &there {
            ks.set_add(0, &key, &[name(*n)]).expect("in memory");
        }
        let args = [Bytes::from_static(b"COUNT"), Bytes::from_static(b"7")];
        let scan = Scan::parse(&args, false).expect("options");
        // Of each walk: the cursor, what it has to see and what it has seen.
        let mut walks = [const { None }; 3];
        let (mut ended, mut pages) = (0, 0);
        while ended < 12 {
            for _ in 0..rng.random_range(0..4) {
                let n = rng.random_range(0..1200);
                if there.remove(&n) {
                    ks.set_remove(0, &key, &[name(n)]).expect("in memory");
                    for (_, due, _) in walks.iter_mut().flatten() {
                        let due: &mut BTreeSet<u32> = due;
                        due.remove(&n);
                    }
                } else {
                    there.insert(n);
                    ks.set_add(0, &key, &[name(n)]).expect("in memory");
                }
            }
            let walk = &mut walks[rng.random_range(0..3)];
            let (cursor, due, seen) =
                walk.get_or_insert_with(|| (0, there.clone(), BTreeSet::new()));
            let find = |value: &Value, member: &Bytes| match value {
                Value::Set(set) => set.get(member)?.copied(),
                _ => None,
            };
            let (next, page) = ks.page((0, &key), &scan, (*cursor, false), find);
            pages += 1;
            seen.extend(page.into_iter().map(|(member, ())| member));
            *cursor = next;
            if next == 0 {
                let missed: Vec<&u32> = due.iter().filter(|n| !seen.contains(&name(**n))).collect();
                assert!(missed.is_empty(), "seed {seed}: {missed:?}");
                *walk = None;
                ended += 1;
            }
        }
        assert!(pages > 1000, "{pages} pages");
    }
}
