use crate::config::Family;
use crate::engine::glob;

/// The `[[family]]` rules, first match wins. Without a match a key is mirrored.
#[derive(Clone, Debug, Default)]
pub struct Families {
    rules: Vec<Family>,
}

impl Families {
    pub fn new(rules: Vec<Family>) -> Families {
        Families { rules }
    }

    /// The first rule that matches `key`.
    pub fn of(&self, key: &[u8]) -> Option<&Family> {
        self.rules.iter().find(|rule| glob::matches(rule.pattern.as_bytes(), key))
    }

    /// False for keys that live in Redis alone.
    pub fn mirrors(&self, key: &[u8]) -> bool {
        self.of(key).is_none_or(|rule| rule.mirror)
    }

    /// True when no rule keeps anything out of PostgreSQL.
    pub fn mirrors_everything(&self) -> bool {
        self.rules.iter().all(|rule| rule.mirror)
    }
}
