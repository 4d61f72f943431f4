use super::{entry_reply, id};
use crate::engine::keyspace::StreamRange;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::Kind;
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

pub fn xlen(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    Ok(Reply::Int(ks.len(call.db, call.key()?, Kind::Stream)? as i64))
}

pub fn xrange(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    range(ks, call, false)
}

pub fn xrevrange(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    range(ks, call, true)
}

fn range(ks: &mut Keyspace, call: &Call<'_>, reverse: bool) -> Answer<Reply> {
    let key = call.key()?;
    let (first, second) = (call.arg(2)?, call.arg(3)?);
    let (start, end) = if reverse { (second, first) } else { (first, second) };
    let (start, end) = (id::range_start(start)?, id::range_end(end)?);
    let mut limit = u64::MAX;
    for option in call.args[4..].chunks(2) {
        match option {
            [name, value] if name.eq_ignore_ascii_case(b"count") => {
                limit = u64::try_from(int(value)?).unwrap_or(0);
            }
            _ => return Err(Stop::SYNTAX),
        }
    }
    if ks.stream(call.db, key)?.is_none() {
        return Ok(Reply::Array(Vec::new()));
    }
    if limit == 0 {
        return Ok(Reply::NilArray);
    }
    let range = StreamRange { start, end, reverse, limit };
    let entries = ks.stream_range(call.db, key, &range)?;
    Ok(Reply::Array(entries.into_iter().map(entry_reply).collect()))
}
