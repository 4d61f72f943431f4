use bytes::Bytes;

use super::Keyspace;
use crate::engine::Db;
use crate::engine::delta::Rows;
use crate::engine::stop::{Answer, Part, Stop};
use crate::engine::value::{Kind, Members, Value};

impl Keyspace {
    /// One field.
    pub fn hash_get(&mut self, db: Db, key: &Bytes, field: &Bytes) -> Answer<Option<Bytes>> {
        let part = || Part::Members(vec![field.clone()]);
        let Some(Value::Hash(hash)) = self.typed(db, key, Kind::Hash, part)? else {
            return Ok(None);
        };
        match hash.get(field) {
            Some(value) => Ok(value.cloned()),
            None => Err(Stop::need(db, key, part())),
        }
    }

    /// Raises one need for all of these members that are not known, of a hash, set or sorted set.
    /// Call it before a command that changes several of them.
    pub fn want_members(
        &mut self,
        db: Db,
        key: &Bytes,
        kind: Kind,
        members: &mut dyn Iterator<Item = &Bytes>,
    ) -> Answer<()> {
        let missing: Vec<Bytes> = match self.typed(db, key, kind, || Part::Meta) {
            Err(Stop::NotLoaded(_)) => members.cloned().collect(),
            Err(other) => return Err(other),
            Ok(None) => return Ok(()),
            Ok(Some(Value::Hash(hash))) => {
                members.filter(|m| hash.get(m).is_none()).cloned().collect()
            }
            Ok(Some(Value::Set(set))) => {
                members.filter(|m| set.get(m).is_none()).cloned().collect()
            }
            Ok(Some(Value::ZSet(zset))) => {
                members.filter(|m| zset.score(m).is_none()).cloned().collect()
            }
            Ok(Some(_)) => return Ok(()),
        };
        if missing.is_empty() && self.kind(db, key).is_ok() {
            return Ok(());
        }
        Err(Stop::need(db, key, Part::Members(missing)))
    }

    /// The complete hash.
    pub fn hash_all(&mut self, db: Db, key: &Bytes) -> Answer<Option<&Members<Bytes>>> {
        match self.typed(db, key, Kind::Hash, || Part::All)? {
            None => Ok(None),
            Some(Value::Hash(hash)) if hash.complete => Ok(Some(hash)),
            Some(_) => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// Sets a field, creating the hash; true when the field is new.
    pub fn hash_set(&mut self, db: Db, key: &Bytes, field: &Bytes, content: Bytes) -> Answer<bool> {
        self.want_members(db, key, Kind::Hash, &mut std::iter::once(field))?;
        self.ensure(db, key, Kind::Hash, || Part::Meta)?;
        self.grown += field.len() + content.len() + 64;
        self.keep_members(db, key, &[field]);
        let new = self.change(db, key, |value, rows| {
            let (Value::Hash(hash), Rows::Hash(rows)) = (value, rows) else { return false };
            rows.insert(field.clone(), Some(content.clone()));
            hash.insert(field.clone(), content)
        });
        Ok(new.unwrap_or(false))
    }

    /// Removes a field, and the hash with its last one; true when it was there.
    pub fn hash_remove(&mut self, db: Db, key: &Bytes, field: &Bytes) -> Answer<bool> {
        if self.hash_get(db, key, field)?.is_none() {
            return Ok(false);
        }
        self.keep_members(db, key, &[field]);
        self.change(db, key, |value, rows| {
            let (Value::Hash(hash), Rows::Hash(rows)) = (value, rows) else { return };
            rows.insert(field.clone(), None);
            hash.remove(field);
        });
        Ok(true)
    }
}
