//! What `SLOWLOG` and `MONITOR` show instead of passwords, in Redis's way.

use std::borrow::Cow;

use bytes::Bytes;

const HIDDEN: Bytes = Bytes::from_static(b"(redacted)");

/// Parameters of `CONFIG SET` whose value is nobody's business.
const SENSITIVE: [&[u8]; 5] = [
    b"masterauth",
    b"masteruser",
    b"requirepass",
    b"tls-key-file-pass",
    b"tls-client-key-file-pass",
];

/// The words of a command, without passwords.
pub(super) fn redacted(args: &[Bytes]) -> Cow<'_, [Bytes]> {
    let hidden = secrets(args);
    if hidden.is_empty() {
        return Cow::Borrowed(args);
    }
    let mut shown = args.to_vec();
    for at in hidden {
        shown[at] = HIDDEN;
    }
    Cow::Owned(shown)
}

/// Where passwords are.
fn secrets(args: &[Bytes]) -> Vec<usize> {
    let is = |at: usize, word: &[u8]| args.get(at).is_some_and(|a| a.eq_ignore_ascii_case(word));
    // So many words behind one of a certain kind, if they are all there.
    let behind = |from: usize, word: &[u8], count: usize| {
        let found = (from..args.len()).find(|at| is(*at, word) && at + count < args.len());
        found.map_or(0..0, |at| at + 1..at + 1 + count)
    };
    if is(0, b"auth") {
        (1..args.len()).collect()
    } else if is(0, b"hello") {
        behind(2, b"auth", 2).collect()
    } else if is(0, b"migrate") {
        behind(6, b"auth", 1).chain(behind(6, b"auth2", 2)).collect()
    } else if is(0, b"acl") && is(1, b"setuser") {
        (2..args.len()).collect()
    } else if is(0, b"config") && is(1, b"set") {
        let sensitive = |at: &usize| SENSITIVE.iter().any(|name| is(*at, name));
        (2..args.len())
            .step_by(2)
            .filter(sensitive)
            .map(|at| at + 1)
            .filter(|at| *at < args.len())
            .collect()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (line, shown) in [
            ("AUTH a", "AUTH *"),
            ("auth a b", "auth * *"),
            ("hello 3 AUTH u p SETNAME n", "hello 3 AUTH * * SETNAME n"),
            ("hello 3 auth u", "hello 3 auth u"),
            ("config SET maxmemory 1 RequirePass p", "config SET maxmemory 1 RequirePass *"),
            ("config set nosuch p", "config set nosuch p"),
            ("config get requirepass", "config get requirepass"),
            ("config set requirepass", "config set requirepass"),
            ("acl setuser u on >p", "acl setuser * * *"),
            ("acl getuser u", "acl getuser u"),
            ("migrate h 1 k 0 10 copy auth p", "migrate h 1 k 0 10 copy auth *"),
            ("migrate h 1  0 10 auth2 u p keys a", "migrate h 1  0 10 auth2 * * keys a"),
            ("migrate auth 1 k 0 10", "migrate auth 1 k 0 10"),
            ("set k auth", "set k auth"),
        ] {
            let args: Vec<Bytes> =
                line.split(' ').map(|a| Bytes::copy_from_slice(a.as_bytes())).collect();
            let got: Vec<String> = redacted(&args)
                .iter()
                .map(|arg| match *arg == HIDDEN {
                    true => "*".into(),
                    false => String::from_utf8_lossy(arg).into_owned(),
                })
                .collect();
            assert_eq!(got.join(" "), shown);
        }
    }
}
