use bytes::Bytes;

use super::encode::CopyRows;
use crate::engine::Db;
use crate::engine::delta::KeyId;
use crate::engine::value::Kind;
use crate::rdb::{Object, StreamObject};
use crate::store::{StoreError, db_column};

/// The tables that a snapshot fills, in the order of [`Tables::rows`], with their columns.
pub const TABLES: [(&str, &str); 13] = [
    ("keys", "id, db, key, kind, expires_at_ms, len, version"),
    ("strings", "key_id, value"),
    ("lists", "key_id, pos, value"),
    ("sets", "key_id, member"),
    ("zsets", "key_id, member, score"),
    ("hashes", "key_id, field, value"),
    ("streams", "key_id, last_ms, last_seq, max_deleted_ms, max_deleted_seq, entries_added"),
    ("stream_entries", "key_id, ms, seq, fields"),
    ("stream_groups", "key_id, name, last_ms, last_seq, entries_read"),
    ("stream_consumers", "key_id, group_name, name, seen_at_ms, active_at_ms"),
    ("stream_pending", "key_id, group_name, ms, seq, consumer, delivered_at_ms, delivery_count"),
    ("opaque", "key_id, dump"),
    ("functions", "name, source"),
];

const KEYS: usize = 0;
const STRINGS: usize = 1;
const LISTS: usize = 2;
const SETS: usize = 3;
const ZSETS: usize = 4;
const HASHES: usize = 5;
const STREAMS: usize = 6;
const ENTRIES: usize = 7;
const GROUPS: usize = 8;
const CONSUMERS: usize = 9;
const PENDING: usize = 10;
const OPAQUE: usize = 11;
const FUNCTIONS: usize = 12;

/// The rows of all tables that are not sent yet.
#[derive(Debug, Default)]
pub struct Tables {
    rows: [CopyRows; TABLES.len()],
}

impl Tables {
    /// The data of a table that has at least `bytes`.
    pub fn take(&mut self, bytes: usize) -> Result<Option<(usize, Bytes)>, StoreError> {
        for (table, rows) in self.rows.iter_mut().enumerate() {
            if rows.len() >= bytes
                && let Some(data) = rows.take()?
            {
                return Ok(Some((table, data)));
            }
        }
        Ok(None)
    }

    pub fn add_function(&mut self, name: &[u8], source: &[u8]) {
        self.rows[FUNCTIONS].row(2).bytes(name).bytes(source);
    }

    pub fn add(
        &mut self,
        id: KeyId,
        db: Db,
        key: &[u8],
        expires_at_ms: Option<i64>,
        object: &Object,
    ) {
        let (kind, len) = self.add_value(id, object);
        self.rows[KEYS]
            .row(7)
            .i64(id)
            .i32(db_column(db))
            .bytes(key)
            .i16(kind as i16)
            .optional_i64(expires_at_ms)
            .i64(i64::try_from(len).unwrap_or(i64::MAX))
            .i64(1);
    }

    fn add_value(&mut self, id: KeyId, object: &Object) -> (Kind, usize) {
        let rows = &mut self.rows;
        match object {
            Object::String(value) => {
                rows[STRINGS].row(2).i64(id).bytes(value);
                (Kind::String, 1)
            }
            Object::List(elements) => {
                for (pos, element) in (0i64..).zip(elements) {
                    rows[LISTS].row(3).i64(id).i64(pos).bytes(element);
                }
                (Kind::List, elements.len())
            }
            Object::Set(members) => {
                for member in members {
                    rows[SETS].row(2).i64(id).bytes(member);
                }
                (Kind::Set, members.len())
            }
            Object::ZSet(members) => {
                for (member, score) in members {
                    rows[ZSETS].row(3).i64(id).bytes(member).f64(*score);
                }
                (Kind::ZSet, members.len())
            }
            Object::Hash(fields) => {
                for (field, value) in fields {
                    rows[HASHES].row(3).i64(id).bytes(field).bytes(value);
                }
                (Kind::Hash, fields.len())
            }
            Object::Stream(stream) => {
                self.add_stream(id, stream);
                (Kind::Stream, stream.entries.len())
            }
            Object::Opaque { dump, .. } => {
                rows[OPAQUE].row(2).i64(id).bytes(dump);
                (Kind::Opaque, 1)
            }
        }
    }

    fn add_stream(&mut self, id: KeyId, stream: &StreamObject) {
        let rows = &mut self.rows;
        let (last, deleted) = (stream.last_id, stream.max_deleted_id);
        rows[STREAMS].row(6).i64(id).numeric(last.ms).numeric(last.seq);
        rows[STREAMS].numeric(deleted.ms).numeric(deleted.seq).numeric(stream.entries_added);
        for entry in &stream.entries {
            let fields = entry.fields.iter().flat_map(|(field, value)| [&field[..], &value[..]]);
            rows[ENTRIES].row(4).i64(id).numeric(entry.id.ms).numeric(entry.id.seq).array(fields);
        }
        for group in &stream.groups {
            let last = group.last_id;
            let row = rows[GROUPS].row(5).i64(id).bytes(&group.name);
            row.numeric(last.ms).numeric(last.seq);
            match group.entries_read {
                Some(read) => row.numeric(read),
                None => row.null(),
            };
            for consumer in &group.consumers {
                let row = rows[CONSUMERS].row(5).i64(id).bytes(&group.name).bytes(&consumer.name);
                row.i64(consumer.seen_time_ms).optional_i64(consumer.active_time_ms);
            }
            for pending in &group.pending {
                let row = rows[PENDING].row(7).i64(id).bytes(&group.name);
                row.numeric(pending.id.ms).numeric(pending.id.seq).bytes(&pending.consumer);
                row.i64(pending.delivery_time_ms).numeric(pending.delivery_count);
            }
        }
    }
}
