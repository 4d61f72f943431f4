//! Expiry times. Source: <https://redis.io/commands/expire/> and its relatives, replies as Redis 7.0.

use super::number::int;
use super::stop::{Answer, Stop, shown};
use super::table::{Command, Footprint};
use super::{Call, Expiry, Keyspace};
use crate::resp::Reply;

const META: Footprint = Footprint::Meta;

pub const COMMANDS: &[Command] = &[
    Command { name: "expire", arity: -3, footprint: META, run: expire },
    Command { name: "pexpire", arity: -3, footprint: META, run: pexpire },
    Command { name: "expireat", arity: -3, footprint: META, run: expireat },
    Command { name: "pexpireat", arity: -3, footprint: META, run: pexpireat },
    Command { name: "persist", arity: 2, footprint: META, run: persist },
    Command { name: "ttl", arity: 2, footprint: META, run: ttl },
    Command { name: "pttl", arity: 2, footprint: META, run: pttl },
    Command { name: "expiretime", arity: 2, footprint: META, run: expiretime },
    Command { name: "pexpiretime", arity: 2, footprint: META, run: pexpiretime },
];

/// The unit of a time argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Millis,
}

impl Unit {
    /// `None`: too far.
    pub fn to_ms(self, value: i64) -> Option<i64> {
        match self {
            Unit::Seconds => value.checked_mul(1000),
            Unit::Millis => Some(value),
        }
    }

    /// Rounded half up.
    fn ms_in_unit(self, ms: i64) -> i64 {
        match self {
            // A time in ms may be as large as there are numbers.
            Unit::Seconds => ms / 1000 + i64::from(ms % 1000 >= 500),
            Unit::Millis => ms,
        }
    }
}

pub fn invalid_time(command: &str) -> Stop {
    Stop::failed(format!("ERR invalid expire time in '{command}' command"))
}

/// True when a key that is given this expiry (Unix time in ms) is deleted at once. A replica keeps it
/// until the stream deletes it.
pub fn is_over(ks: &Keyspace, call: &Call<'_>, at_ms: i64) -> bool {
    !call.from_log && ks.expiry == Expiry::ByClock && at_ms <= ks.now_ms
}

fn expire(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let now = ks.now_ms;
    set(ks, call, Unit::Seconds, now, "expire")
}

fn pexpire(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let now = ks.now_ms;
    set(ks, call, Unit::Millis, now, "pexpire")
}

fn expireat(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    set(ks, call, Unit::Seconds, 0, "expireat")
}

fn pexpireat(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    set(ks, call, Unit::Millis, 0, "pexpireat")
}

/// `base` is the Unix time in ms that the argument counts from.
fn set(ks: &mut Keyspace, call: &Call<'_>, unit: Unit, base: i64, name: &str) -> Answer<Reply> {
    let key = call.key()?;
    let condition = Condition::parse(&call.args[3..])?;
    let value = int(call.arg(2)?)?;
    let at_ms = unit.to_ms(value).and_then(|ms| ms.checked_add(base));
    let at_ms = at_ms.ok_or_else(|| invalid_time(name))?;
    let Some(current) = ks.expires_at(call.db, key)? else { return Ok(Reply::Int(0)) };
    if !condition.allows(current, at_ms) {
        return Ok(Reply::Int(0));
    }
    if is_over(ks, call, at_ms) {
        ks.remove(call.db, key)?;
    } else {
        ks.set_expiry(call.db, key, Some(at_ms))?;
    }
    Ok(Reply::Int(1))
}

#[derive(Default)]
struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    fn parse(options: &[bytes::Bytes]) -> Answer<Condition> {
        let mut condition = Condition::default();
        for option in options {
            match option.to_ascii_lowercase().as_slice() {
                b"nx" => condition.nx = true,
                b"xx" => condition.xx = true,
                b"gt" => condition.gt = true,
                b"lt" => condition.lt = true,
                _ => {
                    let option = shown(option);
                    return Err(Stop::failed(format!("ERR Unsupported option {option}")));
                }
            }
        }
        if condition.nx && (condition.xx || condition.gt || condition.lt) {
            return Err(Stop::error(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if condition.gt && condition.lt {
            return Err(Stop::error("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    /// A key without an expiry counts as one that expires last.
    fn allows(&self, current: Option<i64>, at_ms: i64) -> bool {
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|current| at_ms <= current)
            || self.lt && current.is_some_and(|current| at_ms >= current))
    }
}

fn persist(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    if ks.expires_at(call.db, key)?.flatten().is_none() {
        return Ok(Reply::Int(0));
    }
    ks.set_expiry(call.db, key, None)?;
    Ok(Reply::Int(1))
}

fn ttl(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    left(ks, call, Unit::Seconds)
}

fn pttl(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    left(ks, call, Unit::Millis)
}

fn left(ks: &mut Keyspace, call: &Call<'_>, unit: Unit) -> Answer<Reply> {
    let now = ks.now_ms;
    time(ks, call, |at_ms| unit.ms_in_unit(at_ms.saturating_sub(now).max(0)))
}

fn expiretime(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    time(ks, call, |at_ms| Unit::Seconds.ms_in_unit(at_ms.max(0)))
}

fn pexpiretime(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    time(ks, call, |at_ms| at_ms.max(0))
}

fn time(ks: &mut Keyspace, call: &Call<'_>, shown: impl FnOnce(i64) -> i64) -> Answer<Reply> {
    Ok(Reply::Int(match ks.expires_at(call.db, call.key()?)? {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => shown(at_ms),
    }))
}
