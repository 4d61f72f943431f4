use super::MAX_LEN;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Reads, Stop};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

#[derive(Default)]
struct Options {
    indexes: bool,
    len: bool,
    with_match_len: bool,
    min_match_len: i64,
}

impl Options {
    fn parse(args: &[bytes::Bytes]) -> Answer<Options> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match arg.to_ascii_uppercase().as_slice() {
                b"IDX" => options.indexes = true,
                b"LEN" => options.len = true,
                b"WITHMATCHLEN" => options.with_match_len = true,
                b"MINMATCHLEN" => {
                    options.min_match_len = int(rest.next().ok_or(Stop::SYNTAX)?)?.max(0);
                }
                _ => return Err(Stop::SYNTAX),
            }
        }
        if options.len && options.indexes {
            return Err(Stop::error(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

/// The longest common subsequence of two strings.
pub fn lcs(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key_a, key_b) = (call.key()?, call.arg(2)?);
    let mut reads = Reads::default();
    let a = reads.of(ks.string(call.db, key_a));
    let b = reads.of(ks.string(call.db, key_b));
    reads.done().map_err(|stop| match stop {
        Stop::Error(_) => Stop::error("ERR The specified keys must contain string values"),
        other => other,
    })?;
    let (a, b) = (a.flatten().unwrap_or_default(), b.flatten().unwrap_or_default());
    let options = Options::parse(&call.args[3..])?;
    let cells = (a.len() as u64 + 1).saturating_mul(b.len() as u64 + 1);
    if cells.saturating_mul(4) > MAX_LEN {
        return Err(Stop::error(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let table = Table::new(&a, &b);
    let len = i64::from(table.at(a.len(), b.len()));
    if options.len {
        return Ok(Reply::Int(len));
    }
    let (common, ranges) = table.walk(&a, &b);
    if !options.indexes {
        return Ok(Reply::bulk(common));
    }
    let pair = |start: usize, end: usize| {
        Reply::Array(vec![Reply::Int(start as i64), Reply::Int(end as i64)])
    };
    let long_enough = |range: &&Range| range.len as i64 >= options.min_match_len;
    let matches = ranges.iter().filter(long_enough).map(|range| {
        let (a, b, last) = (range.a, range.b, range.len - 1);
        let mut shown = vec![pair(a, a + last), pair(b, b + last)];
        if options.with_match_len {
            shown.push(Reply::Int(range.len as i64));
        }
        Reply::Array(shown)
    });
    Ok(Reply::Map(vec![
        (Reply::bulk("matches"), Reply::Array(matches.collect())),
        (Reply::bulk("len"), Reply::Int(len)),
    ]))
}

/// A part that both strings have in one piece: where it starts in each, and its length.
struct Range {
    a: usize,
    b: usize,
    len: usize,
}

/// The length of the longest common subsequence of each pair of prefixes.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Table {
        let width = b.len() + 1;
        let mut table = Table { cells: vec![0; (a.len() + 1) * width], width };
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                table.cells[(i + 1) * width + j + 1] = if x == y {
                    table.at(i, j) + 1
                } else {
                    table.at(i, j + 1).max(table.at(i + 1, j))
                };
            }
        }
        table
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    /// The subsequence, and its pieces from the last to the first.
    fn walk(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Range>) {
        let (mut i, mut j) = (a.len(), b.len());
        let (mut common, mut ranges) = (Vec::new(), Vec::<Range>::new());
        let mut open = false;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                common.push(a[i]);
                match ranges.last_mut() {
                    Some(range) if open => (range.a, range.b, range.len) = (i, j, range.len + 1),
                    _ => ranges.push(Range { a: i, b: j, len: 1 }),
                }
                open = true;
            } else {
                open = false;
                if self.at(i - 1, j) > self.at(i, j - 1) { i -= 1 } else { j -= 1 }
            }
        }
        common.reverse();
        (common, ranges)
    }
}
