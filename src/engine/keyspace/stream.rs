use bytes::Bytes;

use super::{Keyspace, MOST};
use crate::engine::Db;
use crate::engine::delta::{GroupRow, Rows, StreamRows};
use crate::engine::stop::{Answer, Part, Stop, Window};
use crate::engine::value::{EntryFields, Kind, Stream, StreamId, Value};

/// Entries asked for at once when the old end of a long stream is looked at.
const WINDOW: u64 = 256;

/// Entries with ids from `start` to `end`, both included, `limit` at most.
#[derive(Clone, Copy, Debug)]
pub struct StreamRange {
    pub start: StreamId,
    pub end: StreamId,
    /// From `end` down to `start`.
    pub reverse: bool,
    pub limit: u64,
}

/// A stream and the rows of it that change together.
pub struct StreamChange<'a> {
    pub stream: &'a mut Stream,
    pub rows: &'a mut StreamRows,
}

impl Keyspace {
    /// The stream's ids, counters and groups; entries may be missing.
    pub fn stream(&mut self, db: Db, key: &Bytes) -> Answer<Option<&Stream>> {
        match self.typed(db, key, Kind::Stream, || Part::Meta)? {
            Some(Value::Stream(stream)) => Ok(Some(stream)),
            _ => Ok(None),
        }
    }

    /// The complete stream: every entry is in `front`.
    pub fn stream_all(&mut self, db: Db, key: &Bytes) -> Answer<Option<&Stream>> {
        match self.typed(db, key, Kind::Stream, || Part::All)? {
            Some(Value::Stream(stream)) if stream.gap == 0 => Ok(Some(stream)),
            None => Ok(None),
            Some(_) => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// Makes sure that the `count` oldest entries are in memory.
    pub fn stream_want_oldest(&mut self, db: Db, key: &Bytes, count: u64) -> Answer<()> {
        let want = count.max(WINDOW);
        let part = || Part::Oldest { after: StreamId::default(), count: want };
        let Some(Value::Stream(stream)) = self.typed(db, key, Kind::Stream, part)? else {
            return Ok(());
        };
        if stream.gap == 0 || stream.front.len() as u64 >= count {
            return Ok(());
        }
        let after = stream.known_below();
        Err(Stop::need(db, key, Part::Oldest { after, count: want }))
    }

    /// The entries of a range.
    pub fn stream_range(
        &mut self,
        db: Db,
        key: &Bytes,
        range: &StreamRange,
    ) -> Answer<Vec<(StreamId, EntryFields)>> {
        let large = self.large;
        let Some(stream) = self.stream(db, key)? else { return Ok(Vec::new()) };
        match stream.range(range) {
            Ok(entries) => Ok(entries),
            // One more tells that there are too many.
            Err(Part::All) if stream.gap > large => {
                let StreamRange { start, end, reverse, limit } = *range;
                let window = Window::Entries { start, end, count: limit.min(MOST + 1), reverse };
                self.window_entries(db, key, window)
            }
            Err(part) => Err(Stop::need(db, key, part)),
        }
    }

    /// One entry, `None` when there is none with this id.
    pub fn stream_entry(
        &mut self,
        db: Db,
        key: &Bytes,
        id: StreamId,
    ) -> Answer<Option<EntryFields>> {
        let one = StreamRange { start: id, end: id, reverse: false, limit: 1 };
        Ok(self.stream_range(db, key, &one)?.pop().map(|(_, fields)| fields))
    }

    /// The id of the oldest entry; 0-0 when there is none.
    pub fn stream_first_id(&mut self, db: Db, key: &Bytes) -> Answer<StreamId> {
        self.stream_want_oldest(db, key, 1)?;
        let stream = self.stream(db, key)?;
        let first = stream.and_then(|stream| stream.front.first_key_value());
        Ok(first.map_or(StreamId::default(), |(id, _)| *id))
    }

    /// Changes a stream, creating an empty one when it is not there. What `f` changes of the entries
    /// has to be in memory.
    pub fn stream_change<R>(
        &mut self,
        db: Db,
        key: &Bytes,
        f: impl FnOnce(StreamChange<'_>) -> R,
    ) -> Answer<Option<R>> {
        self.ensure(db, key, Kind::Stream, || Part::Meta)?;
        let mut bytes = 0;
        let before = self.consumers(db, key);
        let result = self.change(db, key, |value, rows| {
            let (Value::Stream(stream), Rows::Stream(rows)) = (value, rows) else { return None };
            let before = rows.entries.len();
            let result = f(StreamChange { stream: &mut *stream, rows: &mut *rows });
            bytes = (rows.entries.len() - before) * 128;
            Some(result)
        });
        self.grown += bytes;
        if self.consumers(db, key) > before {
            self.besides(db, key, "xgroup-createconsumer");
        }
        Ok(result.flatten())
    }

    /// Consumers in all groups; only counted for those who listen.
    fn consumers(&self, db: Db, key: &Bytes) -> usize {
        let entry = self.peek(db, key).filter(|_| self.is_heard());
        match entry.map(|entry| &entry.value) {
            Some(Value::Stream(stream)) => {
                stream.groups.values().map(|group| group.consumers.len()).sum()
            }
            _ => 0,
        }
    }
}

impl StreamChange<'_> {
    /// Adds an entry with an id above all others; the counters are the caller's.
    pub fn append(&mut self, id: StreamId, fields: EntryFields) {
        self.rows.entries.insert(id, Some(fields.clone()));
        let known =
            if self.stream.gap == 0 { &mut self.stream.front } else { &mut self.stream.back };
        known.insert(id, fields);
    }

    /// Removes an entry of a complete stream, or the oldest one; true when it was there.
    pub fn remove(&mut self, id: StreamId) -> bool {
        if self.stream.gap > 0 {
            self.stream.floor = self.stream.known_below();
        }
        let there =
            self.stream.front.remove(&id).or_else(|| self.stream.back.remove(&id)).is_some();
        if there {
            self.rows.entries.insert(id, None);
        }
        there
    }

    /// Records a group's own row as it is now, or that it is gone.
    pub fn group(&mut self, name: &Bytes) {
        let row = self.stream.groups.get(name);
        let row =
            row.map(|group| GroupRow { last_id: group.last_id, entries_read: group.entries_read });
        if row.is_none() {
            self.forget_members(name);
        }
        self.rows.groups.insert(name.clone(), row);
    }

    /// Records that a group starts anew, without consumers and pending entries.
    pub fn group_reset(&mut self, name: &Bytes) {
        self.forget_members(name);
        self.rows.reset_groups.push(name.clone());
        self.group(name);
    }

    fn forget_members(&mut self, name: &Bytes) {
        self.rows.consumers.retain(|(group, _), _| group != name);
        self.rows.pending.retain(|(group, _), _| group != name);
    }

    /// Records a consumer as it is now.
    pub fn consumer(&mut self, group: &Bytes, consumer: &Bytes) {
        let row = self.stream.groups.get(group).and_then(|g| g.consumers.get(consumer)).copied();
        self.rows.consumers.insert((group.clone(), consumer.clone()), row);
    }

    /// Records a pending entry as it is now.
    pub fn pending(&mut self, group: &Bytes, id: StreamId) {
        let row = self.stream.groups.get(group).and_then(|g| g.pending.get(&id)).cloned();
        self.rows.pending.insert((group.clone(), id), row);
    }
}

impl Stream {
    /// A stream of `len` entries of which none is loaded.
    pub fn unloaded(len: u64) -> Stream {
        Stream { gap: len, ..Stream::default() }
    }

    /// Entries up to this id are known: they are in `front`, or there are none.
    pub fn known_below(&self) -> StreamId {
        self.front.last_key_value().map_or(self.floor, |(id, _)| self.floor.max(*id))
    }

    /// The entries of a range, or what has to be loaded to know them.
    fn range(&self, range: &StreamRange) -> Result<Vec<(StreamId, EntryFields)>, Part> {
        let StreamRange { start, end, reverse, limit } = *range;
        if start > end || start > self.last_id || limit == 0 {
            return Ok(Vec::new());
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let entry = |(id, fields): (&StreamId, &EntryFields)| (*id, fields.clone());
        let below = self.known_below();
        let above = self.back.first_key_value().map(|(id, _)| *id);
        let in_back = above.is_some_and(|above| start >= above);
        if self.gap == 0 || end <= below {
            return Ok(if reverse {
                self.front.range(start..=end).rev().take(limit).map(entry).collect()
            } else {
                self.front.range(start..=end).take(limit).map(entry).collect()
            });
        }
        if reverse {
            let near = start.max(above.unwrap_or(start));
            let found: Vec<_> = match near <= end {
                true => self.back.range(near..=end).rev().take(limit).map(entry).collect(),
                false => Vec::new(),
            };
            return if in_back || found.len() == limit { Ok(found) } else { Err(Part::All) };
        }
        if in_back {
            return Ok(self.back.range(start..=end).take(limit).map(entry).collect());
        }
        let found: Vec<_> = self.front.range(start..=end).take(limit).map(entry).collect();
        if found.len() == limit {
            return Ok(found);
        }
        // Loading goes on where `front` ends, which helps only when the range begins before that.
        if start <= below && limit as u64 <= WINDOW {
            return Err(Part::Oldest { after: below, count: WINDOW });
        }
        Err(Part::All)
    }
}

impl StreamRows {
    /// Records the stream's own row as it is now.
    pub(super) fn set_counters(&mut self, stream: &Stream) {
        self.last_id = stream.last_id;
        self.max_deleted_id = stream.max_deleted_id;
        self.entries_added = stream.entries_added;
    }
}

/// Every row of a complete stream.
pub(super) fn all_rows(stream: &Stream) -> StreamRows {
    let mut rows = StreamRows {
        last_id: stream.last_id,
        max_deleted_id: stream.max_deleted_id,
        entries_added: stream.entries_added,
        entries: stream.front.iter().map(|(id, fields)| (*id, Some(fields.clone()))).collect(),
        ..StreamRows::default()
    };
    for (name, group) in &stream.groups {
        let row = GroupRow { last_id: group.last_id, entries_read: group.entries_read };
        rows.groups.insert(name.clone(), Some(row));
        for (consumer, seen) in &group.consumers {
            rows.consumers.insert((name.clone(), consumer.clone()), Some(*seen));
        }
        for (id, pending) in &group.pending {
            rows.pending.insert((name.clone(), *id), Some(pending.clone()));
        }
    }
    rows
}
