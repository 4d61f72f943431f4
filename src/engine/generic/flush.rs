use super::relocate::database;
use crate::engine::number::parse_int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::{Call, Db, Keyspace};
use crate::resp::Reply;

/// `ASYNC` and `SYNC` make no difference here.
fn check_mode(args: &[bytes::Bytes]) -> Answer<()> {
    match args {
        [] => Ok(()),
        [mode] if mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync") => {
            Ok(())
        }
        _ => Err(Stop::SYNTAX),
    }
}

pub fn flushdb(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    check_mode(&call.args[1..])?;
    ks.flush_db(call.db);
    Ok(Reply::OK)
}

pub fn flushall(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    check_mode(&call.args[1..])?;
    ks.flush_all();
    Ok(Reply::OK)
}

pub fn swapdb(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let index = |at: usize, fault: &'static str| -> Answer<Db> {
        let text = call.arg(at)?;
        if parse_int(text).is_none_or(|number| i32::try_from(number).is_err()) {
            return Err(Stop::error(fault));
        }
        Ok(database(ks, call, text).unwrap_or(Db::MAX))
    };
    let a = index(1, "ERR invalid first DB index")?;
    let b = index(2, "ERR invalid second DB index")?;
    if a == Db::MAX || b == Db::MAX {
        return Err(Stop::error("ERR DB index is out of range"));
    }
    ks.swap_db(a, b);
    Ok(Reply::OK)
}
