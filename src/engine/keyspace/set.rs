use bytes::Bytes;

use super::Keyspace;
use crate::engine::Db;
use crate::engine::delta::Rows;
use crate::engine::stop::{Answer, Part, Stop};
use crate::engine::value::{Kind, Members, Value};

impl Keyspace {
    pub fn set_contains(&mut self, db: Db, key: &Bytes, member: &Bytes) -> Answer<bool> {
        let part = || Part::Members(vec![member.clone()]);
        let Some(Value::Set(set)) = self.typed(db, key, Kind::Set, part)? else { return Ok(false) };
        match set.get(member) {
            Some(there) => Ok(there.is_some()),
            None => Err(Stop::need(db, key, part())),
        }
    }

    /// The complete set.
    pub fn set_all(&mut self, db: Db, key: &Bytes) -> Answer<Option<&Members<()>>> {
        match self.typed(db, key, Kind::Set, || Part::All)? {
            None => Ok(None),
            Some(Value::Set(set)) if set.complete => Ok(Some(set)),
            Some(_) => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// Adds a member, creating the set; true when it is new.
    pub fn set_add(&mut self, db: Db, key: &Bytes, member: &Bytes) -> Answer<bool> {
        if self.set_contains(db, key, member)? {
            return Ok(false);
        }
        self.ensure(db, key, Kind::Set, || Part::Meta)?;
        self.grown += member.len() + 64;
        self.change(db, key, |value, rows| {
            let (Value::Set(set), Rows::Set(rows)) = (value, rows) else { return };
            rows.insert(member.clone(), Some(()));
            set.insert(member.clone(), ());
        });
        Ok(true)
    }

    /// Removes a member, and the set with its last one; true when it was there.
    pub fn set_remove(&mut self, db: Db, key: &Bytes, member: &Bytes) -> Answer<bool> {
        if !self.set_contains(db, key, member)? {
            return Ok(false);
        }
        self.change(db, key, |value, rows| {
            let (Value::Set(set), Rows::Set(rows)) = (value, rows) else { return };
            rows.insert(member.clone(), None);
            set.remove(member);
        });
        Ok(true)
    }
}
