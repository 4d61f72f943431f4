use bytes::Bytes;

use crate::engine::expiry::is_over;
use crate::engine::number::int;
use crate::engine::object::to_object;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::{Kind, Value};
use crate::engine::{Call, Keyspace};
use crate::rdb;
use crate::resp::Reply;

pub fn dump(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let entry = ks.whole_value(call.db, call.key()?)?;
    let object = entry.and_then(|entry| to_object(&entry.value));
    Ok(Reply::bulk_or_nil(object.map(|object| rdb::encode_dump(&object))))
}

#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_s: i64,
}

impl Options {
    fn parse(args: &[Bytes]) -> Answer<Options> {
        let mut options = Options::default();
        let (mut idle, mut freq) = (false, false);
        let mut rest = args.iter().peekable();
        while let Some(arg) = rest.next() {
            let more = rest.peek().is_some();
            match arg.to_ascii_lowercase().as_slice() {
                b"replace" => options.replace = true,
                b"absttl" => options.absolute = true,
                b"idletime" if more && !freq => {
                    idle = true;
                    options.idle_s = rest.next().map(|text| int(text)).transpose()?.unwrap_or(0);
                    if options.idle_s < 0 {
                        return Err(Stop::error("ERR Invalid IDLETIME value, must be >= 0"));
                    }
                }
                b"freq" if more && !idle => {
                    freq = true;
                    let value = rest.next().map(|text| int(text)).transpose()?.unwrap_or(0);
                    if !(0..=255).contains(&value) {
                        return Err(Stop::error("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                    }
                }
                _ => return Err(Stop::SYNTAX),
            }
        }
        Ok(options)
    }
}

pub fn restore(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, payload) = (call.key()?, call.arg(3)?);
    let options = Options::parse(&call.args[4..])?;
    if ks.kind(call.db, key)?.is_some() && !options.replace {
        return Err(Stop::error("BUSYKEY Target key name already exists."));
    }
    let ttl = int(call.arg(2)?)?;
    if ttl < 0 {
        return Err(Stop::error("ERR Invalid TTL value, must be >= 0"));
    }
    let object = rdb::decode_dump(payload).map_err(|e| Stop::error(e.restore_reply()))?;
    let base = if options.absolute { 0 } else { ks.now_ms };
    let expires_at_ms = (ttl > 0).then(|| ttl.saturating_add(base));
    if expires_at_ms.is_some_and(|at_ms| is_over(ks, call, at_ms)) {
        ks.remove(call.db, key)?;
        return Ok(Reply::OK);
    }
    let value = Value::from(object);
    if value.is_empty() && value.kind() != Kind::Stream {
        return Err(Stop::error("ERR Bad data format"));
    }
    ks.put(call.db, key, value, expires_at_ms)?;
    ks.set_idle(call.db, key, options.idle_s);
    Ok(Reply::OK)
}
