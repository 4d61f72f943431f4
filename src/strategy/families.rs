use crate::config::Family;
use crate::engine::glob;

/// The `[[family]]` rules, first match wins. Without a match a key is mirrored.
#[derive(Clone, Debug, Default)]
pub struct Families {
    rules: Vec<Family>,
    /// Of so many, one keeps a key out of PostgreSQL; a match behind them is as good as none.
    deciding: usize,
}

impl Families {
    pub fn new(rules: Vec<Family>) -> Families {
        let deciding = rules.iter().rposition(|rule| !rule.mirror).map_or(0, |last| last + 1);
        Families { rules, deciding }
    }

    /// The first rule that matches `key`.
    pub fn of(&self, key: &[u8]) -> Option<&Family> {
        first(&self.rules, key)
    }

    /// False for keys that live in Redis alone.
    pub fn mirrors(&self, key: &[u8]) -> bool {
        first(&self.rules[..self.deciding], key).is_none_or(|rule| rule.mirror)
    }

    /// The shortest time that copies of a family may stay in Redis unread, in seconds.
    pub fn least_cache_ttl_s(&self) -> Option<u64> {
        self.rules.iter().filter(|rule| rule.mirror).filter_map(|rule| rule.cache_ttl_s).min()
    }

    /// True when no rule keeps anything out of PostgreSQL.
    pub fn mirrors_everything(&self) -> bool {
        self.deciding == 0
    }
}

fn first<'a>(rules: &'a [Family], key: &[u8]) -> Option<&'a Family> {
    rules.iter().find(|rule| glob::matches(rule.pattern.as_bytes(), key))
}
