use crate::engine::number::int;
use crate::engine::stop::{Answer, Reads, Stop};
use crate::engine::{Call, Db, Keyspace};
use crate::resp::Reply;

const SAME_OBJECT: Stop = Stop::error("ERR source and destination objects are the same");

pub fn rename(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    rename_unless(ks, call, false).map(|_| Reply::OK)
}

pub fn renamenx(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    rename_unless(ks, call, true).map(|done| Reply::Int(i64::from(done)))
}

/// True when the key has another name now. With `nx`, not over an existing key.
fn rename_unless(ks: &mut Keyspace, call: &Call<'_>, nx: bool) -> Answer<bool> {
    let (from, to) = (call.key()?, call.arg(2)?);
    let mut reads = Reads::default();
    let source = reads.of(ks.kind(call.db, from)).flatten();
    let target = reads.of(ks.kind(call.db, to)).flatten();
    reads.done()?;
    if source.is_none() {
        return Err(Stop::NO_SUCH_KEY);
    }
    if from == to || (nx && target.is_some()) {
        return Ok(false);
    }
    ks.rename((call.db, from), (call.db, to))
}

/// A database number; that it exists is certain in the replication stream.
pub fn database(ks: &Keyspace, call: &Call<'_>, text: &[u8]) -> Answer<Db> {
    let number = int(text)?;
    if i32::try_from(number).is_err() {
        return Err(Stop::error(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    let in_range = |db: &Db| call.from_log || *db < ks.databases_configured;
    Db::try_from(number).ok().filter(in_range).ok_or(Stop::error("ERR DB index is out of range"))
}

pub fn move_key(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let to = database(ks, call, call.arg(2)?)?;
    if to == call.db {
        return Err(SAME_OBJECT);
    }
    let mut reads = Reads::default();
    let source = reads.of(ks.kind(call.db, key)).flatten();
    let target = reads.of(ks.kind(to, key)).flatten();
    reads.done()?;
    if source.is_none() || target.is_some() {
        return Ok(Reply::Int(0));
    }
    ks.rename((call.db, key), (to, key))?;
    Ok(Reply::Int(1))
}

pub fn copy(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (from, to) = (call.key()?, call.arg(2)?);
    let (mut to_db, mut replace) = (call.db, false);
    let mut rest = call.args[3..].iter();
    while let Some(option) = rest.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if option.eq_ignore_ascii_case(b"db") {
            to_db = database(ks, call, rest.next().ok_or(Stop::SYNTAX)?)?;
        } else {
            return Err(Stop::SYNTAX);
        }
    }
    if (call.db, from) == (to_db, to) {
        return Err(SAME_OBJECT);
    }
    let mut reads = Reads::default();
    let target = reads.of(ks.kind(to_db, to)).flatten();
    let source = reads.of(ks
        .whole_value(call.db, from)
        .map(|entry| entry.map(|entry| (entry.value.clone(), entry.expires_at_ms))));
    reads.done()?;
    let Some((value, expires_at_ms)) = source.flatten() else { return Ok(Reply::Int(0)) };
    if target.is_some() && !replace {
        return Ok(Reply::Int(0));
    }
    ks.put(to_db, to, value, expires_at_ms)?;
    Ok(Reply::Int(1))
}
