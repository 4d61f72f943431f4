use bytes::Bytes;

use crate::engine::stop::{Answer, Reads, Stop};
use crate::engine::value::{Kind, Members, Value};
use crate::engine::{Call, Db, Keyspace, args};
use crate::resp::Reply;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

pub fn sinter(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Operation::Inter)
}

pub fn sunion(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Operation::Union)
}

pub fn sdiff(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    answer(ks, call, Operation::Diff)
}

fn answer(ks: &mut Keyspace, call: &Call<'_>, operation: Operation) -> Answer<Reply> {
    let result = combine(ks, call.db, &call.args[1..], operation)?;
    Ok(Reply::Set(result.iter().map(|(member, ())| Reply::Bulk(member.clone())).collect()))
}

pub fn sinterstore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    store(ks, call, Operation::Inter)
}

pub fn sunionstore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    store(ks, call, Operation::Union)
}

pub fn sdiffstore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    store(ks, call, Operation::Diff)
}

fn store(ks: &mut Keyspace, call: &Call<'_>, operation: Operation) -> Answer<Reply> {
    let target = call.key()?;
    let mut reads = Reads::default();
    reads.of(ks.kind(call.db, target));
    let result = reads.of(combine(ks, call.db, &call.args[2..], operation));
    reads.done()?;
    let result = result.unwrap_or_default();
    let len = result.len;
    ks.put(call.db, target, Value::Set(result), None)?;
    Ok(Reply::Int(len as i64))
}

pub fn sintercard(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let numkeys = args::numkeys(call.arg(1)?)?;
    let (keys, options) = call.args[2..]
        .split_at_checked(numkeys)
        .ok_or(Stop::error("ERR Number of keys can't be greater than number of args"))?;
    let limit = args::only_limit(options)?;
    let len = combine(ks, call.db, keys, Operation::Inter)?.len;
    Ok(Reply::Int(if limit == 0 { len } else { len.min(limit) } as i64))
}

fn combine(ks: &mut Keyspace, db: Db, keys: &[Bytes], operation: Operation) -> Answer<Members<()>> {
    let mut reads = Reads::default();
    let lens: Vec<u64> =
        keys.iter().map(|key| reads.of(ks.len(db, key, Kind::Set)).unwrap_or(0)).collect();
    if operation == Operation::Union {
        for key in keys {
            reads.of(ks.set_all(db, key).map(|_| ()));
        }
    }
    reads.done()?;
    let mut result = Members::new();
    // The set that is walked: for a union each, for a difference the first, else the smallest.
    let walked = match operation {
        Operation::Union => {
            for key in keys {
                let set = ks.set_all(db, key)?;
                for (member, ()) in set.into_iter().flat_map(|set| set.iter()) {
                    result.insert(member.clone(), ());
                }
            }
            return Ok(result);
        }
        Operation::Inter if lens.contains(&0) => return Ok(result),
        Operation::Inter => lens.iter().enumerate().min_by_key(|(_, len)| **len).map_or(0, |l| l.0),
        Operation::Diff if keys[1..].contains(&keys[0]) => return Ok(result),
        Operation::Diff => 0,
    };
    let Some(set) = ks.set_all(db, &keys[walked])? else { return Ok(result) };
    let mut candidates: Vec<Bytes> = set.iter().map(|(member, ())| member.clone()).collect();
    let others = || keys.iter().enumerate().filter(|(i, _)| *i != walked).map(|(_, key)| key);
    let mut reads = Reads::default();
    for other in others() {
        reads.of(ks.want_members(db, other, Kind::Set, &mut candidates.iter()));
    }
    reads.done()?;
    for other in others() {
        let set = ks.set_known(db, other)?;
        let there = |m: &Bytes| set.and_then(|set| set.get(m)).flatten().is_some();
        candidates.retain(|member| there(member) == (operation == Operation::Inter));
    }
    for member in candidates {
        result.insert(member, ());
    }
    Ok(result)
}
