use bytes::Bytes;
use rand::RngExt;

use crate::engine::scan::{self, Scan};
use crate::engine::stop::{Answer, Part, Stop};
use crate::engine::value::Kind;
use crate::engine::{Call, Keyspace, glob};
use crate::resp::Reply;

/// All of the database has to be known.
fn must_be_whole(ks: &Keyspace, call: &Call<'_>) -> Answer<()> {
    match ks.is_whole(call.db) {
        true => Ok(()),
        false => Err(Stop::need(call.db, &Bytes::new(), Part::Keys)),
    }
}

/// The keys that have not expired, with their types. All of the database has to be known.
fn keys<'a>(
    ks: &'a Keyspace,
    call: &Call<'_>,
) -> Answer<impl Iterator<Item = (&'a Bytes, Kind)> + use<'a>> {
    must_be_whole(ks, call)?;
    let alive = |at_ms: Option<i64>| at_ms.is_none_or(|at_ms| !ks.is_past(at_ms));
    let entries = ks.iter(call.db).filter(move |(_, entry)| alive(entry.expires_at_ms));
    Ok(entries.map(|(key, entry)| (key, entry.value.kind())))
}

pub fn dbsize(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    if let Some(count) = ks.census(call.db) {
        return Ok(Reply::Int(count.keys));
    }
    Ok(Reply::Int(keys(ks, call)?.count() as i64))
}

pub fn keys_matching(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let pattern = call.key()?;
    let found = keys(ks, call)?.filter(|(key, _)| glob::matches(pattern, key));
    Ok(Reply::Array(found.map(|(key, _)| Reply::Bulk(key.clone())).collect()))
}

pub fn randomkey(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let count = keys(ks, call)?.count();
    if count == 0 {
        return Ok(Reply::Nil);
    }
    let index = ks.rng.random_range(0..count);
    Ok(Reply::bulk_or_nil(keys(ks, call)?.nth(index).map(|(key, _)| key.clone())))
}

pub fn scan(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let cursor = scan::cursor(call.arg(1)?)?;
    let scan = Scan::parse(&call.args[2..], true)?;
    must_be_whole(ks, call)?;
    let entries = ks.iter_from(call.db, scan::from(cursor));
    let (next, page) =
        scan.next_page(entries.map(|(at, key, entry)| (at, (key, entry.value.kind()))));
    let of_kind = |kind: Kind| {
        scan.kind.is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind.as_str().as_bytes()))
    };
    let shown = page.into_iter().filter(|(key, kind)| of_kind(*kind) && scan.matches(key));
    Ok(scan::reply(next, shown.map(|(key, _)| key.clone())))
}
