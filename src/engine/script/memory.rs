//! Small values go into an interpreter without a look at its memory limit.
//!
//! While a limit is set, mlua makes every string and table of ours in a protected call of its own, which takes longer
//! than the string. What is made without counts all the same: near the limit, or when it is large, it is
//! made with.

use bytes::Bytes;
use mlua::Lua;

use crate::resp::Reply;

/// Bytes up to which a value is small, as the interpreter holds it, roughly.
const SMALL: usize = 64 << 10;
/// Bytes that a string or a place in a table takes beside its text.
const EACH: usize = 64;

/// Makes something of ours, of `bytes` text in `count` values, in the interpreter.
pub fn make<R>(
    lua: &Lua,
    (count, bytes): (usize, usize),
    make: impl FnOnce() -> mlua::Result<R>,
) -> mlua::Result<R> {
    if count.saturating_mul(EACH).saturating_add(bytes) > SMALL {
        return make();
    }
    let limit = lua.set_memory_limit(0)?;
    if limit == 0 || lua.used_memory() + SMALL > limit {
        lua.set_memory_limit(limit)?;
        return make();
    }
    let made = make();
    lua.set_memory_limit(limit)?;
    made
}

/// How many values, and how many bytes of text, there are in `items`.
pub fn size_of(items: &[Bytes]) -> (usize, usize) {
    (items.len() + 1, items.iter().map(Bytes::len).sum())
}

/// The same of a reply; what is nested, or no RESP2, counts as large.
pub fn size_of_reply(reply: &Reply) -> (usize, usize) {
    const LARGE: (usize, usize) = (usize::MAX, usize::MAX);
    match reply {
        Reply::Int(_) | Reply::Nil | Reply::NilArray => (1, 0),
        Reply::Simple(text) | Reply::Error(text) => (2, text.len()),
        Reply::Bulk(text) => (1, text.len()),
        Reply::Array(items) if items.len() < SMALL / EACH => {
            items.iter().fold((1, 0), |(count, bytes), item| match item {
                Reply::Int(_) | Reply::Nil | Reply::Bulk(_) => {
                    let (_, more) = size_of_reply(item);
                    (count.saturating_add(1), bytes.saturating_add(more))
                }
                _ => LARGE,
            })
        }
        _ => LARGE,
    }
}
