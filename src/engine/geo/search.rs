use bytes::Bytes;

use super::area::Area;
use super::hash::Position;
use super::request::{Form, Options, Sort, radius};
use super::{coordinates, distance_reply, position};
use crate::engine::partial_sort::sort_for;
use crate::engine::stop::{Answer, Reads, Stop};
use crate::engine::value::{Kind, Score, Value, ZSet};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

pub fn georadius(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    search(ks, call, Form::Radius { by_member: false, may_store: true })
}

pub fn georadius_ro(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    search(ks, call, Form::Radius { by_member: false, may_store: false })
}

pub fn bymember(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    search(ks, call, Form::Radius { by_member: true, may_store: true })
}

pub fn bymember_ro(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    search(ks, call, Form::Radius { by_member: true, may_store: false })
}

pub fn geosearch(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    search(ks, call, Form::Search { store: false })
}

pub fn geosearchstore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    search(ks, call, Form::Search { store: true })
}

/// A member that lies inside.
struct Hit {
    member: Bytes,
    score: f64,
    position: Position,
    /// In the unit of the request.
    distance: f64,
}

fn search(ks: &mut Keyspace, call: &Call<'_>, form: Form) -> Answer<Reply> {
    let searchstore = form == Form::Search { store: true };
    let source = call.arg(if searchstore { 2 } else { 1 })?;
    // The type is looked at before the arguments.
    let there = ks.len(call.db, source, Kind::ZSet)? > 0;
    let mut reads = Reads::default();
    reads.of(ks.zset_all(call.db, source).map(|_| ()));
    if let Some(target) = target_hint(call, form) {
        reads.of(ks.kind(call.db, target));
    }
    reads.done()?;
    let zset = ks.zset_all(call.db, source)?;
    let options = options(call, form, zset)?;
    let target = if searchstore { Some(call.key()?) } else { options.store };
    let hits = match (zset, options.center, options.shape) {
        (Some(zset), Some(center), Some((shape, unit))) if there => {
            find(zset, &Area { center, shape, unit }, &options)
        }
        _ => Vec::new(),
    };
    let Some(target) = target else {
        return Ok(Reply::Array(hits.into_iter().map(|hit| reply(call, hit, &options)).collect()));
    };
    let stored = |hit: Hit| match options.store_distance {
        true => (hit.member, hit.distance),
        false => (hit.member, hit.score),
    };
    let len = hits.len() as i64;
    let result = ZSet::from_scores(hits.into_iter().map(stored));
    ks.put(call.db, target, Value::ZSet(result), None)?;
    Ok(Reply::Int(len))
}

/// Where the result may go, to load it together with the source.
fn target_hint<'a>(call: &Call<'a>, form: Form) -> Option<&'a Bytes> {
    match form {
        Form::Search { store } => call.args.get(1).filter(|_| store),
        Form::Radius { .. } => {
            let named = |pair: &&[Bytes]| {
                pair[0].eq_ignore_ascii_case(b"store") || pair[0].eq_ignore_ascii_case(b"storedist")
            };
            call.args.windows(2).rfind(named).map(|pair| &pair[1])
        }
    }
}

fn options<'a>(call: &Call<'a>, form: Form, zset: Option<&ZSet>) -> Answer<Options<'a>> {
    let locate = |member: &Bytes| match zset {
        None => Ok(None),
        Some(zset) => match zset.score(member).flatten() {
            Some(score) => Ok(Some(Position::of_score(score))),
            None => Err(Stop::error("ERR could not decode requested zset member")),
        },
    };
    let (center, shape, rest) = match form {
        Form::Radius { by_member: false, .. } => {
            let center = position(call.arg(2)?, call.arg(3)?)?;
            (Some(center), Some(radius(call.arg(4)?, call.arg(5)?)?), 6)
        }
        // Without a key these arguments are not looked at.
        Form::Radius { by_member: true, .. } if zset.is_none() => (None, None, 5),
        Form::Radius { by_member: true, .. } => {
            let center = locate(call.arg(2)?)?;
            (center, Some(radius(call.arg(3)?, call.arg(4)?)?), 5)
        }
        Form::Search { store } => (None, None, if store { 3 } else { 2 }),
    };
    let rest = call.args.get(rest..).unwrap_or_default();
    Options::parse(call.arg(0)?, rest, form, center, shape, &locate)
}

fn find(zset: &ZSet, area: &Area, options: &Options<'_>) -> Vec<Hit> {
    let Some(ordered) = &zset.ordered else { return Vec::new() };
    let limit = if options.any { options.count } else { usize::MAX };
    let members = area.cells().into_iter().flat_map(|cell| {
        let (min, max) = cell.scores();
        ordered.range((Score(min), Bytes::new())..(Score(max), Bytes::new()))
    });
    let hit = |(score, member): &(Score, Bytes)| {
        let position = Position::of_score(score.0);
        let distance = area.distance(position)?;
        Some(Hit { member: member.clone(), score: score.0, position, distance })
    };
    let mut hits: Vec<Hit> = members.filter_map(hit).take(limit).collect();
    let count = if options.count > 0 { options.count.min(hits.len()) } else { hits.len() };
    match options.sort {
        Sort::None => {}
        Sort::Ascending => {
            sort_for(&mut hits, 0..count, |a, b| a.distance.total_cmp(&b.distance));
        }
        Sort::Descending => {
            sort_for(&mut hits, 0..count, |a, b| b.distance.total_cmp(&a.distance));
        }
    }
    hits.truncate(count);
    for hit in &mut hits {
        hit.distance /= area.unit;
    }
    hits
}

fn reply(call: &Call<'_>, hit: Hit, options: &Options<'_>) -> Reply {
    let mut parts = vec![Reply::Bulk(hit.member)];
    if options.with_distance {
        parts.push(distance_reply(hit.distance));
    }
    if options.with_hash {
        parts.push(Reply::Int(hit.score as i64));
    }
    if options.with_coordinates {
        parts.push(coordinates(call, hit.position));
    }
    match parts.len() {
        1 => parts.remove(0),
        _ => Reply::Array(parts),
    }
}
