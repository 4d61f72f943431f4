//! Positions in sorted sets. Source: <https://redis.io/commands/?group=geo>, replies as Redis 7.0.

mod area;
mod distance;
mod hash;
mod request;
mod search;

use bytes::Bytes;

use self::hash::Position;
use super::number::{float, int_bytes};
use super::stop::{Answer, Stop};
use super::table::{Command, Footprint};
use super::value::Kind;
use super::{Call, Keyspace, zsets};
use crate::resp::{Protocol, Reply};

const MEMBERS: Footprint = Footprint::Members { first: 2, step: 1 };
const WHOLE: Footprint = Footprint::Whole;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "geoadd",
        arity: -5,
        footprint: Footprint::Members { first: 4, step: 3 },
        run: geoadd,
    },
    Command { name: "geodist", arity: -4, footprint: MEMBERS, run: geodist },
    Command { name: "geohash", arity: -2, footprint: MEMBERS, run: geohash },
    Command { name: "geopos", arity: -2, footprint: MEMBERS, run: geopos },
    Command { name: "georadius", arity: -6, footprint: WHOLE, run: search::georadius },
    Command { name: "georadius_ro", arity: -6, footprint: WHOLE, run: search::georadius_ro },
    Command { name: "georadiusbymember", arity: -5, footprint: WHOLE, run: search::bymember },
    Command { name: "georadiusbymember_ro", arity: -5, footprint: WHOLE, run: search::bymember_ro },
    Command { name: "geosearch", arity: -7, footprint: WHOLE, run: search::geosearch },
    Command {
        name: "geosearchstore",
        arity: -8,
        footprint: Footprint::Meta,
        run: search::geosearchstore,
    },
];

/// GEOADD is ZADD with positions for scores.
fn geoadd(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let flag = |arg: &&Bytes| {
        [b"nx", b"xx", b"ch"].into_iter().any(|name: &[u8; 2]| arg.eq_ignore_ascii_case(name))
    };
    let flags = call.args[2..].iter().take_while(flag);
    let has = |name: &[u8]| flags.clone().any(|arg| arg.eq_ignore_ascii_case(name));
    let places = &call.args[2 + flags.clone().count()..];
    if !places.len().is_multiple_of(3) || (has(b"nx") && has(b"xx")) {
        return Err(Stop::SYNTAX);
    }
    let mut args = vec![Bytes::from_static(b"zadd"), call.key()?.clone()];
    args.extend(flags.cloned());
    for place in places.chunks_exact(3) {
        let score = position(&place[0], &place[1])?.score();
        args.extend([int_bytes(score as i64), place[2].clone()]);
    }
    zsets::zadd(ks, &Call { args: &args, ..*call })
}

fn position(lon: &Bytes, lat: &Bytes) -> Answer<Position> {
    let position = Position { lon: float(lon)?, lat: float(lat)? };
    if !area::on_map(position) {
        let Position { lon, lat } = position;
        return Err(Stop::failed(format!("ERR invalid longitude,latitude pair {lon:.6},{lat:.6}")));
    }
    Ok(position)
}

/// Metres in a unit.
fn unit(text: &Bytes) -> Answer<f64> {
    match text.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Stop::error("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// A distance with four digits behind the point.
fn distance_reply(distance: f64) -> Reply {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    let (sign, scaled) = (if scaled < 0 { "-" } else { "" }, scaled.unsigned_abs());
    Reply::bulk(format!("{sign}{}.{:04}", scaled / 10_000, scaled % 10_000))
}

fn coordinates(call: &Call<'_>, at: Position) -> Reply {
    let coordinate = |degrees: f64| match call.protocol {
        Protocol::Resp2 => Reply::bulk(human(degrees)),
        Protocol::Resp3 => Reply::Double(human(degrees).parse().unwrap_or(degrees)),
    };
    Reply::Array(vec![coordinate(at.lon), coordinate(at.lat)])
}

/// 17 digits behind the point, without the zeros at the end.
fn human(degrees: f64) -> String {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn geodist(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, members) = (call.key()?, &call.args[2..4]);
    let unit = match &call.args[4..] {
        [] => 1.0,
        [text] => unit(text)?,
        _ => return Err(Stop::SYNTAX),
    };
    ks.want_members(call.db, key, Kind::ZSet, &mut members.iter())?;
    let (Some(from), Some(to)) =
        (ks.zset_score(call.db, key, &members[0])?, ks.zset_score(call.db, key, &members[1])?)
    else {
        return Ok(Reply::Nil);
    };
    let (from, to) = (Position::of_score(from), Position::of_score(to));
    Ok(distance_reply(distance::between(from, to) / unit))
}

fn geohash(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    each(ks, call, Reply::Nil, |at| Reply::bulk(Bytes::copy_from_slice(&at.text())))
}

fn geopos(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    each(ks, call, Reply::NilArray, |at| coordinates(call, at))
}

fn each(
    ks: &mut Keyspace,
    call: &Call<'_>,
    missing: Reply,
    reply: impl Fn(Position) -> Reply,
) -> Answer<Reply> {
    let (key, members) = (call.key()?, &call.args[2..]);
    ks.want_members(call.db, key, Kind::ZSet, &mut members.iter())?;
    let zset = ks.zset_known(call.db, key)?;
    let replies = members.iter().map(|member| {
        let score = zset.and_then(|zset| zset.score(member)).flatten();
        score.map_or(missing.clone(), |score| reply(Position::of_score(score)))
    });
    Ok(Reply::Array(replies.collect()))
}
