//! Cheap looks at many keys: how large they are, and how many there are.

use super::{Db, Store, StoreError, db_column};
use crate::engine::delta::KeyId;
use crate::engine::value::Kind;
use bytes::Bytes;

/// How much of a value there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Elements, fields, members or entries; 1 for a string.
    pub len: u64,
    /// Bytes of a string; 0 for other types.
    pub bytes: u64,
}

impl Store {
    /// How large the keys are, in their order; `None`: there is no such key.
    pub async fn sizes(&self, names: &[(Db, Bytes)]) -> Result<Vec<Option<Size>>, StoreError> {
        let mut sizes = vec![None; names.len()];
        if names.is_empty() {
            return Ok(sizes);
        }
        let dbs: Vec<i32> = names.iter().map(|(db, _)| db_column(*db)).collect();
        let keys: Vec<&[u8]> = names.iter().map(|(_, key)| &key[..]).collect();
        let statement = &self.loads().await?.sizes;
        let client = self.session.client();
        let rows = self.session.run(client.query(statement, &[&dbs, &keys])).await?;
        for row in rows {
            let (number, len): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let bytes: i32 = row.try_get(2)?;
            let slot = usize::try_from(number - 1).ok().and_then(|at| sizes.get_mut(at));
            if let Some(slot) = slot {
                *slot =
                    Some(Size { len: len.unsigned_abs(), bytes: u64::from(bytes.unsigned_abs()) });
            }
        }
        Ok(sizes)
    }

    /// Length in bytes and SHA-256 of a string's content; `None`: it has no row.
    pub async fn digest(&self, id: KeyId) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let query = "SELECT octet_length(value), sha256(value) FROM strings WHERE key_id = $1";
        let row = self.session.run(self.session.client().query_opt(query, &[&id])).await?;
        row.map(|row| {
            let len: i32 = row.try_get(0)?;
            Ok((u64::from(len.unsigned_abs()), row.try_get(1)?))
        })
        .transpose()
    }

    /// How many rows hold the value of a key.
    pub async fn rows(&self, id: KeyId, kind: Kind) -> Result<u64, StoreError> {
        let table = match kind {
            Kind::String => "strings",
            Kind::List => "lists",
            Kind::Set => "sets",
            Kind::ZSet => "zsets",
            Kind::Hash => "hashes",
            Kind::Stream => "stream_entries",
            Kind::Opaque => "opaque",
        };
        let query = format!("SELECT count(*) FROM {table} WHERE key_id = $1");
        let row = self.session.run(self.session.client().query_one(&query, &[&id])).await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }

    /// How many keys there are.
    pub async fn count(&self) -> Result<u64, StoreError> {
        let query = "SELECT count(*) FROM keys";
        let row = self.session.run(self.session.client().query_one(query, &[])).await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }
}
