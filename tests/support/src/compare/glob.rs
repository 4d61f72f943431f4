/// Redis's glob over a key: `*`, `?`, `[…]` with ranges and `^`, and `\` before a literal byte.
pub(super) fn matches(pattern: &str, key: &[u8]) -> bool {
    matches_bytes(pattern.as_bytes(), key)
}

fn matches_bytes(pattern: &[u8], key: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return key.is_empty() };
    match first {
        b'*' => (0..=key.len()).any(|skipped| matches_bytes(rest, &key[skipped..])),
        b'?' => !key.is_empty() && matches_bytes(rest, &key[1..]),
        b'[' => {
            let (Some(end), Some(&byte)) = (rest.iter().position(|b| *b == b']'), key.first())
            else {
                return false;
            };
            in_class(&rest[..end], byte) && matches_bytes(&rest[end + 1..], &key[1..])
        }
        b'\\' if !rest.is_empty() => {
            key.first() == Some(&rest[0]) && matches_bytes(&rest[1..], &key[1..])
        }
        literal => key.first() == Some(&literal) && matches_bytes(rest, &key[1..]),
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    let (negated, mut class) = match class.split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    while let Some((&low, rest)) = class.split_first() {
        if let [b'-', high, tail @ ..] = rest {
            found |= (low..=*high).contains(&byte);
            class = tail;
        } else {
            found |= low == byte;
            class = rest;
        }
    }
    found != negated
}

#[test]
fn globs() {
    for (pattern, key, expected) in [
        ("lock:*", "lock:a", true),
        ("*_lock:*", "refresh_lock:1", true),
        ("*:empty", "a:b:empty", true),
        ("h?llo", "hllo", false),
        ("h[a-c^]llo", "hbllo", true),
        ("h[^a]llo", "hallo", false),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
    ] {
        assert_eq!(matches(pattern, key.as_bytes()), expected, "{pattern} {key}");
    }
}
