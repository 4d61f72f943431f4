//! Sets. Source: <https://redis.io/commands/?group=set>, replies as Redis 7.0.

mod algebra;
pub mod random;

use super::scan::{self, Scan};
use super::stop::{Answer, Reads};
use super::table::{Command, Footprint};
use super::value::{Kind, Value};
use super::{Call, Keyspace, encoding};
use crate::resp::Reply;

const MEMBERS: Footprint = Footprint::Members { first: 2, step: 1 };

pub const COMMANDS: &[Command] = &[
    Command { name: "sadd", arity: -3, footprint: MEMBERS, run: sadd },
    Command { name: "srem", arity: -3, footprint: MEMBERS, run: srem },
    Command { name: "smove", arity: 4, footprint: Footprint::Meta, run: smove },
    Command { name: "sismember", arity: 3, footprint: MEMBERS, run: sismember },
    Command { name: "smismember", arity: -3, footprint: MEMBERS, run: smismember },
    Command { name: "scard", arity: 2, footprint: Footprint::Meta, run: scard },
    Command { name: "smembers", arity: 2, footprint: Footprint::Whole, run: smembers },
    Command { name: "spop", arity: -2, footprint: Footprint::Whole, run: random::spop },
    Command {
        name: "srandmember",
        arity: -2,
        footprint: Footprint::Whole,
        run: random::srandmember,
    },
    Command {
        name: "sinter",
        arity: -2,
        footprint: Footprint::Keys { step: 1 },
        run: algebra::sinter,
    },
    Command { name: "sunion", arity: -2, footprint: Footprint::WholeKeys, run: algebra::sunion },
    Command {
        name: "sdiff",
        arity: -2,
        footprint: Footprint::Keys { step: 1 },
        run: algebra::sdiff,
    },
    Command {
        name: "sinterstore",
        arity: -3,
        footprint: Footprint::Keys { step: 1 },
        run: algebra::sinterstore,
    },
    Command {
        name: "sunionstore",
        arity: -3,
        footprint: Footprint::Keys { step: 1 },
        run: algebra::sunionstore,
    },
    Command {
        name: "sdiffstore",
        arity: -3,
        footprint: Footprint::Keys { step: 1 },
        run: algebra::sdiffstore,
    },
    Command { name: "sintercard", arity: -3, footprint: Footprint::None, run: algebra::sintercard },
    Command { name: "sscan", arity: -3, footprint: Footprint::Small, run: sscan },
];

fn sadd(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.set_add(call.db, call.key()?, &call.args[2..])? as i64))
}

fn srem(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.set_remove(call.db, call.key()?, &call.args[2..])? as i64))
}

fn smove(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (db, source, target) = (call.db, call.key()?, call.arg(2)?);
    let member = &call.args[3..];
    let mut reads = Reads::default();
    let there = reads.of(ks.set_contains(db, source, &member[0]));
    // A missing source answers before the target's type is looked at.
    if reads.of(ks.len(db, source, Kind::Set)) != Some(0) {
        reads.of(ks.set_contains(db, target, &member[0]));
    }
    reads.done()?;
    let there = there == Some(true);
    if there && source != target {
        ks.set_remove(db, source, member)?;
        ks.set_add(db, target, member)?;
    }
    Ok(Reply::Int(i64::from(there)))
}

fn sismember(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(i64::from(ks.set_contains(call.db, call.key()?, call.arg(2)?)?)))
}

fn smismember(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, members) = (call.key()?, &call.args[2..]);
    ks.want_members(call.db, key, Kind::Set, &mut members.iter())?;
    let set = ks.set_known(call.db, key)?;
    let there = |member| set.and_then(|set| set.get(member)).flatten().is_some();
    Ok(Reply::Array(members.iter().map(|m| Reply::Int(i64::from(there(m)))).collect()))
}

fn scard(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.len(call.db, call.key()?, Kind::Set)? as i64))
}

fn smembers(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let set = ks.set_all(call.db, call.key()?)?;
    let members = set.into_iter().flat_map(|set| set.iter());
    Ok(Reply::Set(members.map(|(member, ())| Reply::Bulk(member.clone())).collect()))
}

fn sscan(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let cursor = scan::cursor(call.arg(2)?)?;
    let Some(set) = ks.set_all(call.db, call.key()?)? else { return Ok(scan::empty()) };
    let scan = Scan::parse(&call.args[3..], false)?;
    let at_once = encoding::of_set(set) == encoding::INTSET;
    let place = (call.db, call.key()?);
    let (next, page) = ks.page(place, &scan, (cursor, at_once), |value, member| match value {
        Value::Set(set) => set.get(member)?.copied(),
        _ => None,
    });
    let members = page.into_iter().filter(|(member, ())| scan.matches(member));
    Ok(scan::reply(next, members.map(|(member, ())| member)))
}
