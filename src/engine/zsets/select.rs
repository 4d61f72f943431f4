//! Members of a sorted set by rank, score or bytes.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Scored;
use super::bounds::{LexRange, Scores};
use crate::engine::keyspace::{MOST, places};
use crate::engine::stop::{Answer, Window};
use crate::engine::value::{Kind, Score, ZSet};
use crate::engine::{Db, Keyspace, args};

type Ordered = BTreeSet<(Score, Bytes)>;
type Element = (Score, Bytes);

/// Which members, in which order.
#[derive(Clone, Debug)]
pub struct Selection {
    pub by: By,
    pub reverse: bool,
    /// Members skipped; negative: none is left.
    pub offset: i64,
    /// Members at most; negative: all.
    pub limit: i64,
}

#[derive(Clone, Debug)]
pub enum By {
    Rank(i64, i64),
    Score(Scores),
    Lex(LexRange),
}

impl Selection {
    pub fn all(by: By) -> Selection {
        Selection { by, reverse: false, offset: 0, limit: -1 }
    }

    /// The members selected of the sorted set at `key`; none when there is no such key.
    pub fn members(&self, ks: &mut Keyspace, db: Db, key: &Bytes) -> Answer<Vec<Scored>> {
        if let Some(len) = ks.large(db, key, Kind::ZSet)?
            && let Some(members) = self.in_window(ks, db, key, len)?
        {
            return Ok(members);
        }
        Ok(ks.zset_all(db, key)?.map(|zset| self.of(zset)).unwrap_or_default())
    }

    /// The members of a large sorted set of which little is in memory; `None`: it has to be.
    fn in_window(
        &self,
        ks: &Keyspace,
        db: Db,
        key: &Bytes,
        len: u64,
    ) -> Answer<Option<Vec<Scored>>> {
        match &self.by {
            By::Rank(start, stop) => match args::span(*start, *stop, len) {
                None => Ok(Some(Vec::new())),
                Some((_, count)) if count > MOST => Ok(None),
                Some((start, count)) => {
                    let (window, turned) = places(start, count, len, self.reverse);
                    let mut members = ks.window_members(db, key, window, MOST)?;
                    if turned {
                        members.reverse();
                    }
                    Ok(Some(members))
                }
            },
            By::Score(scores) => {
                let Some((min, max)) = scores.inclusive() else { return Ok(Some(Vec::new())) };
                let (Ok(skip), true) = (u64::try_from(self.offset), self.limit != 0) else {
                    return Ok(Some(Vec::new()));
                };
                // One more tells that there are too many.
                let count = u64::try_from(self.limit).unwrap_or(u64::MAX).min(MOST + 1);
                let window = Window::Scores { min, max, skip, count, reverse: self.reverse };
                Ok(Some(ks.window_members(db, key, window, MOST)?))
            }
            By::Lex(_) => Ok(None),
        }
    }

    pub fn of(&self, zset: &ZSet) -> Vec<Scored> {
        let Some(ordered) = &zset.ordered else { return Vec::new() };
        match &self.by {
            By::Rank(start, stop) => {
                let Some((start, count)) = args::span(*start, *stop, zset.len) else {
                    return Vec::new();
                };
                // Walked from the nearer end.
                let (skip, count) = (start as usize, count as usize);
                let behind = ordered.len() - skip - count;
                let mut found: Vec<Scored> = match (self.reverse, skip <= behind) {
                    (false, true) => ordered.iter().skip(skip).take(count).map(scored).collect(),
                    (true, true) => {
                        ordered.iter().rev().skip(skip).take(count).map(scored).collect()
                    }
                    (false, false) => {
                        ordered.iter().rev().skip(behind).take(count).map(scored).collect()
                    }
                    (true, false) => ordered.iter().skip(behind).take(count).map(scored).collect(),
                };
                if skip > behind {
                    found.reverse();
                }
                found
            }
            By::Score(scores) => match scores.range() {
                None => Vec::new(),
                Some(range) if self.reverse => self.cut(ordered.range(range).rev()),
                Some(range) => self.cut(ordered.range(range)),
            },
            By::Lex(range) if self.reverse => {
                // With several scores, Redis starts at the outermost member inside the near bound.
                let inside = ordered.iter().rev().skip_while(|(_, m)| !range.within_max(m));
                self.cut_lex(inside, |m| range.reaches_min(m), ordered, range)
            }
            By::Lex(range) => {
                let inside = ordered.iter().skip_while(|(_, m)| !range.reaches_min(m));
                self.cut_lex(inside, |m| range.within_max(m), ordered, range)
            }
        }
    }

    fn cut_lex<'a>(
        &self,
        members: impl Iterator<Item = &'a Element>,
        inside: impl Fn(&Bytes) -> bool,
        ordered: &Ordered,
        range: &LexRange,
    ) -> Vec<Scored> {
        let touches = ordered.first().is_some_and(|(_, m)| range.within_max(m))
            && ordered.last().is_some_and(|(_, m)| range.reaches_min(m));
        let mut members = members.peekable();
        if !touches || !members.peek().is_some_and(|(_, m)| inside(m)) {
            return Vec::new();
        }
        // The offset is counted before the far bound is looked at.
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        members.skip(offset).take(limit).take_while(|(_, m)| inside(m)).map(scored).collect()
    }

    fn cut<'a>(&self, members: impl Iterator<Item = &'a Element>) -> Vec<Scored> {
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        members.skip(offset).take(limit).map(scored).collect()
    }
}

fn scored((score, member): &Element) -> Scored {
    (member.clone(), score.0)
}
