//! Union, intersection and difference of sets and sorted sets.

use bytes::Bytes;
use hashbrown::HashMap;

use super::{Scored, reply};
use crate::engine::number::{int, parse_float};
use crate::engine::stop::{Answer, Reads, Stop, shown};
use crate::engine::value::{Kind, Score, Value, ZSet};
use crate::engine::{Call, Db, Keyspace, args};
use crate::resp::Reply;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, sum: f64, value: f64) -> f64 {
        match self {
            // Opposite infinities add up to 0.
            Aggregate::Sum => not_nan(sum + value),
            Aggregate::Min => {
                if value < sum {
                    value
                } else {
                    sum
                }
            }
            Aggregate::Max => {
                if value > sum {
                    value
                } else {
                    sum
                }
            }
        }
    }
}

fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

pub fn zunion(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Operation::Union)
}

pub fn zinter(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Operation::Inter)
}

pub fn zdiff(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Operation::Diff)
}

fn answer(ks: &mut Keyspace, call: &Call<'_>, operation: Operation) -> Answer<Reply> {
    let request = Request::read(ks, call, 1, operation)?;
    let mut members = request.combine(ks, call.db)?;
    members.sort_unstable_by(|a, b| (Score(a.1), &a.0).cmp(&(Score(b.1), &b.0)));
    Ok(reply(call, members, request.with_scores))
}

pub fn zunionstore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    store(ks, call, Operation::Union)
}

pub fn zinterstore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    store(ks, call, Operation::Inter)
}

pub fn zdiffstore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    store(ks, call, Operation::Diff)
}

fn store(ks: &mut Keyspace, call: &Call<'_>, operation: Operation) -> Answer<Reply> {
    let target = call.key()?;
    let request = Request::read(ks, call, 2, operation)?;
    let mut reads = Reads::default();
    let members = reads.of(request.combine(ks, call.db));
    reads.of(ks.kind(call.db, target));
    reads.done()?;
    let members = members.unwrap_or_default();
    let len = members.len() as i64;
    ks.put(call.db, target, Value::ZSet(ZSet::from_scores(members)), None)?;
    Ok(Reply::Int(len))
}

pub fn zintercard(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let request = Request::read(ks, call, 1, Operation::Inter)?;
    let len = request.combine(ks, call.db)?.len() as u64;
    Ok(Reply::Int(if request.limit == 0 { len } else { len.min(request.limit) } as i64))
}

struct Source<'a> {
    key: &'a Bytes,
    /// `None`: there is no such key.
    kind: Option<Kind>,
    len: u64,
    weight: f64,
}

struct Request<'a> {
    operation: Operation,
    sources: Vec<Source<'a>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// 0: none.
    limit: u64,
}

impl<'a> Request<'a> {
    /// `numkeys key … [options]` with `numkeys` at `first`. As in Redis, the types of the keys are
    /// looked at before the options.
    fn read(
        ks: &mut Keyspace,
        call: &Call<'a>,
        first: usize,
        operation: Operation,
    ) -> Answer<Request<'a>> {
        let numkeys = int(call.arg(first)?)?;
        if numkeys < 1 {
            let name = shown(call.arg(0)?).to_ascii_lowercase();
            return Err(Stop::failed(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
        let numkeys = usize::try_from(numkeys).unwrap_or(usize::MAX);
        let (keys, options) =
            call.args[first + 1..].split_at_checked(numkeys).ok_or(Stop::SYNTAX)?;
        let mut reads = Reads::default();
        let sources = keys
            .iter()
            .map(|key| {
                let found = reads.of(source_kind(ks, call.db, key)).flatten();
                let (kind, len) = found.map_or((None, 0), |(kind, len)| (Some(kind), len));
                Source { key, kind, len, weight: 1.0 }
            })
            .collect();
        reads.done()?;
        let mut request =
            Request { operation, sources, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        let store = first == 2;
        let card = call.arg(0)?.eq_ignore_ascii_case(b"zintercard");
        request.options(options, store, card)?;
        if operation != Operation::Diff {
            // The order in which scores are added decides their last bits.
            request.sources.sort_by_key(|source| source.len);
        }
        Ok(request)
    }

    fn options(&mut self, mut options: &[Bytes], store: bool, card: bool) -> Answer<()> {
        let weighted = self.operation != Operation::Diff && !card;
        while let [option, rest @ ..] = options {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if weighted && rest.len() >= self.sources.len() && is(b"weights") {
                let (weights, behind) = rest.split_at(self.sources.len());
                for (source, weight) in self.sources.iter_mut().zip(weights) {
                    source.weight = parse_float(weight)
                        .ok_or(Stop::error("ERR weight value is not a float"))?;
                }
                options = behind;
            } else if weighted && !rest.is_empty() && is(b"aggregate") {
                self.aggregate = match rest[0].to_ascii_lowercase().as_slice() {
                    b"sum" => Aggregate::Sum,
                    b"min" => Aggregate::Min,
                    b"max" => Aggregate::Max,
                    _ => return Err(Stop::SYNTAX),
                };
                options = &rest[1..];
            } else if !store && !card && is(b"withscores") {
                self.with_scores = true;
                options = rest;
            } else if card && !rest.is_empty() && is(b"limit") {
                let limit = args::ranged(&rest[0], 0, i64::MAX, "ERR LIMIT can't be negative")?;
                self.limit = limit.unsigned_abs();
                options = &rest[1..];
            } else {
                return Err(Stop::SYNTAX);
            }
        }
        Ok(())
    }

    fn combine(&self, ks: &mut Keyspace, db: Db) -> Answer<Vec<Scored>> {
        if self.operation == Operation::Union {
            return self.union(ks, db);
        }
        let Some((walked, others)) = self.sources.split_first() else { return Ok(Vec::new()) };
        let found = scores(ks, db, walked)?;
        let members: Vec<Bytes> = found.iter().map(|(member, _)| member.clone()).collect();
        let mut reads = Reads::default();
        for other in others {
            if let Some(kind) = other.kind {
                reads.of(ks.want_members(db, other.key, kind, &mut members.iter()));
            }
        }
        reads.done()?;
        let mut found: Vec<Scored> = match self.operation {
            Operation::Diff => found,
            _ => found.into_iter().map(|(m, s)| (m, not_nan(walked.weight * s))).collect(),
        };
        for other in others {
            let mut kept = Vec::with_capacity(found.len());
            for (member, score) in found {
                match (self.operation, score_in(ks, db, other, &member)?) {
                    (Operation::Diff, None) => kept.push((member, score)),
                    (Operation::Diff, Some(_)) | (_, None) => {}
                    (_, Some(value)) => {
                        kept.push((member, self.aggregate.of(score, value * other.weight)));
                    }
                }
            }
            found = kept;
        }
        Ok(found)
    }

    fn union(&self, ks: &mut Keyspace, db: Db) -> Answer<Vec<Scored>> {
        let mut reads = Reads::default();
        let mut sum: HashMap<Bytes, f64, ahash::RandomState> = HashMap::default();
        for source in &self.sources {
            for (member, score) in reads.of(scores(ks, db, source)).unwrap_or_default() {
                let score = not_nan(source.weight * score);
                sum.entry(member)
                    .and_modify(|sum| *sum = self.aggregate.of(*sum, score))
                    .or_insert(score);
            }
        }
        reads.done()?;
        Ok(sum.into_iter().collect())
    }
}

/// The type and length of a source, which has to be a set or a sorted set.
fn source_kind(ks: &mut Keyspace, db: Db, key: &Bytes) -> Answer<Option<(Kind, u64)>> {
    match ks.kind(db, key)? {
        None => Ok(None),
        Some(kind @ (Kind::Set | Kind::ZSet)) => Ok(Some((kind, ks.len(db, key, kind)?))),
        Some(_) => Err(Stop::WRONG_TYPE),
    }
}

/// All members of a source; those of a set have score 1.
fn scores(ks: &mut Keyspace, db: Db, source: &Source<'_>) -> Answer<Vec<Scored>> {
    Ok(match source.kind {
        Some(Kind::Set) => {
            let set = ks.set_all(db, source.key)?.into_iter().flat_map(|set| set.iter());
            set.map(|(member, ())| (member.clone(), 1.0)).collect()
        }
        Some(_) => {
            let zset = ks.zset_all(db, source.key)?;
            let known = zset.into_iter().flat_map(|zset| &zset.known);
            known.filter_map(|(member, score)| Some((member.clone(), (*score)?))).collect()
        }
        None => Vec::new(),
    })
}

fn score_in(ks: &mut Keyspace, db: Db, source: &Source<'_>, member: &Bytes) -> Answer<Option<f64>> {
    match source.kind {
        Some(Kind::Set) => Ok(ks.set_contains(db, source.key, member)?.then_some(1.0)),
        Some(_) => ks.zset_score(db, source.key, member),
        None => Ok(None),
    }
}
