use super::batch::{Batch, Call};
use super::statements::Statements;
use crate::engine::delta::{KeyId, StreamRows};
use crate::store::StoreError;
use crate::store::numeric::U64;

/// Columns of the rows, as their statements number them.
type GroupColumns<'a> = (i64, &'a [u8], U64, U64, Option<U64>);
type ConsumerColumns<'a> = (i64, &'a [u8], &'a [u8], i64, Option<i64>);
type PendingColumns<'a> = (i64, &'a [u8], U64, U64, &'a [u8], i64, U64);

/// The statements that streams need; what goes comes before what is written.
pub struct Batches<'a> {
    streams: Batch<'a, (i64, U64, U64, U64, U64, U64)>,
    entries: Batch<'a, (i64, U64, U64, &'a [u8])>,
    entries_delete: Batch<'a, (i64, U64, U64)>,
    groups: Batch<'a, GroupColumns<'a>>,
    groups_delete: Batch<'a, (i64, &'a [u8])>,
    group_consumers_delete: Batch<'a, (i64, &'a [u8])>,
    group_pending_delete: Batch<'a, (i64, &'a [u8])>,
    consumers: Batch<'a, ConsumerColumns<'a>>,
    consumers_delete: Batch<'a, (i64, &'a [u8], &'a [u8])>,
    pending: Batch<'a, PendingColumns<'a>>,
    pending_delete: Batch<'a, (i64, &'a [u8], U64, U64)>,
}

impl<'a> Batches<'a> {
    pub fn new(statements: &'a Statements) -> Batches<'a> {
        Batches {
            streams: Batch::new(&statements.streams_upsert),
            entries: Batch::new(&statements.entries_upsert),
            entries_delete: Batch::new(&statements.entries_delete),
            groups: Batch::new(&statements.groups_upsert),
            groups_delete: Batch::new(&statements.groups_delete),
            group_consumers_delete: Batch::new(&statements.group_consumers_delete),
            group_pending_delete: Batch::new(&statements.group_pending_delete),
            consumers: Batch::new(&statements.consumers_upsert),
            consumers_delete: Batch::new(&statements.consumers_delete),
            pending: Batch::new(&statements.pending_upsert),
            pending_delete: Batch::new(&statements.pending_delete),
        }
    }

    pub fn add(&mut self, id: KeyId, rows: &'a StreamRows) {
        let (last, deleted) = (rows.last_id, rows.max_deleted_id);
        let counters = (
            id,
            U64(last.ms),
            U64(last.seq),
            U64(deleted.ms),
            U64(deleted.seq),
            U64(rows.entries_added),
        );
        self.streams.add(0, counters);
        for (entry, fields) in &rows.entries {
            let (ms, seq) = (U64(entry.ms), U64(entry.seq));
            let Some((first, rest)) = fields.as_ref().and_then(|fields| fields.split_first())
            else {
                self.entries_delete.add(0, (id, ms, seq));
                continue;
            };
            self.entries.add(first.len(), (id, ms, seq, &first[..]));
            for field in rest {
                self.entries.add_to_last(field.len(), (id, ms, seq, &field[..]));
            }
        }
        self.add_groups(id, rows);
    }

    fn add_groups(&mut self, id: KeyId, rows: &'a StreamRows) {
        for name in &rows.reset_groups {
            self.group_consumers_delete.add(name.len(), (id, &name[..]));
            self.group_pending_delete.add(name.len(), (id, &name[..]));
        }
        for (name, group) in &rows.groups {
            let Some(group) = group else {
                self.groups_delete.add(name.len(), (id, &name[..]));
                self.group_consumers_delete.add(name.len(), (id, &name[..]));
                self.group_pending_delete.add(name.len(), (id, &name[..]));
                continue;
            };
            let last = group.last_id;
            let row = (id, &name[..], U64(last.ms), U64(last.seq), group.entries_read.map(U64));
            self.groups.add(name.len(), row);
        }
        for ((group, name), consumer) in &rows.consumers {
            let bytes = group.len() + name.len();
            match consumer {
                None => self.consumers_delete.add(bytes, (id, &group[..], &name[..])),
                Some(seen) => {
                    let row = (id, &group[..], &name[..], seen.seen_at_ms, seen.active_at_ms);
                    self.consumers.add(bytes, row);
                }
            }
        }
        for ((group, entry), pending) in &rows.pending {
            let (ms, seq) = (U64(entry.ms), U64(entry.seq));
            match pending {
                None => self.pending_delete.add(group.len(), (id, &group[..], ms, seq)),
                Some(pending) => {
                    let consumer = &pending.consumer[..];
                    let count = U64(pending.delivery_count);
                    let row = (id, &group[..], ms, seq, consumer, pending.delivered_at_ms, count);
                    self.pending.add(group.len() + consumer.len(), row);
                }
            }
        }
    }

    pub fn finish(self, calls: &mut Vec<Call<'a>>) -> Result<(), StoreError> {
        self.groups_delete.finish(calls)?;
        self.group_consumers_delete.finish(calls)?;
        self.group_pending_delete.finish(calls)?;
        self.entries_delete.finish(calls)?;
        self.consumers_delete.finish(calls)?;
        self.pending_delete.finish(calls)?;
        self.streams.finish(calls)?;
        self.entries.finish(calls)?;
        self.groups.finish(calls)?;
        self.consumers.finish(calls)?;
        self.pending.finish(calls)
    }
}
