//! `SORT` and `SORT_RO`. Source: <https://redis.io/commands/sort/>, replies as Redis 7.0.

mod pattern;

use std::cmp::Ordering;

use bytes::Bytes;

use super::number::{int, parse_float};
use super::partial_sort::sort_for;
use super::stop::{Answer, Reads, Stop, c_text};
use super::table::{Command, Footprint};
use super::value::{Kind, List, Value};
use super::{Call, Keyspace};
use crate::resp::Reply;
use pattern::Pattern;

pub const COMMANDS: &[Command] = &[
    Command { name: "sort", arity: -2, footprint: Footprint::Whole, run: sort },
    Command { name: "sort_ro", arity: -2, footprint: Footprint::Whole, run: sort_ro },
];

#[derive(Default)]
struct Options<'a> {
    descending: bool,
    alpha: bool,
    by: Option<&'a Bytes>,
    get: Vec<Pattern<'a>>,
    limit: Option<(i64, i64)>,
    store: Option<&'a Bytes>,
}

impl<'a> Options<'a> {
    fn parse(args: &'a [Bytes], read_only: bool) -> Answer<Options<'a>> {
        let mut options = Options::default();
        let mut rest = args;
        while let Some((name, more)) = rest.split_first() {
            let name = name.to_ascii_lowercase();
            rest = match (name.as_slice(), more) {
                (b"asc", _) => {
                    options.descending = false;
                    more
                }
                (b"desc", _) => {
                    options.descending = true;
                    more
                }
                (b"alpha", _) => {
                    options.alpha = true;
                    more
                }
                (b"limit", [start, count, more @ ..]) => {
                    options.limit = Some((int(start)?, int(count)?));
                    more
                }
                (b"store", [target, more @ ..]) if !read_only => {
                    options.store = Some(target);
                    more
                }
                (b"by", [by, more @ ..]) => {
                    options.by = Some(by);
                    more
                }
                (b"get", [get, more @ ..]) => {
                    options.get.push(Pattern::new(get));
                    more
                }
                _ => return Err(Stop::SYNTAX),
            };
        }
        Ok(options)
    }

    /// The part of `len` elements that `LIMIT` leaves.
    fn window(&self, len: usize) -> std::ops::Range<usize> {
        let (start, count) = self.limit.unwrap_or((0, -1));
        let start = usize::try_from(start.max(0)).unwrap_or(usize::MAX).min(len);
        // A negative count is no limit.
        let count = usize::try_from(count).unwrap_or(len).min(len - start);
        start..start + count
    }
}

fn sort(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    run(ks, call, false)
}

fn sort_ro(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    run(ks, call, true)
}

fn run(ks: &mut Keyspace, call: &Call<'_>, read_only: bool) -> Answer<Reply> {
    let mut options = Options::parse(&call.args[2..], read_only)?;
    let key = call.key()?;
    let kind = ks.kind(call.db, key)?;
    let mut elements = elements(ks, call, kind)?;
    let mut unsorted = options.by.is_some_and(|by| !by.contains(&b'*'));
    if unsorted && kind == Some(Kind::Set) && options.store.is_some() {
        // What is stored has to be the same everywhere.
        (unsorted, options.alpha, options.by) = (false, true, None);
    }
    if !unsorted {
        order(ks, call, &options, &mut elements)?;
    } else if options.descending && kind != Some(Kind::Set) {
        elements.reverse();
    }
    let window = options.window(elements.len());
    let elements = &elements[window];
    let results = if options.get.is_empty() {
        elements.iter().cloned().map(Some).collect()
    } else {
        let mut reads = Reads::default();
        let mut found = Vec::with_capacity(elements.len() * options.get.len());
        for element in elements {
            for get in &options.get {
                found.push(reads.of(get.look_up(ks, call.db, element)).flatten());
            }
        }
        reads.done()?;
        found
    };
    match options.store {
        None => Ok(Reply::Array(results.into_iter().map(Reply::bulk_or_nil).collect())),
        Some(target) => store(ks, call, target, results),
    }
}

/// All elements, lists and sorted sets in their order.
fn elements(ks: &mut Keyspace, call: &Call<'_>, kind: Option<Kind>) -> Answer<Vec<Bytes>> {
    let (db, key) = (call.db, call.key()?);
    Ok(match kind {
        None => Vec::new(),
        Some(Kind::List) => {
            ks.list_all(db, key)?.map(|list| list.iter().cloned().collect()).unwrap_or_default()
        }
        Some(Kind::Set) => {
            let set = ks.set_all(db, key)?;
            set.map(|set| set.iter().map(|(member, ())| member.clone()).collect())
                .unwrap_or_default()
        }
        Some(Kind::ZSet) => {
            let ordered = ks.zset_all(db, key)?.and_then(|zset| zset.ordered.as_ref());
            ordered.into_iter().flatten().map(|(_, member)| member.clone()).collect()
        }
        Some(_) => return Err(Stop::WRONG_TYPE),
    })
}

/// What an element is sorted by.
enum Weight {
    Score(f64),
    Text(Option<Bytes>),
}

fn order(
    ks: &mut Keyspace,
    call: &Call<'_>,
    options: &Options<'_>,
    elements: &mut Vec<Bytes>,
) -> Answer<()> {
    let by = options.by.map(Pattern::new);
    let mut reads = Reads::default();
    let mut weighed: Vec<(Weight, Bytes)> = Vec::with_capacity(elements.len());
    let mut failed = false;
    for element in elements.drain(..) {
        let text = match &by {
            Some(by) => reads.of(by.look_up(ks, call.db, &element)).flatten(),
            None => Some(element.clone()),
        };
        let weight = if options.alpha {
            // What is not stored is compared as a C string, which ends at a zero byte.
            let end = if options.store.is_some() { None } else { text.as_ref() };
            let end = end.map(|text| c_text(text, usize::MAX).len());
            Weight::Text(text.map(|text| text.slice(..end.unwrap_or(text.len()))))
        } else {
            let score = text.as_deref().map_or(Some(0.0), score);
            failed |= score.is_none();
            Weight::Score(score.unwrap_or(0.0))
        };
        weighed.push((weight, element));
    }
    reads.done()?;
    if failed {
        return Err(Stop::error("ERR One or more scores can't be converted into double"));
    }
    let compare = |a: &(Weight, Bytes), b: &(Weight, Bytes)| {
        let order = compare(a, b);
        if options.descending { order.reverse() } else { order }
    };
    // Redis sorts a part only with `BY`.
    let wanted = match options.by {
        Some(_) => options.window(weighed.len()),
        None => 0..weighed.len(),
    };
    sort_for(&mut weighed, wanted, compare);
    elements.extend(weighed.into_iter().map(|(_, element)| element));
    Ok(())
}

fn compare((a, one): &(Weight, Bytes), (b, other): &(Weight, Bytes)) -> Ordering {
    match (a, b) {
        (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
        (Weight::Score(a), Weight::Score(b)) => {
            a.partial_cmp(b).unwrap_or(Ordering::Equal).then_with(|| one.cmp(other))
        }
        _ => Ordering::Equal,
    }
}

/// A score as `strtod` reads it from a C string: an empty text is 0, leading spaces are skipped, and
/// numbers too small to be exact are refused.
fn score(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    parse_float(text.trim_ascii_start()).filter(|score| *score == 0.0 || !score.is_subnormal())
}

fn store(
    ks: &mut Keyspace,
    call: &Call<'_>,
    target: &Bytes,
    results: Vec<Option<Bytes>>,
) -> Answer<Reply> {
    ks.kind(call.db, target)?;
    let count = results.len();
    if count == 0 {
        ks.remove(call.db, target)?;
    } else {
        let list = List::from_elements(results.into_iter().map(Option::unwrap_or_default));
        ks.put(call.db, target, Value::List(list), None)?;
    }
    Ok(Reply::Int(count as i64))
}
