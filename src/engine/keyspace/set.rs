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

    /// The set with what is known of it.
    pub fn set_known(&mut self, db: Db, key: &Bytes) -> Answer<Option<&Members<()>>> {
        match self.typed(db, key, Kind::Set, || Part::Meta)? {
            Some(Value::Set(set)) => Ok(Some(set)),
            _ => Ok(None),
        }
    }

    /// Adds members, creating the set; the number of new ones.
    pub fn set_add(&mut self, db: Db, key: &Bytes, members: &[Bytes]) -> Answer<u64> {
        self.want_members(db, key, Kind::Set, &mut members.iter())?;
        let new: Vec<&Bytes> = match self.set_known(db, key)? {
            Some(set) => {
                members.iter().filter(|m| set.get(m).is_none_or(|there| there.is_none())).collect()
            }
            None => members.iter().collect(),
        };
        if new.is_empty() {
            return Ok(0);
        }
        self.ensure(db, key, Kind::Set, || Part::Meta)?;
        self.grown += new.iter().map(|member| member.len() + 64).sum::<usize>();
        self.keep_members(db, key, &new);
        let added = self.change(db, key, |value, rows| {
            let (Value::Set(set), Rows::Set(rows)) = (value, rows) else { return 0 };
            let mut added = 0;
            for member in new {
                rows.insert(member.clone(), Some(()));
                added += u64::from(set.insert(member.clone(), ()));
            }
            added
        });
        Ok(added.unwrap_or(0))
    }

    /// Removes members, and the set with its last one; the number of those that were there.
    pub fn set_remove(&mut self, db: Db, key: &Bytes, members: &[Bytes]) -> Answer<u64> {
        self.want_members(db, key, Kind::Set, &mut members.iter())?;
        let Some(set) = self.set_known(db, key)? else { return Ok(0) };
        let gone: Vec<&Bytes> =
            members.iter().filter(|m| set.get(m).is_some_and(|there| there.is_some())).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        self.keep_members(db, key, &gone);
        let removed = self.change(db, key, |value, rows| {
            let (Value::Set(set), Rows::Set(rows)) = (value, rows) else { return 0 };
            let mut removed = 0;
            for member in gone {
                rows.insert(member.clone(), None);
                removed += u64::from(set.remove(member));
            }
            removed
        });
        Ok(removed.unwrap_or(0))
    }
}
