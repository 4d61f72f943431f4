use bytes::Bytes;

use super::Keyspace;
use crate::engine::Db;
use crate::engine::delta::Rows;
use crate::engine::stop::{Answer, Part, Stop};
use crate::engine::value::{Kind, Value, ZSet};

impl Keyspace {
    /// The score of a member.
    pub fn zset_score(&mut self, db: Db, key: &Bytes, member: &Bytes) -> Answer<Option<f64>> {
        let part = || Part::Members(vec![member.clone()]);
        let Some(Value::ZSet(zset)) = self.typed(db, key, Kind::ZSet, part)? else {
            return Ok(None);
        };
        zset.score(member).ok_or_else(|| Stop::need(db, key, part()))
    }

    /// The complete sorted set; its `ordered` is there.
    pub fn zset_all(&mut self, db: Db, key: &Bytes) -> Answer<Option<&ZSet>> {
        match self.typed(db, key, Kind::ZSet, || Part::All)? {
            None => Ok(None),
            Some(Value::ZSet(zset)) if zset.ordered.is_some() => Ok(Some(zset)),
            Some(_) => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// Sets a member's score, creating the sorted set; the old score. `score` is not NaN.
    pub fn zset_set(
        &mut self,
        db: Db,
        key: &Bytes,
        member: &Bytes,
        score: f64,
    ) -> Answer<Option<f64>> {
        let old = self.zset_score(db, key, member)?;
        // As in Redis, -0 does not replace 0.
        if old == Some(score) {
            return Ok(old);
        }
        self.ensure(db, key, Kind::ZSet, || Part::Meta)?;
        self.grown += member.len() + 128;
        self.change(db, key, |value, rows| {
            let (Value::ZSet(zset), Rows::ZSet(rows)) = (value, rows) else { return };
            rows.insert(member.clone(), Some(score));
            zset.insert(member.clone(), score);
        });
        Ok(old)
    }

    /// Removes a member, and the sorted set with its last one; its score.
    pub fn zset_remove(&mut self, db: Db, key: &Bytes, member: &Bytes) -> Answer<Option<f64>> {
        let Some(score) = self.zset_score(db, key, member)? else { return Ok(None) };
        self.change(db, key, |value, rows| {
            let (Value::ZSet(zset), Rows::ZSet(rows)) = (value, rows) else { return };
            rows.insert(member.clone(), None);
            zset.remove(member);
        });
        Ok(Some(score))
    }
}
