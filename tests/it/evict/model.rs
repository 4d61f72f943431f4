//! What one client has been told about its keys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use support::compare::{Entry, Value as Stored};

/// What a key holds. Long texts are kept as what they are made from.
#[derive(Clone, Debug)]
pub enum Data {
    /// The text that follows from these two numbers.
    Item(u64, u64),
    Number(i64),
    /// In quarters, which floating point numbers hold exactly.
    Quarters(i64),
    Hash(BTreeMap<String, String>),
    List(VecDeque<String>),
    Set(BTreeSet<String>),
    ZSet(BTreeMap<String, i64>),
}

#[derive(Clone, Debug)]
pub struct Key {
    pub data: Data,
    /// Unix time in ms.
    pub expires_at: Option<i64>,
}

/// Whether a key is there at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    There,
    Gone,
    /// It ends just now.
    Unsure,
}

/// Servers and clients share a clock, but look at it at different times, and Redis keeps what it saw for a while.
const MARGIN_MS: i64 = 50;

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub keys: BTreeMap<String, Key>,
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Between 1 and 16 kB that belong to these numbers alone.
pub fn text(item: u64, version: u64) -> String {
    let part = format!("{item:08}.{version:06}-");
    part.repeat(64 + (item * 37 % 960) as usize)
}

pub fn quarters(number: i64) -> String {
    (number as f64 / 4.0).to_string()
}

impl Model {
    pub fn presence(&self, key: &str) -> Presence {
        let now = now_ms();
        match self.keys.get(key).map(|key| key.expires_at) {
            None => Presence::Gone,
            Some(Some(at)) if at + MARGIN_MS < now => Presence::Gone,
            Some(Some(at)) if at - MARGIN_MS <= now => Presence::Unsure,
            Some(_) => Presence::There,
        }
    }

    /// The key's data, made by `new` when there is none.
    pub fn data(&mut self, key: &str, new: impl FnOnce() -> Data) -> &mut Data {
        let new = || Key { data: new(), expires_at: None };
        &mut self.keys.entry(key.to_owned()).or_insert_with(new).data
    }

    pub fn hash(&mut self, key: &str) -> &mut BTreeMap<String, String> {
        match self.data(key, || Data::Hash(BTreeMap::new())) {
            Data::Hash(fields) => fields,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub fn list(&mut self, key: &str) -> &mut VecDeque<String> {
        match self.data(key, || Data::List(VecDeque::new())) {
            Data::List(items) => items,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub fn set(&mut self, key: &str) -> &mut BTreeSet<String> {
        match self.data(key, || Data::Set(BTreeSet::new())) {
            Data::Set(members) => members,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub fn zset(&mut self, key: &str) -> &mut BTreeMap<String, i64> {
        match self.data(key, || Data::ZSet(BTreeMap::new())) {
            Data::ZSet(members) => members,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub fn number(&mut self, key: &str) -> &mut i64 {
        match self.data(key, || Data::Number(0)) {
            Data::Number(number) | Data::Quarters(number) => number,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub fn expire(&mut self, key: &str, at: Option<i64>) {
        if let Some(key) = self.keys.get_mut(key) {
            key.expires_at = at;
        }
    }

    /// A collection without elements is no key.
    pub fn tidy(&mut self, key: &str) {
        let empty = self.keys.get(key).is_some_and(|key| match &key.data {
            Data::Hash(fields) => fields.is_empty(),
            Data::List(items) => items.is_empty(),
            Data::Set(members) => members.is_empty(),
            Data::ZSet(members) => members.is_empty(),
            Data::Item(..) | Data::Number(_) | Data::Quarters(_) => false,
        });
        if empty {
            self.keys.remove(key);
        }
    }
}

impl Key {
    /// True when PostgreSQL holds just this.
    pub fn is(&self, entry: &Entry) -> bool {
        let bytes = |text: &String| text.as_bytes().to_vec();
        let expected = match &self.data {
            Data::Item(item, version) => Stored::String(text(*item, *version).into_bytes()),
            Data::Number(number) => Stored::String(number.to_string().into_bytes()),
            Data::Quarters(number) => Stored::String(quarters(*number).into_bytes()),
            Data::Hash(fields) => {
                Stored::Hash(fields.iter().map(|(f, v)| (bytes(f), bytes(v))).collect())
            }
            Data::List(items) => Stored::List(items.iter().map(bytes).collect()),
            Data::Set(members) => Stored::Set(members.iter().map(bytes).collect()),
            Data::ZSet(members) => Stored::ZSet(
                members.iter().map(|(m, score)| (bytes(m), (*score as f64).to_bits())).collect(),
            ),
        };
        entry.value == expected && entry.expires_at_ms == self.expires_at
    }
}
