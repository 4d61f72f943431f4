//! In what one value of Redis and one of PostgreSQL differ.

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use crate::engine::{Found, to_object};
use crate::rdb::{Object, StreamGroup, StreamObject};

/// Bytes of a value that are shown.
const SHOWN: usize = 120;

/// In what, for programs, and how, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aspect {
    pub what: &'static str,
    pub detail: String,
}

fn aspect(what: &'static str, detail: String) -> Option<Aspect> {
    Some(Aspect { what, detail })
}

/// The first difference; `None`: equal, with expiries up to `tolerance_ms` apart.
pub fn difference(
    redis: &Object,
    expires_at_ms: Option<i64>,
    postgres: &Found,
    tolerance_ms: u64,
) -> Option<Aspect> {
    let Some(object) = to_object(&postgres.value) else {
        return aspect("value", "its rows in PostgreSQL are not a whole value".into());
    };
    value_difference(redis, &object)
        .or_else(|| expiry_difference(expires_at_ms, postgres.expires_at_ms, tolerance_ms))
}

/// Expiries as Unix time in ms.
pub fn expiry_difference(
    redis: Option<i64>,
    postgres: Option<i64>,
    tolerance_ms: u64,
) -> Option<Aspect> {
    let near = match (redis, postgres) {
        (None, None) => true,
        (Some(a), Some(b)) => a.abs_diff(b) <= tolerance_ms,
        _ => false,
    };
    if near {
        return None;
    }
    let shown = |at: Option<i64>| at.map_or("never".to_owned(), |at| format!("at {at} ms"));
    let (ours, theirs) = (shown(redis), shown(postgres));
    aspect("ttl", format!("expires {ours} (Unix time), in PostgreSQL {theirs}"))
}

fn value_difference(redis: &Object, postgres: &Object) -> Option<Aspect> {
    match (redis, postgres) {
        (Object::String(a), Object::String(b)) if a == b => None,
        (Object::String(a), Object::String(b)) => {
            let at =
                a.iter().zip(b.iter()).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
            let (len, other) = (a.len(), b.len());
            let rest = |text: &Bytes| shown(text.get(at..).unwrap_or_default());
            aspect(
                "value",
                format!(
                    "from byte {at} on {}, in PostgreSQL {} ({len} and {other} bytes)",
                    rest(a),
                    rest(b)
                ),
            )
        }
        (Object::List(a), Object::List(b)) => list(a, b),
        (Object::Set(a), Object::Set(b)) => set(a, b),
        (Object::ZSet(a), Object::ZSet(b)) => zset(a, b),
        (Object::Hash(a), Object::Hash(b)) => hash(a, b),
        (Object::Stream(a), Object::Stream(b)) => stream(a, b),
        (Object::Opaque { dump: a, .. }, Object::Opaque { dump: b, .. }) => {
            // The last ten bytes are the version of the format and a checksum.
            let body = |dump: &Bytes| dump.slice(..dump.len().saturating_sub(10));
            let detail = || format!("payloads of {} and {} bytes", a.len(), b.len());
            if body(a) == body(b) { None } else { aspect("value", detail()) }
        }
        (a, b) => {
            let detail = format!("a {}, in PostgreSQL a {}", a.type_name(), b.type_name());
            aspect("type", detail)
        }
    }
}

fn list(a: &[Bytes], b: &[Bytes]) -> Option<Aspect> {
    if a == b {
        return None;
    }
    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    let element = |list: &[Bytes]| list.get(at).map_or("nothing".into(), |element| shown(element));
    let mut sorted = [a.to_vec(), b.to_vec()];
    sorted.iter_mut().for_each(|list| list.sort_unstable());
    let what = if sorted[0] == sorted[1] { "order" } else { "value" };
    let (len, other) = (a.len(), b.len());
    let (here, there) = (element(a), element(b));
    aspect(
        what,
        format!("element {at} is {here}, in PostgreSQL {there} (lengths {len} and {other})"),
    )
}

fn set(a: &[Bytes], b: &[Bytes]) -> Option<Aspect> {
    if a == b {
        return None;
    }
    let (ours, theirs): (HashSet<&Bytes>, HashSet<&Bytes>) =
        (a.iter().collect(), b.iter().collect());
    let lengths = format!("(lengths {} and {})", a.len(), b.len());
    if let Some(member) = a.iter().find(|member| !theirs.contains(*member)) {
        return aspect("value", format!("PostgreSQL lacks member {} {lengths}", shown(member)));
    }
    let extra = b.iter().find(|member| !ours.contains(*member))?;
    aspect("value", format!("Redis lacks member {} {lengths}", shown(extra)))
}

fn zset(a: &[(Bytes, f64)], b: &[(Bytes, f64)]) -> Option<Aspect> {
    let theirs: HashMap<&Bytes, f64> = b.iter().map(|(member, score)| (member, *score)).collect();
    let lengths = format!("(lengths {} and {})", a.len(), b.len());
    for (member, score) in a {
        match theirs.get(member) {
            // To the bit: -0 is not 0.
            Some(other) if other.to_bits() == score.to_bits() => {}
            Some(other) => {
                let member = shown(member);
                let detail =
                    format!("member {member} has the score {score:?}, in PostgreSQL {other:?}");
                return aspect("score", detail);
            }
            None => {
                return aspect(
                    "value",
                    format!("PostgreSQL lacks member {} {lengths}", shown(member)),
                );
            }
        }
    }
    if a.len() == b.len() {
        return None;
    }
    let ours: HashSet<&Bytes> = a.iter().map(|(member, _)| member).collect();
    let (extra, _) = b.iter().find(|(member, _)| !ours.contains(member))?;
    aspect("value", format!("Redis lacks member {} {lengths}", shown(extra)))
}

fn hash(a: &[(Bytes, Bytes)], b: &[(Bytes, Bytes)]) -> Option<Aspect> {
    if a == b {
        return None;
    }
    let theirs: HashMap<&Bytes, &Bytes> = b.iter().map(|(field, value)| (field, value)).collect();
    let lengths = format!("(lengths {} and {})", a.len(), b.len());
    for (field, value) in a {
        match theirs.get(field) {
            Some(other) if *other == value => {}
            Some(other) => {
                let (field, value, other) = (shown(field), shown(value), shown(other));
                return aspect("value", format!("field {field} is {value}, in PostgreSQL {other}"));
            }
            None => {
                return aspect(
                    "value",
                    format!("PostgreSQL lacks field {} {lengths}", shown(field)),
                );
            }
        }
    }
    let ours: HashSet<&Bytes> = a.iter().map(|(field, _)| field).collect();
    let (extra, _) = b.iter().find(|(field, _)| !ours.contains(field))?;
    aspect("value", format!("Redis lacks field {} {lengths}", shown(extra)))
}

fn stream(a: &StreamObject, b: &StreamObject) -> Option<Aspect> {
    if a.entries != b.entries {
        let same = a.entries.iter().zip(&b.entries).take_while(|(a, b)| a == b).count();
        let id =
            a.entries.get(same).or(b.entries.get(same)).map(|entry| entry.id).unwrap_or_default();
        let (len, other) = (a.entries.len(), b.entries.len());
        let detail =
            format!("entries differ from {}-{} on (lengths {len} and {other})", id.ms, id.seq);
        return aspect("entries", detail);
    }
    let counters = |s: &StreamObject| (s.last_id, s.max_deleted_id, s.entries_added);
    if counters(a) != counters(b) {
        let shown = |s: &StreamObject| {
            let (last, deleted) = (s.last_id, s.max_deleted_id);
            format!(
                "last id {}-{}, greatest deleted {}-{}, {} added",
                last.ms, last.seq, deleted.ms, deleted.seq, s.entries_added
            )
        };
        return aspect("counters", format!("{}; in PostgreSQL {}", shown(a), shown(b)));
    }
    let theirs: HashMap<&Bytes, &StreamGroup> =
        b.groups.iter().map(|group| (&group.name, group)).collect();
    for ours in &a.groups {
        let name = shown(&ours.name);
        let Some(other) = theirs.get(&ours.name) else {
            return aspect("groups", format!("PostgreSQL lacks group {name}"));
        };
        if let Some((what, detail)) = group(ours, other) {
            return aspect(what, format!("group {name}: {detail}"));
        }
    }
    if a.groups.len() == b.groups.len() {
        return None;
    }
    let extra =
        b.groups.iter().find(|group| !a.groups.iter().any(|ours| ours.name == group.name))?;
    aspect("groups", format!("Redis lacks group {}", shown(&extra.name)))
}

/// When a consumer was last seen and how many entries a group has read do not travel in the stream:
/// Redis's own replicas have them otherwise than their master, too.
fn group(a: &StreamGroup, b: &StreamGroup) -> Option<(&'static str, String)> {
    if a.last_id != b.last_id {
        let (ours, theirs) = (a.last_id, b.last_id);
        let detail = format!(
            "last delivered {}-{}, in PostgreSQL {}-{}",
            ours.ms, ours.seq, theirs.ms, theirs.seq
        );
        return Some(("groups", detail));
    }
    let names = |group: &StreamGroup| -> HashSet<Bytes> {
        group.consumers.iter().map(|consumer| consumer.name.clone()).collect()
    };
    if names(a) != names(b) {
        let detail =
            format!("{} consumers, in PostgreSQL {}", a.consumers.len(), b.consumers.len());
        return Some(("consumers", format!("other consumers ({detail})")));
    }
    if a.pending != b.pending {
        let same = a.pending.iter().zip(&b.pending).take_while(|(a, b)| a == b).count();
        let at =
            a.pending.get(same).or(b.pending.get(same)).map(|entry| entry.id).unwrap_or_default();
        let (len, other) = (a.pending.len(), b.pending.len());
        let detail =
            format!("pending entries differ from {}-{} on ({len} and {other})", at.ms, at.seq);
        return Some(("pending", detail));
    }
    None
}

/// Bytes for people: escaped, shortened.
pub fn shown(bytes: &[u8]) -> String {
    match bytes.split_at_checked(SHOWN) {
        Some((head, _)) if bytes.len() > SHOWN => {
            format!("\"{}…\" ({} bytes)", head.escape_ascii(), bytes.len())
        }
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Value;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn list(items: &[&str]) -> Object {
        Object::List(items.iter().map(|item| bytes(item)).collect())
    }

    #[test]
    fn every_aspect_has_its_name() {
        let string = |text: &str| Object::String(bytes(text));
        let zset = |score: f64| Object::ZSet(vec![(bytes("m"), score)]);
        let hash = |pairs: &[(&str, &str)]| {
            Object::Hash(pairs.iter().map(|(f, v)| (bytes(f), bytes(v))).collect())
        };
        let set = |items: &[&str]| Object::Set(items.iter().map(|item| bytes(item)).collect());
        let cases = [
            (string("a"), string("b"), "value"),
            (string("a"), list(&["a"]), "type"),
            (list(&["a", "b"]), list(&["b", "a"]), "order"),
            (list(&["a", "b"]), list(&["a"]), "value"),
            (zset(0.0), zset(-0.0), "score"),
            (set(&["a", "b"]), set(&["a", "c"]), "value"),
            (set(&["a"]), set(&["a", "c"]), "value"),
            (hash(&[("f", "1")]), hash(&[("f", "2")]), "value"),
            (hash(&[("f", "1")]), hash(&[("f", "1"), ("g", "2")]), "value"),
        ];
        for (a, b, what) in cases {
            assert_eq!(
                value_difference(&a, &b).map(|aspect| aspect.what),
                Some(what),
                "{a:?} {b:?}"
            );
            assert_eq!(value_difference(&a, &a), None);
        }
        let (one, two) = (hash(&[("f", "1"), ("g", "2")]), hash(&[("g", "2"), ("f", "1")]));
        assert_eq!(value_difference(&one, &two), None, "fields have no order");
        let (one, two) = (set(&["f", "g"]), set(&["g", "f"]));
        assert_eq!(value_difference(&one, &two), None, "nor have members");
    }

    #[test]
    fn expiries_may_be_a_little_apart() {
        let redis = Object::String(bytes("a"));
        let found = |at: Option<i64>| Found {
            id: 1,
            expires_at_ms: at,
            version: 1,
            value: Value::from(Object::String(bytes("a"))),
            view: None,
        };
        for (ours, theirs, equal) in [
            (Some(1000), Some(1900), true),
            (Some(1000), Some(2001), false),
            (Some(1000), None, false),
            (None, Some(1000), false),
            (None, None, true),
        ] {
            let difference = difference(&redis, ours, &found(theirs), 1000);
            assert_eq!(difference.is_none(), equal, "{ours:?} {theirs:?}");
            assert!(difference.is_none_or(|aspect| aspect.what == "ttl"));
        }
    }
}
