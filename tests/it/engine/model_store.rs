use std::collections::BTreeMap;

use bytes::Bytes;
use tandem::engine::delta::{Changes, Delta, GroupRow, KeyChange, KeyId, Rows, Step};
use tandem::engine::value::{
    Consumer, EntryFields, Group, Kind, List, Members, Pending, Score, Stream, StreamId, Value,
    ZSet,
};
use tandem::engine::{Found, Keyspace, Loaded, Need, Part, View, Window};

/// What PostgreSQL would hold: rows by key id, changed by nothing but deltas.
#[derive(Debug, Default)]
pub struct ModelStore {
    keys: BTreeMap<KeyId, KeyRow>,
    names: BTreeMap<(u32, Bytes), KeyId>,
}

#[derive(Debug)]
struct KeyRow {
    db: u32,
    key: Bytes,
    expires_at_ms: Option<i64>,
    len: u64,
    version: i64,
    data: Data,
}

/// The rows of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    String(Option<Bytes>),
    List(BTreeMap<i64, Bytes>),
    Set(BTreeMap<Bytes, ()>),
    ZSet(BTreeMap<Bytes, u64>),
    Hash(BTreeMap<Bytes, Bytes>),
    Stream(Box<StreamData>),
    Opaque(Option<Bytes>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamData {
    ids: [StreamId; 2],
    entries_added: u64,
    entries: BTreeMap<StreamId, EntryFields>,
    groups: BTreeMap<Bytes, GroupRow>,
    consumers: BTreeMap<(Bytes, Bytes), Consumer>,
    pending: BTreeMap<(Bytes, StreamId), Pending>,
}

impl Data {
    fn empty(kind: Kind) -> Data {
        match kind {
            Kind::String => Data::String(None),
            Kind::List => Data::List(BTreeMap::new()),
            Kind::Set => Data::Set(BTreeMap::new()),
            Kind::ZSet => Data::ZSet(BTreeMap::new()),
            Kind::Hash => Data::Hash(BTreeMap::new()),
            Kind::Stream => Data::Stream(Box::default()),
            Kind::Opaque => Data::Opaque(None),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Data::String(_) => Kind::String,
            Data::List(_) => Kind::List,
            Data::Set(_) => Kind::Set,
            Data::ZSet(_) => Kind::ZSet,
            Data::Hash(_) => Kind::Hash,
            Data::Stream(_) => Kind::Stream,
            Data::Opaque(_) => Kind::Opaque,
        }
    }

    fn len(&self) -> u64 {
        let len = match self {
            Data::String(_) | Data::Opaque(_) => 1,
            Data::List(rows) => rows.len(),
            Data::Set(rows) => rows.len(),
            Data::ZSet(rows) => rows.len(),
            Data::Hash(rows) => rows.len(),
            Data::Stream(stream) => stream.entries.len(),
        };
        len as u64
    }

    fn apply(&mut self, rows: Rows) {
        match (self, rows) {
            (Data::String(data), Rows::String(row)) | (Data::Opaque(data), Rows::Opaque(row)) => {
                *data = row.or(data.take());
            }
            (Data::List(data), Rows::List(rows)) => merge(data, rows),
            (Data::Set(data), Rows::Set(rows)) => merge(data, rows),
            (Data::ZSet(data), Rows::ZSet(rows)) => {
                merge(data, rows.into_iter().map(|(m, score)| (m, score.map(f64::to_bits))));
            }
            (Data::Hash(data), Rows::Hash(rows)) => merge(data, rows),
            (Data::Stream(data), Rows::Stream(rows)) => {
                for name in &rows.reset_groups {
                    data.forget(name);
                }
                for (name, group) in rows.groups {
                    if group.is_none() {
                        data.forget(&name);
                    }
                    merge(&mut data.groups, [(name, group)]);
                }
                data.ids = [rows.last_id, rows.max_deleted_id];
                data.entries_added = rows.entries_added;
                merge(&mut data.entries, rows.entries);
                merge(&mut data.consumers, rows.consumers);
                merge(&mut data.pending, rows.pending);
            }
            (data, rows) => panic!("rows {rows:?} for {data:?}"),
        }
    }

    /// What is seen of the value in a window.
    fn view(&self, window: &Window) -> Option<View> {
        Some(match (self, window) {
            (Data::ZSet(rows), Window::ScoreCount { min, max }) => {
                let inside = ranked(rows);
                let inside = inside.iter().filter(|(score, _)| (min..=max).contains(&score));
                View::Number(inside.count() as u64)
            }
            (Data::ZSet(rows), Window::Before { score, member }) => {
                let before = ranked(rows).into_iter().filter(|(s, m)| (s, m) < (score, member));
                View::Number(before.count() as u64)
            }
            (Data::ZSet(rows), Window::Scores { min, max, skip, count, reverse }) => {
                let mut inside = ranked(rows);
                inside.retain(|(score, _)| (min..=max).contains(&score));
                let shown = shown(inside, *skip, *count, *reverse);
                View::Members(shown.into_iter().map(|(score, m)| (m, score.0)).collect())
            }
            (Data::ZSet(rows), Window::Places { skip, count, reverse }) => {
                let shown = shown(ranked(rows), *skip, *count, *reverse);
                View::Members(shown.into_iter().map(|(score, m)| (m, score.0)).collect())
            }
            (Data::List(rows), Window::Places { skip, count, reverse }) => {
                View::Elements(shown(rows.values().cloned().collect(), *skip, *count, *reverse))
            }
            (Data::Stream(rows), Window::Entries { start, end, count, reverse }) => {
                let inside = rows.entries.iter().filter(|(id, _)| (start..=end).contains(id));
                let inside = inside.map(|(id, fields)| (*id, fields.clone())).collect();
                View::Entries(shown(inside, 0, *count, *reverse))
            }
            _ => return None,
        })
    }

    /// The part of the value that was asked for.
    fn load(&self, part: &Part) -> Value {
        let all = *part == Part::All;
        let wanted = |member: &Bytes| match part {
            Part::All => true,
            Part::Members(members) => members.contains(member),
            _ => false,
        };
        let absent = |there: &dyn Fn(&Bytes) -> bool| -> Vec<Bytes> {
            let Part::Members(members) = part else { return Vec::new() };
            members.iter().filter(|member| !there(member)).cloned().collect()
        };
        match self {
            Data::String(content) => Value::String(content.clone().filter(|_| all)),
            Data::Opaque(content) => Value::Opaque(content.clone().filter(|_| all)),
            Data::Set(rows) => {
                let mut set = Members::unloaded(self.len());
                let known = rows.keys().filter(|m| wanted(m)).map(|m| (m.clone(), Some(())));
                set.known.extend(known);
                set.known.extend(absent(&|m| rows.contains_key(m)).into_iter().map(|m| (m, None)));
                set.complete |= all;
                Value::Set(set)
            }
            Data::Hash(rows) => {
                let mut hash = Members::unloaded(self.len());
                let known = rows.iter().filter(|(f, _)| wanted(f));
                hash.known.extend(known.map(|(f, v)| (f.clone(), Some(v.clone()))));
                hash.known.extend(absent(&|f| rows.contains_key(f)).into_iter().map(|f| (f, None)));
                hash.complete |= all;
                Value::Hash(hash)
            }
            Data::ZSet(rows) => {
                let mut zset = ZSet::unloaded(self.len());
                let known = rows.iter().filter(|(m, _)| wanted(m));
                zset.known.extend(known.map(|(m, s)| (m.clone(), Some(f64::from_bits(*s)))));
                zset.known.extend(absent(&|m| rows.contains_key(m)).into_iter().map(|m| (m, None)));
                let ordered = rows.iter().map(|(m, s)| (Score(f64::from_bits(*s)), m.clone()));
                zset.ordered = all.then(|| ordered.collect());
                Value::ZSet(zset)
            }
            Data::List(rows) => Value::List(list(rows, part)),
            Data::Stream(rows) => Value::Stream(Box::new(rows.load(part))),
        }
    }
}

impl StreamData {
    fn forget(&mut self, name: &Bytes) {
        self.consumers.retain(|(group, _), _| group != name);
        self.pending.retain(|(group, _), _| group != name);
    }

    fn load(&self, part: &Part) -> Stream {
        let mut groups: BTreeMap<Bytes, Group> = BTreeMap::new();
        for (name, row) in &self.groups {
            let group = Group {
                last_id: row.last_id,
                entries_read: row.entries_read,
                consumers: of_group(&self.consumers, name),
                pending: of_group(&self.pending, name),
            };
            groups.insert(name.clone(), group);
        }
        let entries = self.entries.iter().map(|(id, fields)| (*id, fields.clone()));
        let front: BTreeMap<StreamId, EntryFields> = match part {
            Part::All => entries.collect(),
            Part::Oldest { after, count } => {
                entries.filter(|(id, _)| id > after).take(*count as usize).collect()
            }
            _ => BTreeMap::new(),
        };
        Stream {
            gap: (self.entries.len() - front.len()) as u64,
            front,
            last_id: self.ids[0],
            max_deleted_id: self.ids[1],
            entries_added: self.entries_added,
            groups,
            ..Stream::default()
        }
    }
}

/// The members of a sorted set in Redis's order.
fn ranked(rows: &BTreeMap<Bytes, u64>) -> Vec<(Score, Bytes)> {
    let mut ranked: Vec<_> =
        rows.iter().map(|(m, score)| (Score(f64::from_bits(*score)), m.clone())).collect();
    ranked.sort();
    ranked
}

fn shown<T>(mut all: Vec<T>, skip: u64, count: u64, reverse: bool) -> Vec<T> {
    if reverse {
        all.reverse();
    }
    let part = |n: u64| usize::try_from(n).expect("fits");
    all.into_iter().skip(part(skip)).take(part(count)).collect()
}

fn of_group<K: Clone + Ord, V: Clone>(
    rows: &BTreeMap<(Bytes, K), V>,
    name: &Bytes,
) -> BTreeMap<K, V> {
    let of_group = rows.iter().filter(|((group, _), _)| group == name);
    of_group.map(|((_, key), row)| (key.clone(), row.clone())).collect()
}

fn list(rows: &BTreeMap<i64, Bytes>, part: &Part) -> List {
    let elements = || rows.iter().map(|(pos, element)| (*pos, element.clone()));
    let mut list = List {
        head: rows.first_key_value().map_or(0, |(pos, _)| *pos),
        tail: rows.last_key_value().map_or(0, |(pos, _)| *pos),
        ..List::default()
    };
    match part {
        Part::All => list.front = elements().collect(),
        Part::Front { after, count } => {
            let behind = elements().filter(|(pos, _)| after.is_none_or(|after| *pos > after));
            list.front = behind.take(*count as usize).collect();
        }
        Part::Back { before, count } => {
            let in_front = elements().rev();
            let in_front = in_front.filter(|(pos, _)| before.is_none_or(|before| *pos < before));
            list.back = in_front.take(*count as usize).collect();
            list.back.make_contiguous().reverse();
        }
        _ => {}
    }
    list.gap = (rows.len() - list.front.len() - list.back.len()) as u64;
    if list.gap == 0 {
        let back = std::mem::take(&mut list.back);
        list.front.extend(back);
    }
    list
}

fn merge<K: Ord, V>(into: &mut BTreeMap<K, V>, rows: impl IntoIterator<Item = (K, Option<V>)>) {
    for (key, row) in rows {
        match row {
            Some(row) => drop(into.insert(key, row)),
            None => drop(into.remove(&key)),
        }
    }
}

impl ModelStore {
    pub fn apply(&mut self, delta: Delta) {
        for step in delta.steps {
            match step {
                Step::Changes(changes) => self.change(changes),
                Step::FlushDb(db) => self.retain(|row| row.db != db),
                Step::FlushAll => self.retain(|_| false),
                Step::SwapDb(a, b) => {
                    for row in self.keys.values_mut() {
                        row.db = if row.db == a {
                            b
                        } else if row.db == b {
                            a
                        } else {
                            row.db
                        };
                    }
                    self.name_all();
                }
                Step::Function(..) | Step::FlushFunctions => {}
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&KeyRow) -> bool) {
        self.keys.retain(|_, row| keep(row));
        self.name_all();
    }

    fn name_all(&mut self) {
        self.names = self.keys.iter().map(|(id, row)| ((row.db, row.key.clone()), *id)).collect();
        assert_eq!(self.names.len(), self.keys.len(), "two values with one name");
    }

    fn change(&mut self, changes: Changes) {
        for (id, kind) in changes.dropped {
            let row = self.keys.remove(&id).unwrap_or_else(|| panic!("{id} was dropped twice"));
            assert_eq!(row.data.kind(), kind);
        }
        for (id, change) in changes.keys {
            let KeyChange {
                db,
                key,
                kind,
                expires_at_ms,
                len,
                version,
                created,
                renamed,
                rows,
                ..
            } = change;
            let old = self.keys.remove(&id);
            assert_eq!(old.is_none(), created, "created is wrong of {key:?}");
            if let Some(old) = &old {
                assert!(renamed || (old.db, &old.key) == (db, &key), "renamed is wrong of {key:?}");
                assert!(version > old.version, "version of {key:?}");
            }
            let mut data = old.map_or_else(|| Data::empty(kind), |row| row.data);
            data.apply(rows);
            assert_eq!((data.kind(), data.len()), (kind, len), "length of {key:?}");
            self.keys.insert(id, KeyRow { db, key, expires_at_ms, len, version, data });
        }
        self.name_all();
    }

    /// Answers a need with exactly what it asks for.
    pub fn load(&self, need: &Need, keyspace: &mut Keyspace) {
        if need.part == Part::Keys {
            let rows = self.keys.iter().filter(|(_, row)| row.db == need.db);
            let keys: Vec<(Bytes, Found)> =
                rows.map(|(id, row)| (row.key.clone(), found(*id, row, &Part::Meta))).collect();
            keyspace.load_keys(need.db, keys);
            return;
        }
        let id = self.names.get(&(need.db, need.key.clone()));
        let found = id.and_then(|id| Some(found(*id, self.keys.get(id)?, &need.part)));
        keyspace.load(Loaded { db: need.db, key: need.key.clone(), found });
    }

    /// Everything, by name; positions of list elements do not count.
    pub fn content(&self) -> BTreeMap<(u32, Bytes), (Option<i64>, Data)> {
        let rows = self.keys.values().map(|row| {
            let mut data = row.data.clone();
            if let Data::List(elements) = &mut data {
                *elements = (0..).zip(std::mem::take(elements).into_values()).collect();
            }
            ((row.db, row.key.clone()), (row.expires_at_ms, data))
        });
        rows.collect()
    }
}

fn found(id: KeyId, row: &KeyRow, part: &Part) -> Found {
    let value = row.data.load(part.of_length(row.len));
    let view = match part {
        Part::Window(window) => row.data.view(window).map(|view| (window.clone(), view)),
        _ => None,
    };
    assert_eq!(value.len(), row.len);
    Found { id, expires_at_ms: row.expires_at_ms, version: row.version, value, view }
}
