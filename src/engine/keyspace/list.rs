use std::collections::VecDeque;

use bytes::Bytes;

use super::Keyspace;
use crate::engine::Db;
use crate::engine::delta::Rows;
use crate::engine::stop::{Answer, Part, Stop};
use crate::engine::value::{Kind, List, Value};

/// Elements asked for at once when an end of a long list is looked at.
const WINDOW: u64 = 128;

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

    /// Adds an element at an end, creating the list; the new length.
    pub fn list_push(&mut self, db: Db, key: &Bytes, end: End, element: Bytes) -> Answer<u64> {
        self.ensure(db, key, Kind::List, || Part::Meta)?;
        self.grown += element.len() + 64;
        let len = self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return 0 };
            let pos = list.push(end, element.clone());
            rows.insert(pos, Some(element));
            list.len()
        });
        Ok(len.unwrap_or(0))
    }

    /// Makes sure that `count` elements at an end are in memory.
    pub fn list_want(&mut self, db: Db, key: &Bytes, end: End, count: u64) -> Answer<()> {
        let first = || match end {
            End::Front => Part::Front { after: None, count: count.max(WINDOW) },
            End::Back => Part::Back { before: None, count: count.max(WINDOW) },
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
                    Part::Front { after: Some(after), count: count.max(WINDOW) },
                )
            }
            End::Back => {
                let before = list.back.front().map_or(list.tail.saturating_add(1), |(pos, _)| *pos);
                (
                    list.back.len() as u64,
                    Part::Back { before: Some(before), count: count.max(WINDOW) },
                )
            }
        };
        if have >= count { Ok(()) } else { Err(Stop::need(db, key, part)) }
    }

    /// Takes the element at an end, and the list with its last one.
    pub fn list_pop(&mut self, db: Db, key: &Bytes, end: End) -> Answer<Option<Bytes>> {
        self.list_want(db, key, end, 1)?;
        if self.kind(db, key)?.is_none() {
            return Ok(None);
        }
        let popped = self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return None };
            let (pos, element) = list.pop(end)?;
            rows.insert(pos, None);
            Some(element)
        });
        Ok(popped.flatten())
    }

    /// Replaces the element at `index` of a complete list.
    pub fn list_set(&mut self, db: Db, key: &Bytes, index: usize, element: Bytes) -> Answer<()> {
        self.list_all(db, key)?;
        self.grown += element.len();
        self.change(db, key, |value, rows| {
            let (Value::List(list), Rows::List(rows)) = (value, rows) else { return };
            let Some(slot) = list.front.get_mut(index) else { return };
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
