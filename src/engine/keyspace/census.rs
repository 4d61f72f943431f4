//! How many keys each database has, whether they are in memory or not.

use hashbrown::HashMap;

use super::Keyspace;
use crate::engine::Db;

/// Keys of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub keys: i64,
    /// Those that expire.
    pub expires: i64,
}

pub(super) type Census = HashMap<Db, Count>;

impl Keyspace {
    /// Tells how many keys there are in the store. From here on they are counted.
    pub fn set_census(&mut self, counts: impl IntoIterator<Item = (Db, Count)>) {
        self.census = Some(counts.into_iter().collect());
    }

    /// The keys of a database, those past their time included until somebody looks; `None`: nobody
    /// has told their number.
    pub fn census(&self, db: Db) -> Option<Count> {
        self.census.as_ref().map(|census| census.get(&db).copied().unwrap_or_default())
    }

    /// All databases with keys.
    pub fn counted(&self) -> Vec<(Db, Count)> {
        let census = self.census.iter().flatten();
        let mut all: Vec<_> = census.map(|(db, count)| (*db, *count)).collect();
        all.retain(|(_, count)| count.keys > 0);
        all.sort_unstable_by_key(|(db, _)| *db);
        all
    }

    pub(super) fn count(&mut self, db: Db, change: i64, expires: bool) {
        if let Some(census) = &mut self.census {
            let count = census.entry(db).or_default();
            count.keys += change;
            count.expires += change * i64::from(expires);
        }
    }

    pub(super) fn count_expiry(&mut self, db: Db, before: bool, after: bool) {
        if let Some(census) = &mut self.census {
            census.entry(db).or_default().expires += i64::from(after) - i64::from(before);
        }
    }

    /// A database, or every one, is empty.
    pub(super) fn count_none(&mut self, db: Option<Db>) {
        match (&mut self.census, db) {
            (Some(census), Some(db)) => drop(census.remove(&db)),
            (Some(census), None) => census.clear(),
            (None, _) => {}
        }
    }

    pub(super) fn exchange_counts(&mut self, a: Db, b: Db) {
        if let Some(census) = &mut self.census {
            let (of_a, of_b) = (census.remove(&a), census.remove(&b));
            census.extend(of_a.map(|count| (b, count)));
            census.extend(of_b.map(|count| (a, count)));
        }
    }
}
