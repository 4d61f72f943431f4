//! Large collections: a script or transaction that changes one member of a million must not copy the million.

use bytes::Bytes;
use indexmap::IndexMap;

use super::Undo;
use crate::engine::Db;
use crate::engine::keyspace::{Entry, Keyspace, Slot};
use crate::engine::value::{Members, ORDERED, Score, Value, ZSet};

/// Members of a sorted set up to which it is copied, which also copies their order by score. Of others a copy keeps the
/// order in which they came, so these are copied as long as that is shown.
const FEW_SCORES: usize = 4;

/// What was known of a member, as in the collection: `None`: nothing, `Some(None)`: that it is absent.
#[derive(Debug)]
pub(super) enum Before {
    Field(Option<Option<Bytes>>),
    Member(Option<Option<()>>),
    Score(Option<Option<f64>>),
}

/// True for a collection whose members are kept one by one.
pub(super) fn are_many(value: &Value) -> bool {
    match value {
        Value::Hash(hash) => hash.known.len() > ORDERED,
        Value::Set(set) => set.known.len() > ORDERED,
        Value::ZSet(zset) => zset.known.len() > FEW_SCORES,
        _ => false,
    }
}

impl Entry {
    /// Everything but the members.
    pub(super) fn hollow(&self) -> Entry {
        fn empty<V>(members: &Members<V>) -> Members<V> {
            Members { known: IndexMap::default(), len: members.len, complete: members.complete }
        }
        let value = match &self.value {
            Value::Hash(hash) => Value::Hash(empty(hash)),
            Value::Set(set) => Value::Set(empty(set)),
            Value::ZSet(ZSet { len, skiplist, .. }) => {
                Value::ZSet(ZSet { len: *len, skiplist: *skiplist, ..ZSet::default() })
            }
            other => other.clone(),
        };
        Entry { value, views: self.views.clone(), walk: self.walk.clone(), ..*self }
    }
}

impl Keyspace {
    /// Call before these members of a collection change, which is there.
    pub(in super::super) fn keep_members(&mut self, db: Db, key: &Bytes, members: &[&Bytes]) {
        if self.undo.open == 0 {
            return;
        }
        self.keep(db, key);
        if self.undo.kept.get(&(db, key.clone())) != Some(&false) {
            return;
        }
        let slot = self.dbs.get(&db).and_then(|space| space.slots.get(key));
        let Some(Slot::Present(entry)) = slot else { return };
        for &member in members {
            let before = match &entry.value {
                Value::Hash(hash) => Before::Field(hash.known.get(member).cloned()),
                Value::Set(set) => Before::Member(set.known.get(member).copied()),
                Value::ZSet(zset) => Before::Score(zset.known.get(member).copied()),
                _ => return,
            };
            self.undo.entries.push(Undo::Member(db, key.clone(), member.clone(), before));
        }
    }

    pub(super) fn take_back_member(&mut self, db: Db, key: &Bytes, member: Bytes, before: Before) {
        fn put<V>(members: &mut Members<V>, member: Bytes, before: Option<Option<V>>) {
            match before {
                Some(known) => drop(members.known.insert(member, known)),
                None => drop(members.known.swap_remove(&member)),
            }
        }
        let Some(Slot::Present(entry)) = self.space(db).slots.get_mut(key) else { return };
        match (&mut entry.value, before) {
            (Value::Hash(hash), Before::Field(before)) => put(hash, member, before),
            (Value::Set(set), Before::Member(before)) => put(set, member, before),
            (Value::ZSet(zset), Before::Score(before)) => {
                if let Some(ordered) = &mut zset.ordered {
                    if let Some(Some(score)) = zset.known.get(&member) {
                        ordered.remove(&(Score(*score), member.clone()));
                    }
                    if let Some(Some(score)) = before {
                        ordered.insert((Score(score), member.clone()));
                    }
                }
                match before {
                    Some(known) => drop(zset.known.insert(member, known)),
                    None => drop(zset.known.remove(&member)),
                }
            }
            _ => {}
        }
    }

    /// Puts a hollow entry back, with the members that are there.
    pub(super) fn refill(&mut self, db: Db, key: Bytes, mut hollow: Box<Entry>) {
        let slots = &mut self.space(db).slots;
        if let Some(Slot::Present(entry)) = slots.get_mut(&key) {
            match (&mut hollow.value, &mut entry.value) {
                (Value::Hash(to), Value::Hash(from)) => to.known = std::mem::take(&mut from.known),
                (Value::Set(to), Value::Set(from)) => to.known = std::mem::take(&mut from.known),
                (Value::ZSet(to), Value::ZSet(from)) => {
                    to.known = std::mem::take(&mut from.known);
                    to.ordered = from.ordered.take();
                }
                _ => {}
            }
        }
        slots.insert(key, Slot::Present(hollow));
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::engine::Expiry;

    fn name(n: usize) -> Bytes {
        n.to_string().into()
    }

    /// Everything of the three keys that a rollback has to bring back.
    fn shown(keyspace: &Keyspace) -> Vec<String> {
        let keys = ["h", "s", "z"].map(|key| {
            let Some(entry) = keyspace.peek(0, &Bytes::from(key)) else {
                return format!("{key} is absent");
            };
            let mut members: Vec<String> = match &entry.value {
                Value::Hash(hash) => hash.known.iter().map(|one| format!("{one:?}")).collect(),
                Value::Set(set) => set.known.iter().map(|one| format!("{one:?}")).collect(),
                Value::ZSet(zset) => {
                    let known = zset.known.iter().map(|one| format!("{one:?}"));
                    let ordered = zset.ordered.iter().flatten().map(|one| format!("{one:?}"));
                    known.chain(ordered).collect()
                }
                other => vec![format!("{other:?}")],
            };
            members.sort_unstable();
            // That it was looked at stays.
            format!("{:?} {members:?}", Entry { used: 0, looked_at_ms: 0, ..entry.hollow() })
        });
        let mut changes: Vec<String> = keyspace
            .changes
            .keys
            .iter()
            .map(|(id, change)| format!("{id} {:?} {} {}", change.key, change.len, change.version))
            .collect();
        changes.sort_unstable();
        keys.into_iter().chain(changes).collect()
    }

    fn act(keyspace: &mut Keyspace, rng: &mut SmallRng) {
        let [h, s, z] = ["h", "s", "z"].map(Bytes::from);
        let member = name(rng.random_range(0..2 * ORDERED));
        let score = f64::from(rng.random_range(0..50));
        let done = match rng.random_range(0..60) {
            0 => keyspace.remove(0, &z).map(drop),
            1 => keyspace.rename((0, &s), (0, &z)).map(drop),
            2 => keyspace.set_expiry(0, &h, Some(5_000_000_000_000)).map(drop),
            3 => keyspace.put(0, &h, Value::String(Some(member)), None),
            n if n % 5 == 0 => keyspace.hash_set(0, &h, &member, name(n)).map(drop),
            n if n % 5 == 1 => keyspace.hash_remove(0, &h, &member).map(drop),
            n if n % 5 == 2 => keyspace.set_add(0, &s, &[member]).map(drop),
            n if n % 5 == 3 => keyspace.set_remove(0, &s, &[member]).map(drop),
            n if n % 2 == 0 => keyspace.zset_set(0, &z, &[(member, score)]),
            _ => keyspace.zset_remove(0, &z, &[member]).map(drop),
        };
        // Of another type, as other commands have left it.
        drop(done);
    }

    #[test]
    fn what_was_changed_by_members_is_taken_back() {
        let seed = rand::random();
        println!("seed: {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        for _ in 0..40 {
            let mut keyspace = Keyspace::new(1, true, Expiry::ByLog, 0);
            for n in 0..ORDERED + 200 {
                let [h, s, z] = ["h", "s", "z"].map(Bytes::from);
                keyspace.hash_set(0, &h, &name(n), name(n)).expect("known");
                keyspace.set_add(0, &s, &[name(n)]).expect("known");
                keyspace.zset_set(0, &z, &[(name(n), n as f64)]).expect("known");
            }
            if rng.random() {
                drop(keyspace.take_delta());
            }
            let before = shown(&keyspace);
            let outer = keyspace.savepoint();
            (0..rng.random_range(0..30)).for_each(|_| act(&mut keyspace, &mut rng));
            let between = shown(&keyspace);
            let inner = keyspace.savepoint();
            (0..rng.random_range(0..100)).for_each(|_| act(&mut keyspace, &mut rng));
            keyspace.rollback(inner);
            assert!(shown(&keyspace) == between, "the inner one");
            keyspace.rollback(outer);
            assert!(shown(&keyspace) == before, "the outer one");
        }
    }
}
