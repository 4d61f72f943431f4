use std::collections::BTreeMap;
use std::fmt;

use super::{Entry, Group, KeyName, Keyspace, Stream, Value};

/// Everything in which PostgreSQL is not what Redis is. Shown with the first [`SHOWN`] in detail.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// Keys compared on Redis's side.
    pub keys: usize,
    pub found: Vec<(KeyName, String)>,
    /// Tables that contradict themselves.
    pub faults: Vec<String>,
}

const SHOWN: usize = 20;

impl Differences {
    pub fn between(redis: &Keyspace, postgres: &Keyspace) -> Differences {
        let mut found = Vec::new();
        for (name, entry) in redis {
            match postgres.get(name) {
                None => {
                    found.push((name.clone(), format!("missing in PostgreSQL ({})", show(entry))));
                }
                Some(other) if entry == other => {}
                Some(other) => found.push((name.clone(), entry_difference(entry, other))),
            }
        }
        let extra = postgres.iter().filter(|(name, _)| !redis.contains_key(name));
        found.extend(extra.map(|(n, e)| (n.clone(), format!("only in PostgreSQL ({})", show(e)))));
        Differences { keys: redis.len(), found, faults: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.faults.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} differences in {} keys", self.found.len(), self.keys)?;
        for (name, what) in self.found.iter().take(SHOWN) {
            writeln!(f, "  {name}: {what}")?;
        }
        if self.found.len() > SHOWN {
            writeln!(f, "  … and {} more", self.found.len() - SHOWN)?;
        }
        for fault in self.faults.iter().take(SHOWN) {
            writeln!(f, "  {fault}")?;
        }
        Ok(())
    }
}

fn show(entry: &Entry) -> String {
    match entry.expires_at_ms {
        Some(at) => format!("{}, expires at {at}", entry.value.kind()),
        None => entry.value.kind().to_owned(),
    }
}

fn entry_difference(redis: &Entry, postgres: &Entry) -> String {
    let mut parts = Vec::new();
    if redis.expires_at_ms != postgres.expires_at_ms {
        let (a, b) = (redis.expires_at_ms, postgres.expires_at_ms);
        parts.push(format!("expiry in ms {a:?}, in PostgreSQL {b:?}"));
    }
    if redis.value != postgres.value {
        parts.push(value_difference(&redis.value, &postgres.value));
    }
    parts.join("; ")
}

fn value_difference(redis: &Value, postgres: &Value) -> String {
    match (redis, postgres) {
        (Value::String(a), Value::String(b)) => format!("{}, in PostgreSQL {}", text(a), text(b)),
        (Value::Hash(a), Value::Hash(b)) => map_difference("field", a, b, |v| text(v)),
        (Value::ZSet(a), Value::ZSet(b)) => {
            map_difference("member", a, b, |bits| f64::from_bits(*bits).to_string())
        }
        (Value::Set(a), Value::Set(b)) => {
            let missing = a.difference(b).next().map(|m| format!(", missing {}", text(m)));
            let extra = b.difference(a).next().map(|m| format!(", extra {}", text(m)));
            let (missing, extra) = (missing.unwrap_or_default(), extra.unwrap_or_default());
            format!("{} members, in PostgreSQL {}{missing}{extra}", a.len(), b.len())
        }
        (Value::List(a), Value::List(b)) => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
            let shown = |list: &[Vec<u8>]| list.get(at).map_or("nothing".into(), |v| text(v));
            format!("element {at}: {}, in PostgreSQL {}", shown(a), shown(b))
                + &format!(" (lengths {} and {})", a.len(), b.len())
        }
        (Value::Stream(a), Value::Stream(b)) => stream_difference(a, b),
        (a, b) => format!("a {}, in PostgreSQL a {}", a.kind(), b.kind()),
    }
}

fn map_difference<V: PartialEq>(
    what: &str,
    redis: &BTreeMap<Vec<u8>, V>,
    postgres: &BTreeMap<Vec<u8>, V>,
    show: impl Fn(&V) -> String,
) -> String {
    let different = redis.iter().find(|(name, value)| postgres.get(*name) != Some(value));
    let first = match different {
        Some((name, value)) => {
            let other = postgres.get(name).map_or("nothing".into(), &show);
            format!("{what} {} is {}, in PostgreSQL {other}", text(name), show(value))
        }
        None => {
            let extra = postgres.keys().find(|name| !redis.contains_key(*name));
            format!("extra {what} {}", extra.map_or("?".into(), |name| text(name)))
        }
    };
    format!("{first} (sizes {} and {})", redis.len(), postgres.len())
}

/// Shown with their fields as text.
struct Entries<'a>(&'a Stream);

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.0.entries.iter().map(|((ms, seq), fields)| {
            let fields = fields.iter().map(|field| field.escape_ascii().to_string());
            (format!("{ms}-{seq}"), fields.collect::<Vec<_>>().join(" "))
        });
        f.debug_map().entries(shown).finish()
    }
}

fn stream_difference(a: &Stream, b: &Stream) -> String {
    if a.entries != b.entries {
        let id = a.entries.iter().find(|(id, fields)| b.entries.get(id) != Some(fields));
        let id =
            id.map(|(id, _)| id).or_else(|| b.entries.keys().find(|i| !a.entries.contains_key(i)));
        return format!(
            "entries differ at {id:?}: {:?}, in PostgreSQL {:?}",
            Entries(a),
            Entries(b)
        );
    }
    for (name, group) in &a.groups {
        let other = b.groups.get(name);
        if other != Some(group) {
            let Some(other) = other else { return format!("group {} is missing", text(name)) };
            return format!("group {}: {}", text(name), group_difference(group, other));
        }
    }
    let meta = |s: &Stream| (s.last_id, s.max_deleted_id, s.entries_added, s.groups.len());
    format!(
        "(last id, max deleted id, entries added, groups) {:?}, in PostgreSQL {:?}",
        meta(a),
        meta(b)
    )
}

fn group_difference(a: &Group, b: &Group) -> String {
    if a.last_id != b.last_id {
        return format!("last id {:?}, in PostgreSQL {:?}", a.last_id, b.last_id);
    }
    if a.consumers != b.consumers {
        let names = |g: &Group| g.consumers.iter().map(|c| text(c)).collect::<Vec<_>>().join(" ");
        return format!("consumers {}, in PostgreSQL {}", names(a), names(b));
    }
    let (size, other) = (a.pending.len(), b.pending.len());
    let first = a.pending.iter().find(|(id, pending)| b.pending.get(id) != Some(pending));
    match first {
        Some((id, pending)) => {
            format!(
                "pending {id:?} is {pending:?}, in PostgreSQL {:?} ({size} and {other})",
                b.pending.get(id)
            )
        }
        None => format!("{size} pending, in PostgreSQL {other}"),
    }
}

/// Bytes for people: escaped, shortened.
fn text(bytes: &[u8]) -> String {
    match bytes.split_at_checked(60) {
        Some((head, _)) => format!("\"{}…\" ({} bytes)", head.escape_ascii(), bytes.len()),
        None => format!("\"{}\"", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace(entries: &[(&str, Option<i64>, Value)]) -> Keyspace {
        let named = entries.iter().map(|(key, expires_at_ms, value)| {
            let name = KeyName { db: 0, key: key.as_bytes().to_vec() };
            (name, Entry { expires_at_ms: *expires_at_ms, value: value.clone() })
        });
        named.collect()
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let string = |s: &str| Value::String(s.into());
        let zset = |score: f64| Value::ZSet([(b"m".to_vec(), score.to_bits())].into());
        let list =
            |items: &[&str]| Value::List(items.iter().map(|i| i.as_bytes().to_vec()).collect());
        let cases = [
            (string("a"), string("b"), "\"a\", in PostgreSQL \"b\""),
            (string("a"), list(&["a"]), "a string, in PostgreSQL a list"),
            (zset(0.0), zset(-0.0), "member \"m\" is 0, in PostgreSQL -0"),
            (list(&["a", "b"]), list(&["a", "c"]), "element 1"),
            (list(&["a"]), list(&["a", "c"]), "element 1: nothing"),
        ];
        for (redis, postgres, expected) in cases {
            let (a, b) = (keyspace(&[("k", None, redis)]), keyspace(&[("k", None, postgres)]));
            assert!(Differences::between(&a, &a).is_empty());
            let shown = Differences::between(&a, &b).to_string();
            assert!(shown.contains(expected), "{shown}");
        }
        let (a, b) =
            (keyspace(&[("k", Some(1), string("a"))]), keyspace(&[("k", None, string("a"))]));
        assert!(Differences::between(&a, &b).to_string().contains("expiry in ms Some(1)"));
        let empty = Keyspace::new();
        assert!(Differences::between(&a, &empty).to_string().contains("missing in PostgreSQL"));
        assert!(Differences::between(&empty, &a).to_string().contains("only in PostgreSQL"));
    }
}
