//! The merged changes of many commands as a few statements per table.

use hashbrown::HashMap;

use super::batch::{Batch, Call};
use super::statements::Statements;
use super::streams;
use crate::engine::delta::{Changes, KeyChange, KeyId, Rows};
use crate::engine::value::Kind;
use crate::store::{StoreError, db_column};

/// The statements for `changes`, in the order in which they have to run.
pub fn calls<'a>(
    statements: &'a Statements,
    changes: &'a Changes,
) -> Result<Vec<Call<'a>>, StoreError> {
    let mut calls = Vec::with_capacity(8);
    drop_keys(statements, &changes.dropped, &mut calls)?;
    keys(statements, &changes.keys, &mut calls)?;
    rows(statements, &changes.keys, &mut calls)?;
    Ok(calls)
}

fn drop_keys<'a>(
    statements: &'a Statements,
    dropped: &HashMap<KeyId, Kind>,
    calls: &mut Vec<Call<'a>>,
) -> Result<(), StoreError> {
    let mut keys = Batch::<(i64,)>::new(&statements.keys_delete);
    for id in dropped.keys() {
        keys.add(0, (*id,));
    }
    keys.finish(calls)?;
    for kind in Kind::ALL {
        for table in tables(statements, kind) {
            let mut rows = Batch::<(i64,)>::new(table);
            for (id, _) in dropped.iter().filter(|(_, dropped)| **dropped == kind) {
                rows.add(0, (*id,));
            }
            rows.finish(calls)?;
        }
    }
    Ok(())
}

/// What deletes the rows of a value of type `kind`.
fn tables(statements: &Statements, kind: Kind) -> Vec<&tokio_postgres::Statement> {
    match kind {
        Kind::String => vec![&statements.strings_drop],
        Kind::List => vec![&statements.lists_drop],
        Kind::Set => vec![&statements.sets_drop],
        Kind::ZSet => vec![&statements.zsets_drop],
        Kind::Hash => vec![&statements.hashes_drop],
        Kind::Stream => vec![
            &statements.streams_drop,
            &statements.entries_drop,
            &statements.groups_drop,
            &statements.consumers_drop,
            &statements.pending_drop,
        ],
        Kind::Opaque => vec![&statements.opaque_drop],
    }
}

fn keys<'a>(
    statements: &'a Statements,
    keys: &'a HashMap<KeyId, KeyChange>,
    calls: &mut Vec<Call<'a>>,
) -> Result<(), StoreError> {
    let mut park = Batch::new(&statements.keys_park);
    let mut insert = Batch::new(&statements.keys_insert);
    let mut rename = Batch::new(&statements.keys_rename);
    let mut update = Batch::new(&statements.keys_update);
    for (id, key) in keys {
        let name = &key.key[..];
        let db = db_column(key.db);
        let len = i64::try_from(key.len).unwrap_or(i64::MAX);
        if key.created {
            let kind = key.kind as i16;
            let row = (*id, db, name, kind, key.expires_at_ms, len, key.version);
            insert.add(name.len(), row);
            continue;
        }
        if key.renamed {
            park.add(0, (*id,));
            rename.add(name.len(), (*id, db, name));
        }
        update.add(0, (*id, key.expires_at_ms, len, key.version));
    }
    park.finish(calls)?;
    insert.finish(calls)?;
    rename.finish(calls)?;
    update.finish(calls)
}

fn rows<'a>(
    statements: &'a Statements,
    keys: &'a HashMap<KeyId, KeyChange>,
    calls: &mut Vec<Call<'a>>,
) -> Result<(), StoreError> {
    let mut strings_insert = Batch::new(&statements.strings_insert);
    let mut strings_update = Batch::new(&statements.strings_update);
    let mut hashes_insert = Batch::new(&statements.hashes_insert);
    let mut hashes_upsert = Batch::new(&statements.hashes_upsert);
    let mut hashes_delete = Batch::new(&statements.hashes_delete);
    let mut sets_insert = Batch::new(&statements.sets_insert);
    let mut sets_delete = Batch::new(&statements.sets_delete);
    let mut zsets_insert = Batch::new(&statements.zsets_insert);
    let mut zsets_upsert = Batch::new(&statements.zsets_upsert);
    let mut zsets_delete = Batch::new(&statements.zsets_delete);
    let mut lists_insert = Batch::new(&statements.lists_insert);
    let mut lists_upsert = Batch::new(&statements.lists_upsert);
    let mut lists_delete = Batch::new(&statements.lists_delete);
    let mut opaque = Batch::new(&statements.opaque_upsert);
    let mut streams = streams::Batches::new(statements);
    for (&id, key) in keys {
        // Of a new key, PostgreSQL has no rows that could be in the way.
        let created = key.created;
        match &key.rows {
            Rows::String(None) | Rows::Opaque(None) => {}
            Rows::String(Some(value)) => {
                let batch = if created { &mut strings_insert } else { &mut strings_update };
                batch.add(value.len(), (id, &value[..]));
            }
            Rows::Opaque(Some(dump)) => opaque.add(dump.len(), (id, &dump[..])),
            Rows::Hash(fields) => {
                for (field, value) in fields {
                    let Some(value) = value else {
                        hashes_delete.add(field.len(), (id, &field[..]));
                        continue;
                    };
                    let batch = if created { &mut hashes_insert } else { &mut hashes_upsert };
                    batch.add(field.len() + value.len(), (id, &field[..], &value[..]));
                }
            }
            Rows::Set(members) => {
                for (member, there) in members {
                    let batch = if there.is_some() { &mut sets_insert } else { &mut sets_delete };
                    batch.add(member.len(), (id, &member[..]));
                }
            }
            Rows::ZSet(members) => {
                for (member, score) in members {
                    let Some(score) = *score else {
                        zsets_delete.add(member.len(), (id, &member[..]));
                        continue;
                    };
                    let batch = if created { &mut zsets_insert } else { &mut zsets_upsert };
                    batch.add(member.len(), (id, &member[..], score));
                }
            }
            Rows::List(elements) => {
                for (&pos, value) in elements {
                    let Some(value) = value else {
                        lists_delete.add(0, (id, pos));
                        continue;
                    };
                    let batch = if created { &mut lists_insert } else { &mut lists_upsert };
                    batch.add(value.len(), (id, pos, &value[..]));
                }
            }
            Rows::Stream(rows) => streams.add(id, rows),
        }
    }
    for batch in [strings_insert, strings_update, hashes_delete, sets_delete, zsets_delete, opaque]
    {
        batch.finish(calls)?;
    }
    sets_insert.finish(calls)?;
    for batch in [hashes_insert, hashes_upsert] {
        batch.finish(calls)?;
    }
    for batch in [zsets_insert, zsets_upsert] {
        batch.finish(calls)?;
    }
    lists_delete.finish(calls)?;
    for batch in [lists_insert, lists_upsert] {
        batch.finish(calls)?;
    }
    streams.finish(calls)
}
