use bytes::Bytes;

use super::check_string;
use crate::engine::number::{LongDouble, int, int_bytes};
use crate::engine::stop::{Answer, Stop};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

pub fn incr(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    add(ks, call, 1)
}

pub fn decr(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    add(ks, call, -1)
}

pub fn incrby(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    add(ks, call, int(call.arg(2)?)?)
}

pub fn decrby(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let by = int(call.arg(2)?)?;
    add(ks, call, by.checked_neg().ok_or(Stop::error("ERR decrement would overflow"))?)
}

fn add(ks: &mut Keyspace, call: &Call<'_>, by: i64) -> Answer<Reply> {
    let key = call.key()?;
    let old = ks.string(call.db, key)?.map_or(Ok(0), |old| int(&old))?;
    let new =
        old.checked_add(by).ok_or(Stop::error("ERR increment or decrement would overflow"))?;
    ks.update_string(call.db, key, int_bytes(new))?;
    Ok(Reply::Int(new))
}

pub fn incrbyfloat(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    check_string(ks, call)?;
    let float = |text: &Bytes| LongDouble::parse(text).ok_or(Stop::NOT_A_FLOAT);
    let old = ks.string(call.db, key)?.map_or(Ok(LongDouble::ZERO), |old| float(&old))?;
    let new = old.plus(float(call.arg(2)?)?).filter(|new| !new.is_infinite());
    let new = new.ok_or(Stop::error("ERR increment would produce NaN or Infinity"))?;
    let text = Bytes::from(new.text());
    ks.update_string(call.db, key, text.clone())?;
    Ok(Reply::Bulk(text))
}
