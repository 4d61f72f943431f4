use bytes::Bytes;

use crate::engine::number::float;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::Kind;
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

#[derive(Clone, Copy, Default)]
struct Flags {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl Flags {
    /// Takes in an option; false when it is none.
    fn take(&mut self, option: &Bytes) -> bool {
        let known: [(&[u8], &mut bool); 6] = [
            (b"nx", &mut self.nx),
            (b"xx", &mut self.xx),
            (b"gt", &mut self.gt),
            (b"lt", &mut self.lt),
            (b"ch", &mut self.ch),
            (b"incr", &mut self.incr),
        ];
        known
            .into_iter()
            .find(|(name, _)| option.eq_ignore_ascii_case(name))
            .map(|(_, flag)| *flag = true)
            .is_some()
    }

    fn check(&self, pairs: usize) -> Answer<()> {
        if self.nx && self.xx {
            return Err(Stop::error("ERR XX and NX options at the same time are not compatible"));
        }
        if (self.nx && (self.gt || self.lt)) || (self.gt && self.lt) {
            return Err(Stop::error(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.incr && pairs > 1 {
            return Err(Stop::error("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }
}

pub fn zadd(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    add(ks, call, Flags::default())
}

pub fn zincrby(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    add(ks, call, Flags { incr: true, ..Flags::default() })
}

fn add(ks: &mut Keyspace, call: &Call<'_>, mut flags: Flags) -> Answer<Reply> {
    let key = call.key()?;
    let mut pairs = &call.args[2..];
    while let [option, rest @ ..] = pairs
        && flags.take(option)
    {
        pairs = rest;
    }
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(Stop::SYNTAX);
    }
    flags.check(pairs.len() / 2)?;
    let pairs: Vec<(f64, &Bytes)> = pairs
        .chunks_exact(2)
        .map(|pair| Ok((float(&pair[0])?, &pair[1])))
        .collect::<Answer<_>>()?;
    ks.want_members(call.db, key, Kind::ZSet, &mut pairs.iter().map(|(_, member)| *member))?;
    // Checks the type, and with XX a missing key stays missing because no member is there.
    ks.len(call.db, key, Kind::ZSet)?;

    let (mut added, mut updated) = (0, 0);
    let mut last = None;
    for (score, member) in pairs {
        let old = ks.zset_score(call.db, key, member)?;
        if if old.is_some() { flags.nx } else { flags.xx } {
            continue;
        }
        let score = match old {
            Some(old) if flags.incr => old + score,
            _ => score,
        };
        if score.is_nan() {
            return Err(Stop::error("ERR resulting score is not a number (NaN)"));
        }
        if old.is_some_and(|old| (flags.lt && score >= old) || (flags.gt && score <= old)) {
            continue;
        }
        last = Some(score);
        if old != Some(score) {
            // As in Redis, -0 does not replace 0.
            ks.zset_set(call.db, key, &[(member.clone(), score)])?;
            added += i64::from(old.is_none());
            updated += i64::from(old.is_some());
        }
    }
    Ok(match (flags.incr, last) {
        (true, Some(score)) => Reply::Double(score),
        (true, None) => Reply::Nil,
        (false, _) => Reply::Int(if flags.ch { added + updated } else { added }),
    })
}
