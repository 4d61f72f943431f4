//! Between whole values in memory and [`Object`], the form in which snapshots and `DUMP` carry them.

use bytes::Bytes;

use super::value::{Consumer, Group, List, Members, Pending, Stream, Value, ZSet};
use crate::rdb::{Object, PendingEntry, StreamConsumer, StreamEntry, StreamGroup, StreamObject};

impl From<Object> for Value {
    /// A complete value.
    fn from(object: Object) -> Value {
        match object {
            Object::String(content) => Value::String(Some(content)),
            Object::List(elements) => Value::List(List::from_elements(elements)),
            Object::Set(members) => {
                let mut set = Members::new();
                for member in members {
                    set.insert(member, ());
                }
                Value::Set(set)
            }
            Object::ZSet(members) => {
                let mut zset = ZSet::new();
                for (member, score) in members {
                    zset.insert(member, score);
                }
                Value::ZSet(zset)
            }
            Object::Hash(fields) => {
                let mut hash = Members::new();
                for (field, value) in fields {
                    hash.insert(field, value);
                }
                Value::Hash(hash)
            }
            Object::Stream(stream) => Value::Stream(Box::new(stream.into())),
            Object::Opaque { dump, .. } => Value::Opaque(Some(dump)),
        }
    }
}

impl From<StreamObject> for Stream {
    fn from(object: StreamObject) -> Stream {
        let flatten = |entry: StreamEntry| {
            (entry.id, entry.fields.into_iter().flat_map(|(field, value)| [field, value]).collect())
        };
        Stream {
            front: object.entries.into_iter().map(flatten).collect(),
            last_id: object.last_id,
            max_deleted_id: object.max_deleted_id,
            entries_added: object.entries_added,
            groups: object
                .groups
                .into_iter()
                .map(|group| (group.name.clone(), group.into()))
                .collect(),
            ..Stream::default()
        }
    }
}

impl From<StreamGroup> for Group {
    fn from(group: StreamGroup) -> Group {
        let pending = group.pending.into_iter().map(|pending| {
            let PendingEntry { id, consumer, delivery_time_ms, delivery_count } = pending;
            (id, Pending { consumer, delivered_at_ms: delivery_time_ms, delivery_count })
        });
        let consumers = group.consumers.into_iter().map(|consumer| {
            let StreamConsumer { name, seen_time_ms, active_time_ms } = consumer;
            (name, Consumer { seen_at_ms: seen_time_ms, active_at_ms: active_time_ms })
        });
        Group {
            last_id: group.last_id,
            entries_read: group.entries_read,
            pending: pending.collect(),
            consumers: consumers.collect(),
        }
    }
}

/// The whole value for `DUMP` and for pushing it to Redis; `None` when it is not complete.
pub fn to_object(value: &Value) -> Option<Object> {
    if !value.is_complete() {
        return None;
    }
    Some(match value {
        Value::String(content) => Object::String(content.clone()?),
        Value::List(list) => Object::List(list.iter().cloned().collect()),
        Value::Set(set) => Object::Set(set.iter().map(|(member, ())| member.clone()).collect()),
        Value::ZSet(zset) => {
            let ordered = zset.ordered.as_ref()?;
            Object::ZSet(ordered.iter().map(|(score, member)| (member.clone(), score.0)).collect())
        }
        Value::Hash(hash) => {
            Object::Hash(hash.iter().map(|(f, v)| (f.clone(), v.clone())).collect())
        }
        Value::Stream(stream) => Object::Stream(stream_object(stream)),
        Value::Opaque(dump) => opaque(dump.clone()?),
    })
}

/// An opaque value from its `DUMP` payload, whose first byte is the type.
pub fn opaque(dump: Bytes) -> Object {
    Object::Opaque { type_byte: dump.first().copied().unwrap_or_default(), dump }
}

fn stream_object(stream: &Stream) -> StreamObject {
    let pairs = |fields: &Vec<Bytes>| {
        fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    StreamObject {
        entries: stream
            .front
            .iter()
            .map(|(id, fields)| StreamEntry { id: *id, fields: pairs(fields) })
            .collect(),
        last_id: stream.last_id,
        first_id: stream.front.first_key_value().map(|(id, _)| *id).unwrap_or_default(),
        max_deleted_id: stream.max_deleted_id,
        entries_added: stream.entries_added,
        groups: stream.groups.iter().map(|(name, group)| group_object(name, group)).collect(),
    }
}

fn group_object(name: &Bytes, group: &Group) -> StreamGroup {
    let pending = group.pending.iter().map(|(id, pending)| PendingEntry {
        id: *id,
        consumer: pending.consumer.clone(),
        delivery_time_ms: pending.delivered_at_ms,
        delivery_count: pending.delivery_count,
    });
    let consumers = group.consumers.iter().map(|(name, consumer)| StreamConsumer {
        name: name.clone(),
        seen_time_ms: consumer.seen_at_ms,
        active_time_ms: consumer.active_at_ms,
    });
    StreamGroup {
        name: name.clone(),
        last_id: group.last_id,
        entries_read: group.entries_read,
        pending: pending.collect(),
        consumers: consumers.collect(),
    }
}
