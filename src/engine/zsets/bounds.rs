//! The bounds of ranges by score and by bytes.

use std::ops::Bound;

use bytes::Bytes;

use crate::engine::number::parse_float;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::Score;

/// `min` and `max` of a range by score.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    min: (f64, bool),
    max: (f64, bool),
}

/// Where a range of a set that is ordered by score and bytes begins or ends.
pub type Edge = Bound<(Score, Bytes)>;

impl Scores {
    pub fn parse(min: &Bytes, max: &Bytes) -> Answer<Scores> {
        let bound = |text| score_bound(text).ok_or(Stop::error("ERR min or max is not a float"));
        Ok(Scores { min: bound(min)?, max: bound(max)? })
    }

    /// The least and the greatest score inside; `None`: nothing can be inside.
    pub fn inclusive(&self) -> Option<(Score, Score)> {
        self.range()?;
        let ((min, above_min), (max, below_max)) = (self.min, self.max);
        let min = if above_min { min.next_up() } else { min };
        let max = if below_max { max.next_down() } else { max };
        Some((Score(min), Score(max)))
    }

    /// The bounds in a set that is ordered by score and bytes; `None`: nothing can be inside.
    pub fn range(&self) -> Option<(Edge, Edge)> {
        let ((min, above_min), (max, below_max)) = (self.min, self.max);
        if min > max || (min == max && (above_min || below_max)) {
            return None;
        }
        // The least element of a score; there is no greatest one, so that of the next score up.
        let least = |score| (Score(score), Bytes::new());
        let start = match above_min {
            true => least(min.next_up()),
            false => least(min),
        };
        let end = match (below_max, max == f64::INFINITY) {
            (true, _) => Bound::Excluded(least(max)),
            (false, true) => Bound::Unbounded,
            (false, false) => Bound::Excluded(least(max.next_up())),
        };
        Some((Bound::Included(start), end))
    }
}

/// A score and whether it is excluded.
fn score_bound(text: &[u8]) -> Option<(f64, bool)> {
    let (text, excluded) = match text.strip_prefix(b"(") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    // Redis reads these with strtod alone: up to a zero byte, after blanks, and nothing is 0.
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some((0.0, excluded));
    }
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = text.iter().position(|byte| !blank(byte))?;
    Some((parse_float(&text[start..])?, excluded))
}

/// One bound of a range by bytes.
#[derive(Clone, Debug)]
enum Lex {
    Lowest,
    Highest,
    At { bytes: Bytes, excluded: bool },
}

/// `min` and `max` of a range by bytes.
#[derive(Clone, Debug)]
pub struct LexRange {
    min: Lex,
    max: Lex,
}

impl LexRange {
    pub fn parse(min: &Bytes, max: &Bytes) -> Answer<LexRange> {
        let bound =
            |text| lex_bound(text).ok_or(Stop::error("ERR min or max not valid string range item"));
        Ok(LexRange { min: bound(min)?, max: bound(max)? })
    }

    pub fn reaches_min(&self, member: &Bytes) -> bool {
        match &self.min {
            Lex::Lowest => true,
            Lex::Highest => false,
            Lex::At { bytes, excluded } => member > bytes || (member == bytes && !excluded),
        }
    }

    pub fn within_max(&self, member: &Bytes) -> bool {
        match &self.max {
            Lex::Lowest => false,
            Lex::Highest => true,
            Lex::At { bytes, excluded } => member < bytes || (member == bytes && !excluded),
        }
    }
}

fn lex_bound(text: &Bytes) -> Option<Lex> {
    let ends = text.get(1).is_none_or(|byte| *byte == 0);
    match text.first()? {
        b'-' if ends => Some(Lex::Lowest),
        b'+' if ends => Some(Lex::Highest),
        b'(' => Some(Lex::At { bytes: text.slice(1..), excluded: true }),
        b'[' => Some(Lex::At { bytes: text.slice(1..), excluded: false }),
        _ => None,
    }
}
