//! Windows: what single reads show of a large value, as PostgreSQL has it. They are kept beside the
//! value, of which they load nothing, until it changes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Keyspace;
use crate::engine::Db;
use crate::engine::stop::{Answer, Part, Stop, Window};
use crate::engine::value::{EntryFields, Kind, Score, StreamId};

/// Elements up to which a value is loaded as a whole when a part of it is read by its place.
pub const LARGE: u64 = 1000;

/// Elements that a window holds at most. Who reads more loads everything.
pub const MOST: u64 = 10_000;

/// Windows of one value that are kept, and the bytes above which only the newest is.
const KEPT: usize = 16;
const KEPT_BYTES: usize = 4 << 20;

/// What is seen in a window.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    Members(Vec<(Bytes, f64)>),
    Elements(Vec<Bytes>),
    Entries(Vec<(StreamId, EntryFields)>),
    Number(u64),
    /// The store cannot tell: its index does not order such long members.
    Unclear,
}

impl View {
    fn weight(&self) -> usize {
        const SLOT: usize = 64;
        match self {
            View::Members(members) => members.iter().map(|(m, _)| m.len() + SLOT).sum(),
            View::Elements(elements) => elements.iter().map(|e| e.len() + SLOT).sum(),
            View::Entries(entries) => {
                let fields = |f: &EntryFields| f.iter().map(|b| b.len() + 32).sum::<usize>();
                entries.iter().map(|(_, f)| fields(f) + SLOT).sum()
            }
            View::Number(_) | View::Unclear => 0,
        }
    }
}

/// The last views of a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Views(VecDeque<(Window, Arc<View>)>);

impl Views {
    pub fn of(&self, window: &Window) -> Option<&Arc<View>> {
        self.0.iter().find(|(of, _)| of == window).map(|(_, view)| view)
    }

    /// Adds one; its weight in bytes.
    pub fn keep(&mut self, window: Window, view: View) -> usize {
        let weight = view.weight();
        self.0.retain(|(of, _)| *of != window);
        self.0.push_back((window, Arc::new(view)));
        while self.0.len() > KEPT || (self.0.len() > 1 && self.weight() > KEPT_BYTES) {
            self.0.pop_front();
        }
        weight
    }

    pub fn weight(&self) -> usize {
        self.0.iter().map(|(_, view)| view.weight() + 128).sum()
    }
}

impl Keyspace {
    /// The length of a value that is too large to be loaded for a small answer; `None` when it is to be
    /// read as a whole. The need of a key that is not in memory brings a small value as a whole.
    pub fn large(&mut self, db: Db, key: &Bytes, kind: Kind) -> Answer<Option<u64>> {
        let large = self.large;
        let value = self.typed(db, key, kind, || match large {
            u64::MAX => Part::All,
            large => Part::AllUpTo(large),
        })?;
        let value = value.filter(|value| !value.is_complete() && value.len() > large);
        Ok(value.map(|value| value.len()))
    }

    fn view(&self, db: Db, key: &Bytes, window: Window) -> Answer<Arc<View>> {
        let entry = self.peek(db, key);
        match entry.and_then(|entry| entry.views.of(&window)) {
            Some(view) if **view == View::Unclear => Err(Stop::need(db, key, Part::All)),
            Some(view) => Ok(Arc::clone(view)),
            None if self.is_unsettled(db, key) => Err(Stop::need(db, key, Part::All)),
            None => Err(Stop::need(db, key, Part::Window(window))),
        }
    }

    /// The members of a sorted set in a window, which holds up to `most` of them; with more in it,
    /// everything has to be loaded.
    pub fn window_members(
        &self,
        db: Db,
        key: &Bytes,
        window: Window,
        most: u64,
    ) -> Answer<Vec<(Bytes, f64)>> {
        match &*self.view(db, key, window)? {
            View::Members(members) if members.len() as u64 <= most => Ok(members.clone()),
            _ => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// The number of members of a sorted set with scores from `min` to `max`.
    pub fn window_count(&self, db: Db, key: &Bytes, min: Score, max: Score) -> Answer<u64> {
        self.number(db, key, Window::ScoreCount { min, max })
    }

    /// The number of members before one that is there with this score.
    pub fn window_rank(&self, db: Db, key: &Bytes, member: &Bytes, score: f64) -> Answer<u64> {
        self.number(db, key, Window::Before { score: Score(score), member: member.clone() })
    }

    fn number(&self, db: Db, key: &Bytes, window: Window) -> Answer<u64> {
        match *self.view(db, key, window)? {
            View::Number(number) => Ok(number),
            _ => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// `count` elements from `start` of a list of `len` elements.
    pub(super) fn window_elements(
        &self,
        db: Db,
        key: &Bytes,
        (start, count, len): (u64, u64, u64),
    ) -> Answer<Vec<Bytes>> {
        let (window, turned) = places(start, count, len, false);
        match &*self.view(db, key, window)? {
            View::Elements(elements) if turned => Ok(elements.iter().rev().cloned().collect()),
            View::Elements(elements) => Ok(elements.clone()),
            _ => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// The entries of a stream in a window, which holds up to [`MOST`] of them.
    pub(super) fn window_entries(
        &self,
        db: Db,
        key: &Bytes,
        window: Window,
    ) -> Answer<Vec<(StreamId, EntryFields)>> {
        match &*self.view(db, key, window)? {
            View::Entries(entries) if entries.len() as u64 <= MOST => Ok(entries.clone()),
            _ => Err(Stop::need(db, key, Part::All)),
        }
    }
}

/// The window onto `count` of `len` elements behind the first `start` in this direction, counted from
/// the nearer end; true when it shows them the other way round.
pub fn places(start: u64, count: u64, len: u64, reverse: bool) -> (Window, bool) {
    let behind = len.saturating_sub(start.saturating_add(count));
    let turned = behind < start;
    let skip = if turned { behind } else { start };
    (Window::Places { skip, count, reverse: reverse != turned }, turned)
}
