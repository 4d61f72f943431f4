use bytes::{Bytes, BytesMut};

use super::check_len;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

pub fn append(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, more) = (call.key()?, call.arg(2)?);
    let content = match ks.string(call.db, key)? {
        None => more.clone(),
        Some(old) => {
            check_len(call, old.len() as u64, more.len())?;
            let mut content = BytesMut::with_capacity(old.len() + more.len());
            content.extend_from_slice(&old);
            content.extend_from_slice(more);
            content.freeze()
        }
    };
    let len = content.len();
    ks.update_string(call.db, key, content)?;
    Ok(Reply::Int(len as i64))
}

pub fn strlen(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let content = ks.string(call.db, call.key()?)?;
    Ok(Reply::Int(content.map_or(0, |content| content.len() as i64)))
}

pub fn setrange(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, patch) = (call.key()?, call.arg(3)?);
    let offset =
        u64::try_from(int(call.arg(2)?)?).map_err(|_| Stop::error("ERR offset is out of range"))?;
    let old = ks.string(call.db, key)?.unwrap_or_default();
    if patch.is_empty() {
        return Ok(Reply::Int(old.len() as i64));
    }
    check_len(call, offset, patch.len())?;
    let start = usize::try_from(offset).map_err(|_| Stop::error("ERR offset is out of range"))?;
    let content = patched(&old, start, patch);
    let len = content.len();
    ks.update_string(call.db, key, content)?;
    Ok(Reply::Int(len as i64))
}

fn patched(old: &[u8], start: usize, patch: &[u8]) -> Bytes {
    let end = start + patch.len();
    let mut content = BytesMut::with_capacity(old.len().max(end));
    content.extend_from_slice(old);
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(patch);
    content.freeze()
}

pub fn getrange(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (start, end) = (int(call.arg(2)?)?, int(call.arg(3)?)?);
    let content = ks.string(call.db, call.key()?)?.unwrap_or_default();
    let len = content.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Ok(Reply::Bulk(Bytes::new()));
    }
    let from_end = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end {
        return Ok(Reply::Bulk(Bytes::new()));
    }
    Ok(Reply::Bulk(content.slice(start as usize..=end as usize)))
}
