//! Which answers may be due to a missing key.

use crate::resp::elements;

/// True when the answer to a read of `keys` keys may be another one with all of them in place. Reads of one
/// missing key answer nil, 0, a negative number, an error, something empty, or a list of these.
pub fn may_miss(name: &str, keys: usize, reply: &[u8]) -> bool {
    if keys > 1 && name != "mget" {
        return true;
    }
    match name {
        // Each element stands for a key of its own.
        "mget" => elements(reply).is_none_or(|all| all.iter().any(|one| empty(one, true))),
        _ => empty(reply, true),
    }
}

/// Reads of one key that answer like this only when it is missing.
const OF_MISSING: &[(&str, &[&str])] = &[
    ("get", &["$-1", "_"]),
    ("exists", &[":0"]),
    ("type", &["+none"]),
    ("ttl", &[":-2"]),
    ("pttl", &[":-2"]),
    ("expiretime", &[":-2"]),
    ("pexpiretime", &[":-2"]),
    ("dump", &["$-1", "_"]),
    ("hgetall", &["*0", "%0"]),
    ("hkeys", &["*0"]),
    ("hvals", &["*0"]),
    ("hlen", &[":0"]),
    ("smembers", &["*0", "~0"]),
    ("scard", &[":0"]),
    ("llen", &[":0"]),
    ("zcard", &[":0"]),
];

/// True when the answer to a read of one key says for certain that it is missing.
pub fn tells_absence(name: &str, reply: &[u8]) -> bool {
    let Some(line) = reply.strip_suffix(b"\r\n") else { return false };
    let known = OF_MISSING.iter().find(|(command, _)| *command == name);
    known.is_some_and(|(_, lines)| lines.iter().any(|known| known.as_bytes() == line))
}

/// True when there is nothing in the reply. Inside of lists a `0` is a cursor.
fn empty(reply: &[u8], top: bool) -> bool {
    let line = memchr::memchr(b'\r', reply).map_or(reply, |end| &reply[..end]);
    match line {
        [b'-' | b'_', ..] | [b':', b'-', ..] | b":0" | b"$-1" | b"*-1" | b"$0" | b"+none" => true,
        [b'*' | b'~' | b'%', ..] => {
            let Some(all) = array(reply) else { return false };
            all.iter().all(|one| empty(one, false))
        }
        b"$1" => !top && reply.get(4) == Some(&b'0'),
        _ => false,
    }
}

/// The elements of an array, set or map.
fn array(reply: &[u8]) -> Option<Vec<&[u8]>> {
    match reply.first()? {
        b'*' => elements(reply),
        // Whatever they hold, a missing key has none.
        _ if reply.starts_with(b"~0\r") || reply.starts_with(b"%0\r") => Some(Vec::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_content_are_looked_into() {
        for reply in [
            "$-1\r\n",
            "_\r\n",
            ":0\r\n",
            ":-2\r\n",
            "*0\r\n",
            "*-1\r\n",
            "$0\r\n\r\n",
            "+none\r\n",
            "~0\r\n",
            "%0\r\n",
            "-ERR no such key\r\n",
            "*2\r\n$-1\r\n$-1\r\n",
            "*2\r\n$1\r\n0\r\n*0\r\n",
            "*1\r\n*-1\r\n",
            "*2\r\n:0\r\n:0\r\n",
        ] {
            assert!(may_miss("x", 1, reply.as_bytes()), "{reply:?}");
        }
        for reply in [
            "$1\r\n0\r\n",
            "$2\r\nab\r\n",
            ":5\r\n",
            "+string\r\n",
            "*2\r\n$-1\r\n$1\r\na\r\n",
            "~1\r\n:0\r\n",
            "%1\r\n$1\r\na\r\n$1\r\nb\r\n",
            ",1.5\r\n",
        ] {
            assert!(!may_miss("x", 1, reply.as_bytes()), "{reply:?}");
        }
    }

    #[test]
    fn some_answers_tell_that_the_key_is_missing() {
        for (name, reply) in [("get", "$-1\r\n"), ("get", "_\r\n"), ("hgetall", "%0\r\n")] {
            assert!(tells_absence(name, reply.as_bytes()), "{name} {reply:?}");
        }
        for (name, reply) in [("hget", "$-1\r\n"), ("get", "$0\r\n\r\n"), ("strlen", ":0\r\n")] {
            assert!(!tells_absence(name, reply.as_bytes()), "{name} {reply:?}");
        }
    }

    #[test]
    fn with_several_keys_content_says_nothing() {
        assert!(may_miss("sunion", 2, b"*1\r\n$1\r\na\r\n"));
        assert!(may_miss("mget", 2, b"*2\r\n$1\r\na\r\n$-1\r\n"));
        assert!(!may_miss("mget", 2, b"*2\r\n$1\r\na\r\n$1\r\n0\r\n"), "a value 0");
    }
}
