use bytes::Bytes;

use crate::engine::expiry::{self, Unit};
use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

/// What the options of `SET` and `GETEX` say.
#[derive(Default)]
struct Options<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expire: Option<Expire<'a>>,
}

struct Expire<'a> {
    text: &'a Bytes,
    unit: Unit,
    /// From now on, not since 1970.
    relative: bool,
}

impl<'a> Options<'a> {
    fn parse(args: &'a [Bytes], of_set: bool) -> Answer<Options<'a>> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let upper = arg.to_ascii_uppercase();
            let timeless = !options.keep_ttl && !options.persist;
            match upper.as_slice() {
                b"NX" if of_set && !options.xx => options.nx = true,
                b"XX" if of_set && !options.nx => options.xx = true,
                b"GET" if of_set => options.get = true,
                b"KEEPTTL" if of_set && options.expire.is_none() => options.keep_ttl = true,
                b"PERSIST" if !of_set && options.expire.is_none() => options.persist = true,
                name if timeless => {
                    let (unit, relative) = match name {
                        b"EX" => (Unit::Seconds, true),
                        b"PX" => (Unit::Millis, true),
                        b"EXAT" => (Unit::Seconds, false),
                        b"PXAT" => (Unit::Millis, false),
                        _ => return Err(Stop::SYNTAX),
                    };
                    let same = |old: &Expire<'_>| (old.unit, old.relative) == (unit, relative);
                    if !options.expire.as_ref().is_none_or(same) {
                        return Err(Stop::SYNTAX);
                    }
                    let text = rest.next().ok_or(Stop::SYNTAX)?;
                    options.expire = Some(Expire { text, unit, relative });
                }
                _ => return Err(Stop::SYNTAX),
            }
        }
        Ok(options)
    }
}

impl Expire<'_> {
    /// Unix time in ms; `name` is the command's, for the error.
    fn at_ms(&self, now_ms: i64, name: &str) -> Answer<i64> {
        let value = int(self.text)?;
        let base = if self.relative { now_ms } else { 0 };
        (value > 0)
            .then(|| self.unit.to_ms(value)?.checked_add(base))
            .flatten()
            .ok_or_else(|| expiry::invalid_time(name))
    }
}

pub fn set(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, content) = (call.key()?, call.arg(2)?);
    let options = Options::parse(&call.args[3..], true)?;
    let expire = options.expire.as_ref().map(|e| e.at_ms(ks.now_ms, "set")).transpose()?;
    let old = if options.get { ks.string(call.db, key)? } else { None };
    let old_expiry = ks.expires_at(call.db, key)?;
    let there = old_expiry.is_some();
    let answer = |done: Reply| if options.get { Reply::bulk_or_nil(old) } else { done };
    if (options.nx && there) || (options.xx && !there) {
        return Ok(answer(Reply::Nil));
    }
    let kept = old_expiry.flatten().filter(|_| options.keep_ttl);
    ks.set_string(call.db, key, content.clone(), expire.or(kept))?;
    Ok(answer(Reply::OK))
}

pub fn setnx(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    if ks.kind(call.db, key)?.is_some() {
        return Ok(Reply::Int(0));
    }
    ks.set_string(call.db, key, call.arg(2)?.clone(), None)?;
    Ok(Reply::Int(1))
}

pub fn setex(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    set_for(ks, call, Unit::Seconds, "setex")
}

pub fn psetex(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    set_for(ks, call, Unit::Millis, "psetex")
}

fn set_for(ks: &mut Keyspace, call: &Call<'_>, unit: Unit, name: &str) -> Answer<Reply> {
    let expire = Expire { text: call.arg(2)?, unit, relative: true }.at_ms(ks.now_ms, name)?;
    ks.set_string(call.db, call.key()?, call.arg(3)?.clone(), Some(expire))?;
    Ok(Reply::OK)
}

pub fn getset(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let old = ks.string(call.db, call.key()?)?;
    ks.set_string(call.db, call.key()?, call.arg(2)?.clone(), None)?;
    Ok(Reply::bulk_or_nil(old))
}

pub fn getex(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let options = Options::parse(&call.args[2..], false)?;
    let Some(content) = ks.string(call.db, key)? else { return Ok(Reply::Nil) };
    if let Some(expire) = &options.expire {
        let at_ms = expire.at_ms(ks.now_ms, "getex")?;
        if !expire.relative && expiry::is_over(ks, call, at_ms) {
            ks.remove(call.db, key)?;
        } else {
            ks.set_expiry(call.db, key, Some(at_ms))?;
        }
    } else if options.persist {
        ks.set_expiry(call.db, key, None)?;
    }
    Ok(Reply::Bulk(content))
}
