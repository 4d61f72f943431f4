//! Sorted sets. Source: <https://redis.io/commands/?group=sorted-set>, replies as Redis 7.0.
//!
//! Blocking commands do here what they do when there is data; without, they answer the nil of a
//! timeout, and waiting is the caller's.

mod add;
mod bounds;
mod combine;
mod point;
mod pop;
mod range;
mod select;

pub use add::zadd;

use bytes::Bytes;

use super::Call;
use super::table::{Command, Footprint};
use crate::resp::{Protocol, Reply};

const META: Footprint = Footprint::Meta;
const WHOLE: Footprint = Footprint::Whole;
const SMALL: Footprint = Footprint::Small;
const MEMBERS: Footprint = Footprint::Members { first: 2, step: 1 };
const PAIRS: Footprint = Footprint::Members { first: 3, step: 2 };

pub const COMMANDS: &[Command] = &[
    Command { name: "zadd", arity: -4, footprint: PAIRS, run: add::zadd },
    Command { name: "zincrby", arity: 4, footprint: PAIRS, run: add::zincrby },
    Command { name: "zrem", arity: -3, footprint: MEMBERS, run: point::zrem },
    Command { name: "zscore", arity: 3, footprint: MEMBERS, run: point::zscore },
    Command { name: "zmscore", arity: -3, footprint: MEMBERS, run: point::zmscore },
    Command { name: "zcard", arity: 2, footprint: META, run: point::zcard },
    Command { name: "zrank", arity: 3, footprint: SMALL, run: point::zrank },
    Command { name: "zrevrank", arity: 3, footprint: SMALL, run: point::zrevrank },
    Command { name: "zcount", arity: 4, footprint: SMALL, run: range::zcount },
    Command { name: "zlexcount", arity: 4, footprint: WHOLE, run: range::zlexcount },
    Command { name: "zrange", arity: -4, footprint: SMALL, run: range::zrange },
    Command { name: "zrevrange", arity: -4, footprint: SMALL, run: range::zrevrange },
    Command { name: "zrangebyscore", arity: -4, footprint: SMALL, run: range::zrangebyscore },
    Command { name: "zrevrangebyscore", arity: -4, footprint: SMALL, run: range::zrevrangebyscore },
    Command { name: "zrangebylex", arity: -4, footprint: WHOLE, run: range::zrangebylex },
    Command { name: "zrevrangebylex", arity: -4, footprint: WHOLE, run: range::zrevrangebylex },
    Command { name: "zrangestore", arity: -5, footprint: META, run: range::zrangestore },
    Command { name: "zremrangebyrank", arity: 4, footprint: SMALL, run: range::zremrangebyrank },
    Command { name: "zremrangebyscore", arity: 4, footprint: SMALL, run: range::zremrangebyscore },
    Command { name: "zremrangebylex", arity: 4, footprint: WHOLE, run: range::zremrangebylex },
    Command { name: "zpopmin", arity: -2, footprint: SMALL, run: pop::zpopmin },
    Command { name: "zpopmax", arity: -2, footprint: SMALL, run: pop::zpopmax },
    Command { name: "bzpopmin", arity: -3, footprint: WHOLE, run: pop::bzpopmin },
    Command { name: "bzpopmax", arity: -3, footprint: WHOLE, run: pop::bzpopmax },
    Command { name: "zmpop", arity: -4, footprint: Footprint::None, run: pop::zmpop },
    Command { name: "bzmpop", arity: -5, footprint: Footprint::None, run: pop::bzmpop },
    Command { name: "zscan", arity: -3, footprint: SMALL, run: point::zscan },
    Command { name: "zrandmember", arity: -2, footprint: WHOLE, run: point::zrandmember },
    Command { name: "zunion", arity: -3, footprint: Footprint::None, run: combine::zunion },
    Command { name: "zinter", arity: -3, footprint: Footprint::None, run: combine::zinter },
    Command { name: "zdiff", arity: -3, footprint: Footprint::None, run: combine::zdiff },
    Command { name: "zintercard", arity: -3, footprint: Footprint::None, run: combine::zintercard },
    Command { name: "zunionstore", arity: -4, footprint: META, run: combine::zunionstore },
    Command { name: "zinterstore", arity: -4, footprint: META, run: combine::zinterstore },
    Command { name: "zdiffstore", arity: -4, footprint: META, run: combine::zdiffstore },
];

/// A member and its score.
pub type Scored = (Bytes, f64);

/// Members, with scores as flat pairs in RESP2 and nested ones in RESP3.
fn reply(call: &Call<'_>, members: Vec<Scored>, with_scores: bool) -> Reply {
    if with_scores && call.protocol == Protocol::Resp3 {
        return nested(members);
    }
    let mut flat = Vec::with_capacity(members.len() * (1 + usize::from(with_scores)));
    for (member, score) in members {
        flat.push(Reply::Bulk(member));
        if with_scores {
            flat.push(Reply::Double(score));
        }
    }
    Reply::Array(flat)
}

fn nested(members: Vec<Scored>) -> Reply {
    let pair = |(member, score)| Reply::Array(vec![Reply::Bulk(member), Reply::Double(score)]);
    Reply::Array(members.into_iter().map(pair).collect())
}
