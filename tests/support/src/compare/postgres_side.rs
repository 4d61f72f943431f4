use std::collections::HashMap;

use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, Error, IsolationLevel, NoTls, Row, Transaction};

use super::{Entry, FUNCTIONS, Group, KeyName, Keyspace, Stream, StreamId, Value};

/// The keys by the id that their rows hang on.
type Keys = HashMap<i64, (KeyName, Entry, i64)>;

/// Reads all tables in one snapshot. What contradicts itself there is in the second part: rows of no key,
/// and lengths that are not those of the value.
pub(super) fn read(url: &str, schema: &str) -> Result<(Keyspace, Vec<String>), Error> {
    let mut client = connect(url, schema)?;
    let mut tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()?;
    let mut keys = keys(&mut tx)?;
    let mut faults = Vec::new();
    for (table, columns, order, add) in TABLES {
        let sql = format!("SELECT key_id, {columns} FROM {table} {order}");
        let mut orphans = 0;
        rows(&mut tx, &sql, |row| match keys.get_mut(&row.get(0)) {
            Some((name, entry, _)) => {
                if !add(&mut entry.value, row) {
                    faults.push(format!("{name}: a row in {table} for a {}", entry.value.kind()));
                }
            }
            None => orphans += 1,
        })?;
        if orphans > 0 {
            faults.push(format!("{table}: {orphans} rows of no key"));
        }
    }
    for (name, entry, len) in keys.values() {
        let actual = entry.value.count();
        if actual.is_some_and(|actual| actual != *len) {
            faults.push(format!("{name}: keys.len is {len}, the value has {actual:?}"));
        }
    }
    let mut keyspace: Keyspace = keys.into_values().map(|(name, entry, _)| (name, entry)).collect();
    rows(&mut tx, "SELECT name, source FROM functions", |row| {
        let name = KeyName { db: FUNCTIONS, key: row.get(0) };
        let value = Value::Function(row.get(1));
        keyspace.insert(name, Entry { expires_at_ms: None, value });
    })?;
    Ok((keyspace, faults))
}

fn keys(tx: &mut Transaction) -> Result<Keys, Error> {
    let mut keys = Keys::new();
    rows(tx, "SELECT id, db, key, kind, expires_at_ms, len FROM keys", |row| {
        let value = match row.get::<_, i16>(3) {
            1 => Value::String(Vec::new()),
            2 => Value::List(Vec::new()),
            3 => Value::Set(Default::default()),
            4 => Value::ZSet(Default::default()),
            5 => Value::Hash(Default::default()),
            6 => Value::Stream(Box::default()),
            _ => Value::Other(Vec::new()),
        };
        let name = KeyName { db: row.get(1), key: row.get(2) };
        keys.insert(row.get(0), (name, Entry { expires_at_ms: row.get(4), value }, row.get(5)));
    })?;
    Ok(keys)
}

/// Adds one row to a value; false when the value is of another type.
type Add = fn(&mut Value, &Row) -> bool;

/// Table, columns after `key_id`, order, and how a row becomes part of a value.
const TABLES: &[(&str, &str, &str, Add)] = &[
    ("strings", "value", "", |value, row| match value {
        Value::String(bytes) => set(bytes, row.get(1)),
        _ => false,
    }),
    ("hashes", "field, value", "", |value, row| match value {
        Value::Hash(fields) => fields.insert(row.get(1), row.get(2)).is_none(),
        _ => false,
    }),
    ("sets", "member", "", |value, row| match value {
        Value::Set(members) => members.insert(row.get(1)),
        _ => false,
    }),
    ("zsets", "member, score", "", |value, row| match value {
        Value::ZSet(members) => {
            members.insert(row.get(1), row.get::<_, f64>(2).to_bits()).is_none()
        }
        _ => false,
    }),
    ("lists", "value", "ORDER BY key_id, pos", |value, row| match value {
        Value::List(items) => push(items, row.get(1)),
        _ => false,
    }),
    (
        "streams",
        "last_ms::text, last_seq::text, max_deleted_ms::text, max_deleted_seq::text, entries_added::text",
        "",
        |value, row| {
            with_stream(value, |stream| {
                stream.last_id = id(row, 1);
                stream.max_deleted_id = id(row, 3);
                stream.entries_added = number(row, 5);
            })
        },
    ),
    ("stream_entries", "ms::text, seq::text, fields", "", |value, row| {
        with_stream(value, |stream| {
            stream.entries.insert(id(row, 1), row.get(3));
        })
    }),
    ("stream_groups", "name, last_ms::text, last_seq::text", "", |value, row| {
        with_group(value, row, |group| {
            group.last_id = id(row, 2);
        })
    }),
    ("stream_consumers", "group_name, name", "", |value, row| {
        with_group(value, row, |group| {
            group.consumers.insert(row.get(2));
        })
    }),
    (
        "stream_pending",
        "group_name, ms::text, seq::text, consumer, delivered_at_ms, delivery_count::int8",
        "",
        |value, row| {
            with_group(value, row, |group| {
                group.pending.insert(id(row, 2), (row.get(4), row.get(5), row.get(6)));
            })
        },
    ),
    ("opaque", "dump", "", |value, row| match value {
        Value::Other(dump) => set(dump, row.get(1)),
        _ => false,
    }),
];

fn set(slot: &mut Vec<u8>, bytes: Vec<u8>) -> bool {
    *slot = bytes;
    true
}

fn push(items: &mut Vec<Vec<u8>>, item: Vec<u8>) -> bool {
    items.push(item);
    true
}

fn with_stream(value: &mut Value, change: impl FnOnce(&mut Stream)) -> bool {
    let Value::Stream(stream) = value else { return false };
    change(stream);
    true
}

/// Column 1 is the group's name.
fn with_group(value: &mut Value, row: &Row, change: impl FnOnce(&mut Group)) -> bool {
    with_stream(value, |stream| change(stream.groups.entry(row.get(1)).or_default()))
}

fn id(row: &Row, column: usize) -> StreamId {
    (number(row, column), number(row, column + 1))
}

/// An unsigned 64-bit number, selected as text.
fn number(row: &Row, column: usize) -> u64 {
    let text: &str = row.get(column);
    text.parse().unwrap_or_else(|_| panic!("{text} is no unsigned 64-bit number"))
}

fn rows(tx: &mut Transaction, sql: &str, mut each: impl FnMut(&Row)) -> Result<(), Error> {
    let mut rows = tx.query_raw(sql, std::iter::empty::<&(dyn ToSql + Sync)>())?;
    while let Some(row) = rows.next()? {
        each(&row);
    }
    Ok(())
}

/// The value of a string key in database 0.
pub(super) fn string(url: &str, schema: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let mut client = connect(url, schema)?;
    let row = client.query_opt(
        "SELECT value FROM keys JOIN strings ON key_id = id WHERE db = 0 AND key = $1",
        &[&key.as_bytes()],
    )?;
    Ok(row.map(|row| row.get(0)))
}

/// How many keys wait to be read again from Redis; none when PostgreSQL does not say.
pub(super) fn rereads(url: &str, schema: &str) -> Option<i64> {
    let row = connect(url, schema).ok()?.query_one("SELECT count(*) FROM rereads", &[]).ok()?;
    Some(row.get(0))
}

fn connect(url: &str, schema: &str) -> Result<Client, Error> {
    let mut client = Client::connect(url, NoTls)?;
    client.batch_execute(&format!("SET search_path = \"{}\"", schema.replace('"', "\"\"")))?;
    Ok(client)
}

/// With the server's own words, which `Display` leaves out.
pub(super) fn explain(error: &Error) -> String {
    match error.as_db_error() {
        Some(e) => format!("{}: {}", e.severity(), e.message()),
        None => error.to_string(),
    }
}
