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

    /// The sorted set with what is known of it.
    pub fn zset_known(&mut self, db: Db, key: &Bytes) -> Answer<Option<&ZSet>> {
        match self.typed(db, key, Kind::ZSet, || Part::Meta)? {
            Some(Value::ZSet(zset)) => Ok(Some(zset)),
            _ => Ok(None),
        }
    }

    /// Sets members' scores, creating the sorted set. No score is NaN.
    pub fn zset_set(&mut self, db: Db, key: &Bytes, scores: &[(Bytes, f64)]) -> Answer<()> {
        self.want_members(db, key, Kind::ZSet, &mut scores.iter().map(|(member, _)| member))?;
        if scores.is_empty() {
            return Ok(());
        }
        self.ensure(db, key, Kind::ZSet, || Part::Meta)?;
        self.grown += scores.iter().map(|(member, _)| member.len() + 128).sum::<usize>();
        self.keep_members(db, key, &scores.iter().map(|(member, _)| member).collect::<Vec<_>>());
        self.change(db, key, |value, rows| {
            let (Value::ZSet(zset), Rows::ZSet(rows)) = (value, rows) else { return };
            for (member, score) in scores {
                let members = zset.known.keys().chain(std::iter::once(member));
                let score = match zset.skiplist {
                    true => *score,
                    false => stored_score(*score, zset.len, members),
                };
                rows.insert(member.clone(), Some(score));
                zset.insert(member.clone(), score);
                zset.skiplist |= zset.len > LISTPACK_LEN || member.len() > LISTPACK_MEMBER;
            }
        });
        Ok(())
    }

    /// Removes members, and the sorted set with its last one; the number of those that were there.
    pub fn zset_remove(&mut self, db: Db, key: &Bytes, members: &[Bytes]) -> Answer<u64> {
        self.want_members(db, key, Kind::ZSet, &mut members.iter())?;
        let Some(zset) = self.zset_known(db, key)? else { return Ok(0) };
        let gone: Vec<&Bytes> =
            members.iter().filter(|m| zset.score(m).is_some_and(|score| score.is_some())).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        self.keep_members(db, key, &gone);
        let removed = self.change(db, key, |value, rows| {
            let (Value::ZSet(zset), Rows::ZSet(rows)) = (value, rows) else { return 0 };
            let mut removed = 0;
            for member in gone {
                rows.insert(member.clone(), None);
                removed += u64::from(zset.remove(member).is_some());
            }
            removed
        });
        Ok(removed.unwrap_or(0))
    }
}

/// Limits of a listpack, Redis's defaults: members, and bytes of one.
const LISTPACK_LEN: u64 = 128;
const LISTPACK_MEMBER: usize = 64;

/// A small sorted set is a listpack in Redis, which keeps whole scores as integers: -0 becomes 0.
fn stored_score<'a>(score: f64, len: u64, mut members: impl Iterator<Item = &'a Bytes>) -> f64 {
    let negative_zero = score == 0.0 && score.is_sign_negative();
    if negative_zero && len <= LISTPACK_LEN && members.all(|member| member.len() <= LISTPACK_MEMBER)
    {
        0.0
    } else {
        score
    }
}

impl ZSet {
    /// A complete sorted set of these distinct members.
    pub fn from_scores(scores: impl IntoIterator<Item = (Bytes, f64)>) -> ZSet {
        let scores: Vec<(Bytes, f64)> = scores.into_iter().collect();
        let len = scores.len() as u64;
        let mut zset = ZSet::new();
        for (member, score) in &scores {
            zset.insert(member.clone(), stored_score(*score, len, scores.iter().map(|(m, _)| m)));
        }
        let long = |(member, _): &(Bytes, f64)| member.len() > LISTPACK_MEMBER;
        zset.skiplist = len > LISTPACK_LEN || scores.iter().any(long);
        zset
    }
}
