use std::sync::atomic::Ordering;

use bytes::Bytes;
use hashbrown::HashMap;

use super::windows::Counts;
use super::{DOUBTFUL, EVICTED, declare};
use crate::engine::Db;
use crate::mirror::Shared;
use crate::mirror::log::Received;
use crate::strategy::Gap;

/// Follows the stream from command to command and judges its suspects. Suspects wait with
/// everything behind them until a mark comes by.
#[derive(Debug, Default)]
pub struct Judge {
    /// The selected database; unknown after a partial resync until the next `SELECT`.
    db: Option<Db>,
    in_transaction: bool,
    /// The last mark in the stream.
    last: Option<u64>,
    /// Suspects since then: their place in the chunk, and their database.
    suspects: Vec<(usize, Option<Db>)>,
    /// How much of the chunk has been looked at.
    looked: usize,
}

/// What a suspect turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Deleted,
    Evicted,
    Doubtful,
}

impl Judge {
    /// A new link: the selected database is not repeated, and marks may have been passed.
    pub fn relinked(&mut self) {
        *self = Judge::default();
    }

    /// Looks at what has been added to `chunk`; suspects before a mark are judged. True when suspects
    /// are left over: they need a mark behind them.
    pub async fn look(&mut self, shared: &Shared, chunk: &mut [Received]) -> bool {
        while let Some(received) = chunk.get(self.looked) {
            let at = self.looked;
            self.looked += 1;
            let args = &received.args;
            let Some(name) = args.first() else { continue };
            let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
            if !self.in_transaction && is_suspect(args) {
                self.suspects.push((at, self.db));
            } else if is("SELECT") {
                self.db = args.get(1).and_then(number);
            } else if is("MULTI") {
                self.in_transaction = true;
            } else if is("EXEC") {
                self.in_transaction = false;
            } else if is("PUBLISH") && args.get(1).is_some_and(|c| c == shared.evictions.channel())
            {
                let Some(mark) = args.get(2).and_then(number) else { continue };
                let from = self.last.replace(mark);
                if !self.suspects.is_empty() {
                    let counts = shared.evictions.between(from, mark).await;
                    self.judge(shared, chunk, counts.as_ref());
                }
            }
        }
        !self.suspects.is_empty()
    }

    pub fn last_mark(&self) -> Option<u64> {
        self.last
    }

    /// No mark can be had: nothing is known of the suspects that are left.
    pub fn give_up(&mut self, shared: &Shared, chunk: &mut [Received]) {
        self.judge(shared, chunk, None);
    }

    /// Cuts off the first suspect that is left and everything behind it: the rest is handed on.
    pub fn hand_on(&mut self, chunk: &mut Vec<Received>) -> Vec<Received> {
        let Some((first, _)) = self.suspects.first().copied() else {
            self.looked = 0;
            return Vec::new();
        };
        self.looked -= first;
        self.suspects.iter_mut().for_each(|(at, _)| *at -= first);
        if first == 0 {
            return std::mem::take(chunk);
        }
        chunk.split_off(first)
    }

    fn judge(&mut self, shared: &Shared, chunk: &mut [Received], counts: Option<&Counts>) {
        let suspects = std::mem::take(&mut self.suspects);
        let mut of_key: HashMap<(Option<Db>, Bytes), u32> = HashMap::new();
        for (at, db) in &suspects {
            *of_key.entry((*db, chunk[*at].args[1].clone())).or_default() += 1;
        }
        let (mut evicted, mut doubtful) = (0, 0);
        for (at, db) in suspects {
            let key = chunk[at].args[1].clone();
            let times = of_key.get(&(db, key.clone())).copied().unwrap_or(0);
            let word = match verdict(counts, db, &key, times) {
                Verdict::Deleted => continue,
                Verdict::Evicted => {
                    evicted += 1;
                    EVICTED
                }
                Verdict::Doubtful => {
                    doubtful += 1;
                    DOUBTFUL
                }
            };
            chunk[at].args[0] = Bytes::from_static(word);
        }
        if evicted + doubtful > 0 {
            let counters = &shared.presence.counters;
            counters.evictions.fetch_add(evicted, Ordering::Relaxed);
            counters.doubtful.fetch_add(doubtful, Ordering::Relaxed);
            declare(&shared.config, &shared.presence, Gap::Lacking);
        }
    }
}

/// `times` is how many suspects of the key there are.
fn verdict(counts: Option<&Counts>, db: Option<Db>, key: &Bytes, times: u32) -> Verdict {
    let Some(counts) = counts else { return Verdict::Doubtful };
    let evicted = match db {
        Some(db) => counts.get(&(db, key.clone())).copied().unwrap_or(0),
        None => counts.iter().filter(|((_, k), _)| k == key).map(|(_, n)| n).sum(),
    };
    match evicted {
        0 => Verdict::Deleted,
        evicted if evicted >= times => Verdict::Evicted,
        _ => Verdict::Doubtful,
    }
}

/// What an eviction looks like in the stream.
fn is_suspect(args: &[Bytes]) -> bool {
    args.len() == 2 && (args[0] == b"DEL"[..] || args[0] == b"UNLINK"[..])
}

fn number<T: std::str::FromStr>(text: &Bytes) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_deletes_of_one_key_in_capitals_are_suspects() {
        let words = |line: &'static str| -> Vec<Bytes> {
            line.split(' ').map(|word| Bytes::from_static(word.as_bytes())).collect()
        };
        assert!(is_suspect(&words("DEL k")) && is_suspect(&words("UNLINK k")));
        for line in ["del k", "Del k", "DEL a b", "DEL", "SET k", "unlink k"] {
            assert!(!is_suspect(&words(line)), "{line}");
        }
    }

    #[test]
    fn verdicts() {
        let key = Bytes::from_static(b"k");
        let counts = Counts::from_iter([((1, key.clone()), 1)]);
        let judge = |counts, db, times| verdict(counts, db, &key, times);
        assert_eq!(judge(None, Some(1), 1), Verdict::Doubtful);
        assert_eq!(judge(Some(&counts), Some(1), 1), Verdict::Evicted);
        assert_eq!(judge(Some(&counts), None, 1), Verdict::Evicted);
        assert_eq!(judge(Some(&counts), Some(0), 1), Verdict::Deleted);
        assert_eq!(judge(Some(&counts), Some(1), 2), Verdict::Doubtful);
    }
}
