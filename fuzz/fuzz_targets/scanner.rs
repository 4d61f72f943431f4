//! Any bytes from a client or from Redis: cut the same however they arrive, and never outside the buffer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::config::Limits;
use tandem::resp::{ReplyScanner, RequestLimits, RequestScanner, Scan, decode_reply, elements};

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (split, trusted, data) = input;
    let split = usize::from(split).min(data.len());
    requests(data, split, trusted);
    replies(data, split);
});

fn requests(data: &[u8], split: usize, trusted: bool) {
    let limits = RequestLimits::from(&Limits::default());
    let mut rest = data;
    loop {
        let whole = RequestScanner::default().scan(rest, &limits, trusted);
        let mut scanner = RequestScanner::default();
        let first = scanner.scan(&rest[..split.min(rest.len())], &limits, trusted);
        let pieces = match first {
            Ok(Scan::Incomplete) => scanner.scan(rest, &limits, trusted),
            decided => decided,
        };
        assert_eq!(whole, pieces);
        let used = match whole {
            Ok(Scan::Command(used)) => {
                let inside = |&(from, to): &(u32, u32)| from <= to && to as usize + 2 <= used;
                assert!(scanner.arguments().iter().all(inside));
                used
            }
            Ok(Scan::Inline(used, words)) => {
                assert!(!words.is_empty());
                used
            }
            Ok(Scan::Nothing(used)) => used,
            Ok(Scan::Incomplete) | Err(_) => return,
        };
        assert!(used > 0);
        rest = &rest[used..];
    }
}

fn replies(data: &[u8], split: usize) {
    let whole = ReplyScanner::default().feed(data);
    let (first, second) = data.split_at(split);
    let mut scanner = ReplyScanner::default();
    let pieces = match scanner.feed(first) {
        Ok((used, false)) => scanner.feed(second).map(|(more, done)| (used + more, done)),
        decided => decided,
    };
    assert_eq!(whole, pieces);
    if let Ok((used, true)) = whole {
        let frame = &data[..used];
        let _ = decode_reply(frame);
        let length = elements(frame).map(|parts| parts.concat().len());
        assert!(length.is_none_or(|length| length < used));
    }
}
