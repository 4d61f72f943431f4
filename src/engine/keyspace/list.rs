use std::collections::VecDeque;

use bytes::Bytes;

use super::{Keyspace, MOST};
use crate::engine::Db;
use crate::engine::delta::Rows;
use crate::engine::stop::{Answer, Part, Stop};
use crate::engine::value::{Kind, List, Value};

/// Elements asked for at once when an end of a long list is looked at.
pub const LIST_WINDOW: u64 = 128;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

impl Keyspace {
    /// The complete list: everything is in `front`.
    pub fn list_all(&mut self, db: Db, key: &Bytes) -> Answer<Option<&List>> {
        match self.typed(db, key, Kind::List, || Part::All)? {
            None => Ok(None),
            Some(Value::List(list)) if list.gap == 0 => Ok(Some(list)),
            Some(_) => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// Adds elements one after the other at an end, creating the list; the new length.
    pub fn list_push(&mut self, db: Db, key: &Bytes, end: End, elements: &[Bytes]) -> Answer<u64> {
        self.ensure(db, key, Kind::List, || Part::Meta)?;
        self.grown += elements.iter().map(|element| element.len() + 64).sum::<usize>();
        let len = self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return 0 };
            for element in elements {
                let pos = list.push(end, element.clone());
                rows.insert(pos, Some(element.clone()));
            }
            list.len()
        });
        Ok(len.unwrap_or(0))
    }

    /// Makes sure that `count` elements at an end are in memory.
    pub fn list_want(&mut self, db: Db, key: &Bytes, end: End, count: u64) -> Answer<()> {
        let first = || match end {
            End::Front => Part::Front { after: None, count: count.max(LIST_WINDOW) },
            End::Back => Part::Back { before: None, count: count.max(LIST_WINDOW) },
        };
        let Some(Value::List(list)) = self.typed(db, key, Kind::List, first)? else {
            return Ok(());
        };
        if list.gap == 0 {
            return Ok(());
        }
        let (have, part) = match end {
            End::Front => {
                let after = list.front.back().map_or(list.head.saturating_sub(1), |(pos, _)| *pos);
                (
                    list.front.len() as u64,
                    Part::Front { after: Some(after), count: count.max(LIST_WINDOW) },
                )
            }
            End::Back => {
                let before = list.back.front().map_or(list.tail.saturating_add(1), |(pos, _)| *pos);
                (
                    list.back.len() as u64,
                    Part::Back { before: Some(before), count: count.max(LIST_WINDOW) },
                )
            }
        };
        if have >= count { Ok(()) } else { Err(Stop::need(db, key, part)) }
    }

    /// Takes up to `count` elements from an end, and the list with its last one.
    pub fn list_pop(&mut self, db: Db, key: &Bytes, end: End, count: u64) -> Answer<Vec<Bytes>> {
        let count = count.min(self.len(db, key, Kind::List)?);
        self.list_want(db, key, end, count)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let popped = self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return Vec::new() };
            let popped = std::iter::from_fn(|| list.pop(end)).take(count as usize);
            popped
                .map(|(pos, element)| {
                    rows.insert(pos, None);
                    element
                })
                .collect()
        });
        Ok(popped.unwrap_or_default())
    }

    /// `count` elements from `start`, which have to be there.
    pub fn list_range(
        &mut self,
        db: Db,
        key: &Bytes,
        start: u64,
        count: u64,
    ) -> Answer<Vec<Bytes>> {
        let len = self.len(db, key, Kind::List)?;
        let behind = len.saturating_sub(start);
        if self.is_far(db, key, start + count, behind) && count <= MOST {
            return self.window_elements(db, key, (start, count, len));
        }
        self.list_reach(db, key, start + count, behind)?;
        let Some(Value::List(list)) = self.typed(db, key, Kind::List, || Part::All)? else {
            return Ok(Vec::new());
        };
        let known = if list.gap == 0 || start + count <= list.front.len() as u64 {
            list.front.range(start as usize..(start + count) as usize)
        } else {
            let skipped = list.back.len().saturating_sub(behind as usize);
            list.back.range(skipped..skipped + count as usize)
        };
        Ok(known.map(|(_, element)| element.clone()).collect())
    }

    /// True when the elements are not in memory, and too far from the ends of a list to load all up to
    /// them.
    fn is_far(&self, db: Db, key: &Bytes, from_front: u64, from_back: u64) -> bool {
        let Some(Value::List(list)) = self.peek(db, key).map(|entry| &entry.value) else {
            return false;
        };
        let missing = |wanted: u64, known: usize| wanted.saturating_sub(known as u64);
        list.gap > 0
            && missing(from_front, list.front.len()).min(missing(from_back, list.back.len()))
                > self.large
    }

    /// Makes sure that `from_front` elements from the front or `from_back` from the back are in
    /// memory, whichever is nearer.
    fn list_reach(&mut self, db: Db, key: &Bytes, from_front: u64, from_back: u64) -> Answer<()> {
        if let Some(Value::List(list)) = self.typed(db, key, Kind::List, || Part::Meta)? {
            let (front, back) = (list.front.len() as u64, list.back.len() as u64);
            if list.gap == 0 || from_front <= front || from_back <= back {
                return Ok(());
            }
        }
        if from_front <= from_back {
            self.list_want(db, key, End::Front, from_front)
        } else {
            self.list_want(db, key, End::Back, from_back)
        }
    }

    /// Replaces the element at `index`, which has to be there.
    pub fn list_set(&mut self, db: Db, key: &Bytes, index: u64, element: Bytes) -> Answer<()> {
        let from_back = self.len(db, key, Kind::List)?.saturating_sub(index);
        self.list_reach(db, key, index + 1, from_back)?;
        self.grown += element.len();
        self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return };
            let slot = if list.gap == 0 || index < list.front.len() as u64 {
                list.front.get_mut(index as usize)
            } else {
                let in_back = (list.back.len() as u64).checked_sub(from_back);
                in_back.and_then(|in_back| list.back.get_mut(in_back as usize))
            };
            let Some(slot) = slot else { return };
            slot.1 = element.clone();
            rows.insert(slot.0, Some(element));
        });
        Ok(())
    }

    /// Inserts an element so that it stands at `index` of a complete list, `0 < index < len`.
    /// Where no position is free, the nearer end moves by one.
    pub fn list_insert(&mut self, db: Db, key: &Bytes, index: usize, element: Bytes) -> Answer<()> {
        self.list_all(db, key)?;
        self.grown += element.len() + 64;
        self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return };
            list.insert(index, element, |pos, element| {
                rows.insert(pos, element);
            });
        });
        Ok(())
    }

    /// Keeps the elements of a complete list for which `keep(index)` is true.
    pub fn list_retain(
        &mut self,
        db: Db,
        key: &Bytes,
        mut keep: impl FnMut(usize) -> bool,
    ) -> Answer<()> {
        if self.list_all(db, key)?.is_none() {
            return Ok(());
        }
        self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return };
            let mut index = 0;
            list.front.retain(|(pos, _)| {
                let kept = keep(index);
                index += 1;
                if !kept {
                    rows.insert(*pos, None);
                }
                kept
            });
        });
        Ok(())
    }
}

impl List {
    /// A complete list.
    pub fn from_elements(elements: impl IntoIterator<Item = Bytes>) -> List {
        let front: VecDeque<(i64, Bytes)> = (0..).zip(elements).collect();
        let tail = front.len() as i64 - 1;
        List { front, tail: tail.max(0), ..List::default() }
    }

    /// Elements in order; all of them when `gap` is 0.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Bytes> + ExactSizeIterator {
        self.front.iter().map(|(_, element)| element)
    }

    fn push(&mut self, end: End, element: Bytes) -> i64 {
        let empty = self.is_empty();
        match end {
            _ if empty => {
                self.tail = self.head;
                self.front.push_back((self.head, element));
                self.head
            }
            End::Front => {
                self.head -= 1;
                self.front.push_front((self.head, element));
                self.head
            }
            End::Back => {
                self.tail += 1;
                let known = if self.gap == 0 { &mut self.front } else { &mut self.back };
                known.push_back((self.tail, element));
                self.tail
            }
        }
    }

    fn pop(&mut self, end: End) -> Option<(i64, Bytes)> {
        // `head` and `tail` bound the positions from outside; they only have to be exact enough that
        // a push never meets an element.
        match end {
            End::Front => {
                let (pos, element) = self.front.pop_front()?;
                self.head = pos + 1;
                Some((pos, element))
            }
            End::Back => {
                let known = if self.gap == 0 { &mut self.front } else { &mut self.back };
                let (pos, element) = known.pop_back()?;
                self.tail = pos - 1;
                Some((pos, element))
            }
        }
    }

    /// Inserts before the element at `index`, telling every row that changes.
    fn insert(&mut self, index: usize, element: Bytes, mut row: impl FnMut(i64, Option<Bytes>)) {
        let (Some(&(right, _)), Some(&(left, _))) =
            (self.front.get(index), index.checked_sub(1).and_then(|i| self.front.get(i)))
        else {
            return;
        };
        if right - left > 1 {
            let pos = left + (right - left) / 2;
            self.front.insert(index, (pos, element.clone()));
            return row(pos, Some(element));
        }
        // A row that moves overwrites its neighbour's, so only the outermost old position is new.
        if index <= self.front.len() / 2 {
            for (pos, moved) in self.front.iter_mut().take(index) {
                row(*pos, None);
                *pos -= 1;
                row(*pos, Some(moved.clone()));
            }
            self.front.insert(index, (left, element.clone()));
            self.head = self.front[0].0.min(self.head);
            row(left, Some(element));
        } else {
            for (pos, moved) in self.front.iter_mut().skip(index).rev() {
                row(*pos, None);
                *pos += 1;
                row(*pos, Some(moved.clone()));
            }
            self.front.insert(index, (right, element.clone()));
            self.tail = self.front[self.front.len() - 1].0.max(self.tail);
            row(right, Some(element));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The rows that PostgreSQL would hold after random changes are the list itself.
    #[test]
    fn rows_follow_the_list() {
        use rand::{Rng, RngExt, SeedableRng};
        let seed = rand::rng().next_u64();
        println!("seed {seed}");
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let mut list = List::default();
        let mut rows: BTreeMap<i64, Bytes> = BTreeMap::new();
        let mut model: Vec<Bytes> = Vec::new();
        for n in 0..3000 {
            let element = Bytes::from(n.to_string());
            match rng.random_range(0..6) {
                0 | 1 => {
                    let end = if rng.random_bool(0.5) { End::Front } else { End::Back };
                    let pos = list.push(end, element.clone());
                    assert!(rows.insert(pos, element.clone()).is_none());
                    if end == End::Front { model.insert(0, element) } else { model.push(element) }
                }
                2 => {
                    let end = if rng.random_bool(0.5) { End::Front } else { End::Back };
                    if let Some((pos, _)) = list.pop(end) {
                        rows.remove(&pos);
                        if end == End::Front { drop(model.remove(0)) } else { drop(model.pop()) }
                    }
                }
                _ if model.len() > 1 => {
                    let index = rng.random_range(1..model.len());
                    list.insert(index, element.clone(), |pos, value| match value {
                        Some(value) => drop(rows.insert(pos, value)),
                        None => drop(rows.remove(&pos)),
                    });
                    model.insert(index, element);
                }
                _ => {}
            }
            assert!(list.iter().eq(model.iter()), "list at step {n}, seed {seed}");
            assert!(rows.values().eq(model.iter()), "rows at step {n}, seed {seed}");
        }
    }
}
