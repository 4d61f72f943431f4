use bytes::Bytes;
use rand::RngExt;
use rand::seq::index;

use crate::engine::number::parse_int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::Members;
use crate::engine::{Call, Keyspace, args};
use crate::resp::Reply;

pub fn spop(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let [_, _, rest @ ..] = call.args else { return Err(Stop::SYNTAX) };
    let count = match rest {
        [] => None,
        [count] => Some(args::count(count)?),
        _ => return Err(Stop::SYNTAX),
    };
    let members = members_of(ks.set_all(call.db, key)?);
    let picked = pick_distinct(ks, members, count.unwrap_or(1));
    ks.set_remove(call.db, key, &picked)?;
    let mut picked = picked.into_iter();
    Ok(match count {
        None => Reply::bulk_or_nil(picked.next()),
        Some(_) => Reply::Set(picked.map(Reply::Bulk).collect()),
    })
}

pub fn srandmember(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let count = match call.args {
        [_, _] => None,
        [_, _, count] => Some(sample_size(count)?),
        _ => return Err(Stop::SYNTAX),
    };
    let members = members_of(ks.set_all(call.db, call.key()?)?);
    Ok(match count {
        None => Reply::bulk_or_nil(pick_distinct(ks, members, 1).pop()),
        Some(count) => {
            let picked = pick(ks, members, count);
            Reply::Array(picked.into_iter().map(Reply::Bulk).collect())
        }
    })
}

fn members_of(set: Option<&Members<()>>) -> Vec<Bytes> {
    set.map(|set| set.iter().map(|(member, ())| member.clone()).collect()).unwrap_or_default()
}

/// The most elements that a sample with repetition may have, so that no client can ask for more
/// than fits into memory.
const MAX_REPEATED: i64 = 1 << 24;

/// How many random elements are asked for; negative: with repetition.
pub fn sample_size(text: &[u8]) -> Answer<i64> {
    let count = parse_int(text).ok_or(Stop::NOT_AN_INTEGER)?;
    if count == i64::MIN {
        let max = i64::MAX;
        return Err(Stop::failed(format!(
            "ERR value is out of range, value must between -{max} and {max}"
        )));
    }
    if count < -MAX_REPEATED {
        return Err(Stop::error("ERR value is out of range"));
    }
    Ok(count)
}

/// Random elements: distinct ones for a positive count, with repetition for a negative one.
pub fn pick<T: Clone>(ks: &mut Keyspace, from: Vec<T>, count: i64) -> Vec<T> {
    if count >= 0 {
        return pick_distinct(ks, from, count.unsigned_abs());
    }
    if from.is_empty() {
        return Vec::new();
    }
    (0..count.unsigned_abs()).map(|_| from[ks.rng.random_range(0..from.len())].clone()).collect()
}

fn pick_distinct<T: Clone>(ks: &mut Keyspace, from: Vec<T>, count: u64) -> Vec<T> {
    if count >= from.len() as u64 {
        return from;
    }
    index::sample(&mut ks.rng, from.len(), count as usize)
        .into_iter()
        .map(|index| from[index].clone())
        .collect()
}
