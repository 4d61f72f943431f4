//! The scanners against `redis-protocol`, on random frames and on frames with random damage.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp3::types::OwnedFrame as Frame3;
use redis_protocol::{resp2, resp3};
use tandem::config::Limits;
use tandem::resp::{FrameError, ReplyScanner, RequestLimits, RequestScanner, Scan};

const ROUNDS: usize = 20_000;

fn text(rng: &mut SmallRng) -> Vec<u8> {
    let length = match rng.random_range(0..20) {
        0 => 0,
        1 => rng.random_range(0..300),
        _ => rng.random_range(0..12),
    };
    // Bytes that mean something in RESP are frequent.
    const LIKELY: &[u8] = b"\r\n$*+-:0159%~|>_#,(=!";
    let byte = |rng: &mut SmallRng| match rng.random_range(0..3) {
        0 => LIKELY[rng.random_range(0..LIKELY.len())],
        _ => rng.random(),
    };
    (0..length).map(|_| byte(rng)).collect()
}

fn line(rng: &mut SmallRng) -> String {
    (0..rng.random_range(0..10)).map(|_| char::from(rng.random_range(b' '..=b'~'))).collect()
}

fn bulk(kind: char, body: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("{kind}{}\r\n", body.len()).into_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

fn request(rng: &mut SmallRng) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..rng.random_range(1..6)).map(|_| text(rng)).collect();
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bulk('$', word, &mut out));
    out
}

/// One reply; the types of RESP3 only where `resp3` says so.
fn reply(rng: &mut SmallRng, resp3: bool, depth: usize, out: &mut Vec<u8>) {
    let number = rng.random::<i64>() >> rng.random_range(0..64);
    let simple = match rng.random_range(0..if resp3 { 17 } else { 8 }) {
        0 => format!("+{}", line(rng)),
        1 => format!("-{}", line(rng)),
        2 => format!(":{number}"),
        3 if !resp3 => "$-1".into(),
        4 if !resp3 => "*-1".into(),
        3..=5 => return bulk('$', &text(rng), out),
        6 | 7 => return list('*', rng, resp3, depth, out),
        8 => "_".into(),
        9 => format!(",{}", [0.1, -1e300, f64::INFINITY, 17.0][rng.random_range(0..4)]),
        10 => format!("#{}", ['t', 'f'][rng.random_range(0..2)]),
        11 => format!("({number}{}", number.unsigned_abs()),
        12 => return bulk('!', &text(rng), out),
        13 => return bulk('=', &[b"txt:", &text(rng)[..]].concat(), out),
        14 => return keyed('%', rng, depth, out),
        15 => {
            let items = rng.random_range(0..4);
            out.extend(format!("~{items}\r\n").into_bytes());
            (0..items).for_each(|_| bulk('$', &text(rng), out));
            return;
        }
        // Out of band, so never inside anything else; neither are attributes in what Redis sends.
        _ if depth > 0 => return bulk('$', &text(rng), out),
        _ if rng.random() => return list('>', rng, resp3, depth, out),
        _ => {
            keyed('|', rng, depth, out);
            return bulk('$', &text(rng), out);
        }
    };
    out.extend_from_slice(simple.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn list(kind: char, rng: &mut SmallRng, resp3: bool, depth: usize, out: &mut Vec<u8>) {
    let items = if depth < 4 { rng.random_range(0..5) } else { 0 };
    out.extend(format!("{kind}{items}\r\n").into_bytes());
    (0..items).for_each(|_| reply(rng, resp3, depth + 1, out));
}

fn keyed(kind: char, rng: &mut SmallRng, depth: usize, out: &mut Vec<u8>) {
    let pairs = if depth < 4 { rng.random_range(0..4) } else { 0 };
    out.extend(format!("{kind}{pairs}\r\n").into_bytes());
    for _ in 0..pairs {
        bulk('$', &text(rng), out);
        reply(rng, true, depth + 1, out);
    }
}

/// Changes, removes, repeats or inserts a few bytes.
fn damage(rng: &mut SmallRng, frame: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..frame.len());
        const BYTES: &[u8] = b"\r\n$*+-:0123456789%~|>_#,(=!?. \0\xffa";
        let byte = BYTES[rng.random_range(0..BYTES.len())];
        match rng.random_range(0..5) {
            0 => frame[at] = byte,
            1 => frame.insert(at, byte),
            2 if frame.len() > 1 => drop(frame.remove(at)),
            3 => frame.truncate(at.max(1)),
            _ => {
                let end = rng.random_range(at..frame.len());
                let again = frame[at..end].to_vec();
                frame.splice(at..at, again);
            }
        }
    }
}

fn scan_request(frame: &[u8]) -> (Result<Scan, String>, Vec<Vec<u8>>) {
    let limits = RequestLimits::from(&Limits::default());
    let mut scanner = RequestScanner::default();
    let scan = scanner.scan(frame, &limits, true).map_err(|error| error.to_string());
    let mut words = Vec::new();
    if let Ok(Scan::Command(_)) = scan {
        let slice = |&(from, to): &(u32, u32)| frame[from as usize..to as usize].to_vec();
        words = scanner.arguments().iter().map(slice).collect();
    }
    (scan, words)
}

/// As [`scan_request`], with the bytes arriving in pieces.
fn scan_in_pieces(rng: &mut SmallRng, frame: &[u8]) -> Result<Scan, String> {
    let limits = RequestLimits::from(&Limits::default());
    let mut scanner = RequestScanner::default();
    let mut end = 0;
    loop {
        end = (end + rng.random_range(1..8)).min(frame.len());
        let scan = scanner.scan(&frame[..end], &limits, true).map_err(|error| error.to_string());
        if end == frame.len() || scan != Ok(Scan::Incomplete) {
            return scan;
        }
    }
}

/// The crate's view of a request: its length and words, when it is one in the form that clients send.
fn crate_request(frame: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    let (decoded, length) = resp2::decode::decode(frame).ok()??;
    let Frame2::Array(items) = decoded else { return None };
    let words: Option<Vec<Vec<u8>>> = items
        .into_iter()
        .map(|item| match item {
            Frame2::BulkString(word) => Some(word),
            _ => None,
        })
        .collect();
    let words = words.filter(|words| !words.is_empty())?;
    (support::encode(&words) == frame[..length]).then_some((length, words))
}

#[test]
fn requests_are_cut_as_redis_protocol_cuts_them() {
    let mut rng = SmallRng::seed_from_u64(support::seed(5));
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let mut frame = request(&mut rng);
        let whole = frame.len();
        if round % 2 == 0 {
            let (scan, words) = scan_request(&frame);
            assert_eq!(scan, Ok(Scan::Command(whole)), "{}", frame.escape_ascii());
            assert_eq!(Some((whole, words)), crate_request(&frame), "{}", frame.escape_ascii());
            assert_eq!(scan_request(&frame[..whole - 1]).0, Ok(Scan::Incomplete));
            frame.extend(request(&mut rng));
        } else {
            damage(&mut rng, &mut frame);
        }
        let (scan, words) = scan_request(&frame);
        assert_eq!(scan_in_pieces(&mut rng, &frame), scan, "{}", frame.escape_ascii());
        let theirs = crate_request(&frame);
        let ours = match scan {
            // Redis does not look at the bytes behind a bulk and behind a header's carriage return.
            Ok(Scan::Command(length)) if support::encode(&words) == frame[..length] => {
                accepted += 1;
                Some((length, words))
            }
            _ => None,
        };
        assert_eq!(ours, theirs, "{}", frame.escape_ascii());
    }
    assert!(accepted > ROUNDS / 2, "only {accepted} frames were requests");
}

/// The crate's view of a reply's length: none when more is needed.
fn crate_reply(frame: &[u8], resp3: bool) -> Result<Option<usize>, String> {
    let length = match resp3 {
        true => resp3::decode::complete::decode(frame).map(|found| found.map(|(_, n)| n)),
        false => resp2::decode::decode(frame).map(|found| found.map(|(_, n)| n)),
    };
    length.map_err(|error| error.to_string())
}

/// True when the crate would write the frame as it read it.
fn canonical(frame: &[u8], resp3: bool) -> bool {
    let mut out = vec![0; frame.len() * 2 + 64];
    let written = match resp3 {
        true => match resp3::decode::complete::decode(frame) {
            Ok(Some((decoded, _))) if !matches!(decoded, Frame3::Hello { .. }) => {
                resp3::encode::complete::encode(&mut out, &decoded, false)
            }
            _ => return false,
        },
        false => match resp2::decode::decode(frame) {
            Ok(Some((decoded, _))) => resp2::encode::encode(&mut out, &decoded, false),
            _ => return false,
        },
    };
    written.is_ok_and(|n| frame.get(..n) == Some(&out[..n]))
}

fn scan_reply(rng: &mut SmallRng, frame: &[u8]) -> Result<Option<usize>, FrameError> {
    let whole = ReplyScanner::default().feed(frame).map(|(n, done)| done.then_some(n));
    let mut scanner = ReplyScanner::default();
    let (mut at, mut end) = (0, 0);
    let pieces = loop {
        end = (end + rng.random_range(1..8)).min(frame.len());
        match scanner.feed(&frame[at..end]) {
            Ok((n, true)) => break Ok(Some(at + n)),
            Ok((n, false)) => at += n,
            Err(error) => break Err(error),
        }
        if end == frame.len() {
            break Ok(None);
        }
    };
    assert_eq!(whole, pieces, "{}", frame.escape_ascii());
    whole
}

fn replies_agree(resp3: bool, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(support::seed(seed));
    let mut both = 0;
    for round in 0..ROUNDS {
        let mut frame = Vec::new();
        reply(&mut rng, resp3, 0, &mut frame);
        let whole = frame.len();
        let shown = |frame: &[u8]| format!("{}", frame.escape_ascii());
        if round % 2 == 0 {
            assert_eq!(crate_reply(&frame, resp3), Ok(Some(whole)), "{}", shown(&frame));
            assert_eq!(scan_reply(&mut rng, &frame), Ok(Some(whole)), "{}", shown(&frame));
            let short = rng.random_range(0..whole);
            assert_eq!(scan_reply(&mut rng, &frame[..short]), Ok(None), "{}", shown(&frame));
            reply(&mut rng, resp3, 0, &mut frame);
        } else {
            damage(&mut rng, &mut frame);
        }
        let ours = scan_reply(&mut rng, &frame);
        match (ours, crate_reply(&frame, resp3)) {
            (Ok(Some(ours)), Ok(Some(theirs))) => {
                both += 1;
                assert_eq!(ours, theirs, "{}", shown(&frame));
            }
            // The text of a line is not the scanner's business.
            (Ok(_), Err(_)) | (Ok(None) | Err(_), Ok(None)) => {}
            (ours, Ok(theirs)) => assert!(
                ours.is_err() && !canonical(&frame, resp3),
                "{ours:?} {theirs:?} {}",
                shown(&frame)
            ),
            (Err(_), Err(_)) => {}
        }
    }
    assert!(both > ROUNDS / 2, "only {both} frames were replies");
}

#[test]
fn resp2_replies_end_where_redis_protocol_ends_them() {
    replies_agree(false, 6);
}

#[test]
fn resp3_replies_end_where_redis_protocol_ends_them() {
    replies_agree(true, 7);
}
