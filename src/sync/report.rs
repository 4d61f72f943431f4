use std::collections::BTreeMap;

use hashbrown::HashSet;
use serde::Serialize;
use serde_json::{Value, json};

use super::Name;
use super::copy::Done;
use crate::strategy::Families;

/// Families that are told apart; what comes beyond is counted together.
const FAMILIES: usize = 500;
/// Differences whose keys are remembered, so that a name that `SCAN` repeats counts once.
const REMEMBERED: usize = 1 << 20;

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    MissingInRedis,
    MissingInPostgres,
    Different,
}

/// One key that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub db: u32,
    /// Bytes that are no ASCII are escaped.
    pub key: String,
    pub family: String,
    pub kind: Verdict,
    /// `type`, `value`, `order`, `score`, `ttl`, `entries`, `groups`, `consumers`, `pending`, `counters`.
    pub aspect: Option<&'static str>,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Keys seen on either side.
    pub redis: u64,
    pub postgres: u64,
    pub missing_in_redis: u64,
    pub missing_in_postgres: u64,
    pub different: u64,
    /// Copies that Redis does not hold: evicted, or dropped as a cache; nothing is wrong with them.
    pub not_in_redis: u64,
}

impl Counts {
    fn wrong(&self) -> u64 {
        self.missing_in_redis + self.missing_in_postgres + self.different
    }
}

/// What a check has come to.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    pub consistent: bool,
    pub status: &'static str,
    pub missing_in_redis: u64,
    pub missing_in_postgres: u64,
    pub different: u64,
    pub not_in_redis: u64,
    pub unsettled: u64,
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct Report {
    limit: usize,
    pub total: Counts,
    families: BTreeMap<String, Counts>,
    pub shown: Vec<Difference>,
    counted: HashSet<u64>,
    hasher: ahash::RandomState,
    /// What was done about it.
    pub done: Done,
    /// Keys that changed too often to be seen on both sides at one moment.
    pub unsettled: u64,
    /// Keys that live in Redis alone by a `mirror = false` rule.
    pub excluded: u64,
}

impl Report {
    /// With the first `limit` differences in full.
    pub fn new(limit: usize) -> Report {
        Report { limit, ..Report::default() }
    }

    fn count(&mut self, families: &Families, key: &[u8], add: impl Fn(&mut Counts)) {
        add(&mut self.total);
        let mut family = family_of(families, key);
        if !self.families.contains_key(&family) && self.families.len() >= FAMILIES {
            family = "(others)".into();
        }
        add(self.families.entry(family).or_default());
    }

    pub fn in_redis(&mut self, families: &Families, key: &[u8]) {
        self.count(families, key, |counts| counts.redis += 1);
    }

    pub fn in_postgres(&mut self, families: &Families, key: &[u8]) {
        self.count(families, key, |counts| counts.postgres += 1);
    }

    pub fn not_in_redis(&mut self, families: &Families, key: &[u8]) {
        self.count(families, key, |counts| counts.not_in_redis += 1);
    }

    /// A difference that is certain; true when it is a new one.
    pub fn wrong(
        &mut self,
        families: &Families,
        name: &Name,
        kind: Verdict,
        aspect: Option<&'static str>,
        detail: String,
    ) -> bool {
        let hash = self.hasher.hash_one(name);
        if self.counted.contains(&hash) {
            return false;
        }
        if self.counted.len() < REMEMBERED {
            self.counted.insert(hash);
        }
        let (db, key) = name;
        self.count(families, key, |counts| match kind {
            Verdict::MissingInRedis => counts.missing_in_redis += 1,
            Verdict::MissingInPostgres => counts.missing_in_postgres += 1,
            Verdict::Different => counts.different += 1,
        });
        if self.shown.len() < self.limit {
            let family = family_of(families, key);
            let key = key.escape_ascii().to_string();
            self.shown.push(Difference { db: *db, key, family, kind, aspect, detail });
        }
        true
    }

    pub fn consistent(&self) -> bool {
        self.total.wrong() == 0 && self.unsettled == 0
    }

    pub fn totals(&self) -> Totals {
        let total = &self.total;
        Totals {
            consistent: self.consistent(),
            status: match (total.wrong(), self.unsettled) {
                (0, 0) => "consistent",
                (0, _) => "unsettled",
                _ => "inconsistent",
            },
            missing_in_redis: total.missing_in_redis,
            missing_in_postgres: total.missing_in_postgres,
            different: total.different,
            not_in_redis: total.not_in_redis,
            unsettled: self.unsettled,
        }
    }

    /// So far, for those who watch.
    pub fn progress(&self) -> Value {
        let mut counts = json!(self.total);
        let Done { synced, deleted, errors, busy } = self.done;
        if synced + deleted + errors + busy > 0 {
            (counts["synced"], counts["deleted"]) = (json!(synced), json!(deleted));
            counts["errors"] = json!(errors + busy);
        }
        counts
    }

    /// As the interface answers it.
    pub fn answer(&self) -> Value {
        let total = &self.total;
        let families = self.families.iter().map(|(family, counts)| {
            let mut row = json!(counts);
            row["family"] = json!(family);
            row["consistent"] = json!(counts.wrong() == 0);
            row
        });
        let mut answer = json!(self.totals());
        answer["counts"] = json!({
            "redis": total.redis,
            "postgres": total.postgres,
            "difference": total.wrong(),
        });
        answer["not_mirrored"] = json!(self.excluded);
        answer["families"] = families.collect();
        answer["differences"] = json!(self.shown);
        answer["recommendations"] = json!(self.recommendations());
        answer
    }

    fn recommendations(&self) -> Vec<String> {
        let total = &self.total;
        let mut all = Vec::new();
        if total.missing_in_postgres + total.different > 0 {
            all.push(format!(
                "{} keys are missing or different in PostgreSQL: Redis answers clients, so `tandem check-consistency --repair postgres` brings PostgreSQL up to it",
                total.missing_in_postgres + total.different
            ));
        }
        if total.missing_in_redis > 0 {
            all.push(format!(
                "{} keys are in PostgreSQL alone: `tandem check-consistency --repair redis` restores them to Redis, `--repair postgres --delete` deletes them from PostgreSQL; look at them first",
                total.missing_in_redis
            ));
        }
        if self.unsettled > 0 {
            all.push(format!(
                "{} large keys changed while they were compared: check again when there is less traffic",
                self.unsettled
            ));
        }
        if total.not_in_redis > 0 && total.wrong() == 0 {
            all.push(format!(
                "{} keys are in PostgreSQL without a copy in Redis, as is usual where Redis evicts; `tandem warm` brings them back",
                total.not_in_redis
            ));
        }
        all
    }
}

/// The first rule that matches, or what the key begins with.
pub fn family_of(families: &Families, key: &[u8]) -> String {
    if let Some(rule) = families.of(key) {
        return rule.pattern.clone();
    }
    match key.iter().position(|byte| *byte == b':') {
        Some(end) => format!("{}:*", key[..end.min(64)].escape_ascii()),
        None => "(no prefix)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn keys_are_counted_once_and_by_family() {
        let families = Families::default();
        let mut report = Report::new(1);
        assert!(report.consistent());
        for key in ["user:1", "user:2", "user:1", "plain"] {
            let name = (0, Bytes::from(key));
            report.wrong(&families, &name, Verdict::Different, Some("value"), String::new());
        }
        let answer = report.answer();
        assert_eq!((&answer["consistent"], &answer["different"]), (&json!(false), &json!(3)));
        assert_eq!(answer["differences"].as_array().map(Vec::len), Some(1));
        let families = answer["families"].as_array().expect("families");
        let count = |family: &str| {
            let row = families.iter().find(|row| row["family"] == family).expect(family);
            row["different"].clone()
        };
        assert_eq!((count("user:*"), count("(no prefix)")), (json!(2), json!(1)));
    }
}
