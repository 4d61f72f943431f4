//! docs/errors.md has every error text of the source that Redis does not have, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use support::find_program;

const PAGE: &str = include_str!("../../docs/errors.md");

/// First words of error replies.
const WORDS: &[&str] = &[
    "BUSY",
    "BUSYKEY",
    "DENIED",
    "ERR",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOAUTH",
    "NOGROUP",
    "NOPERM",
    "NOPROTO",
    "NOREPLICAS",
    "NOSCRIPT",
    "NOTBUSY",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNAVAILABLE",
    "UNBLOCKED",
    "UNKILLABLE",
    "UNKNOWNOUTCOME",
    "WRONGPASS",
    "WRONGTYPE",
];

/// Redis does not have these: an error that begins with one is the proxy's, whatever follows.
const OURS: &[&str] = &["UNAVAILABLE", "UNKNOWNOUTCOME"];

/// Redis puts these together from pieces, so that they are not in its binary as they stand here.
const REDIS_FORMATS: &[&str] = &[
    "ERR unknown subcommand",
    "ERR wrong number of arguments for '",
    "ERR value is out of range, value must between ",
    "ERR ACL GENPASS argument must be",
    "ERR Error registering functions: FUNCTION LOAD timeout",
    "ERR Engine '' not found",
];

/// The string literals of Rust source, up to the file's tests, as they are at run time.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let (mut found, mut chars) = (Vec::new(), source.chars().peekable());
    while let Some(start) = chars.next() {
        match start {
            // A quote as a character, and a comment, are no beginning.
            '\'' if chars.peek() == Some(&'"') => drop(chars.next()),
            '/' if chars.peek() == Some(&'/') => drop(chars.by_ref().find(|c| *c == '\n')),
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next() {
                    match (c, chars.peek()) {
                        ('"', _) => break,
                        ('\\', Some('\n')) => {
                            while chars.next_if(|c| c.is_whitespace()).is_some() {}
                        }
                        ('\\', Some('r' | 'n')) => drop(chars.next()),
                        ('\\', Some(_)) => text.extend(chars.next()),
                        _ => text.push(c),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// The text with `…` for what is filled in; None: it is no error reply.
fn as_error(literal: &str) -> Option<String> {
    let text = literal.strip_prefix('-').unwrap_or(literal);
    let (word, rest) = text.split_once(' ')?;
    if !WORDS.contains(&word) || rest.is_empty() {
        return None;
    }
    let mut shown = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '{' => {
                shown.push('…');
                inside = true;
            }
            '}' => inside = false,
            _ if inside => {}
            _ => shown.push(c),
        }
    }
    Some(shown)
}

/// Whether Redis says this too: its pieces are in the server's binary.
fn is_of_redis(error: &str, server: &[u8]) -> bool {
    let (word, rest) = error.split_once(' ').unwrap_or((error, ""));
    !OURS.contains(&word)
        && (REDIS_FORMATS.iter().any(|format| error.starts_with(format))
            || rest
                .split('…')
                .filter(|piece| piece.trim().len() > 2)
                .all(|piece| memchr::memmem::find(server, piece.as_bytes()).is_some()))
}

fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") => {
                found.push(std::fs::read_to_string(&path).expect("readable"));
            }
            false => {}
        }
    }
}

#[test]
fn every_error_of_the_proxys_own_is_in_the_page_and_nothing_else() {
    let server = find_program("redis-server", &[]).expect("redis-server");
    let server = std::fs::read(server).expect("readable");
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let all = files.iter().flat_map(|file| literals(file)).filter_map(|text| as_error(&text));
    let all: BTreeSet<String> = all.filter(|error| !is_of_redis(error, &server)).collect();
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    // The first table is about the words alone.
    let page: BTreeSet<String> =
        rows.map(|(error, _)| error.to_owned()).filter(|error| error.contains(' ')).collect();
    let page: BTreeSet<String> = page.into_iter().filter(|e| as_error(e).is_some()).collect();
    let missing: Vec<&String> = all.difference(&page).collect();
    assert!(missing.is_empty(), "docs/errors.md lacks: {missing:#?}");
    let stale: Vec<&String> = page.difference(&all).collect();
    assert!(stale.is_empty(), "docs/errors.md has what the source has not: {stale:#?}");
    assert!(all.len() > 20, "{all:#?}");
}
