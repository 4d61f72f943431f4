//! Random commands, many of them hostile: wrong types, bad numbers, missing and surplus arguments.
//! Few keys of each type, so that commands meet each other's data. What a command answers follows
//! from what was run before it: nothing random, nothing blocking.

mod tables;
mod wide;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

pub use tables::*;
pub use wide::*;

/// Templates of one family: words, of which those in braces are filled in, see [`Commands::next`].
pub type Family = &'static [&'static str];

/// An endless sequence of commands that follows from the seed.
#[derive(Debug)]
pub struct Commands {
    rng: StdRng,
    templates: Vec<&'static str>,
}

/// The first letters of keys by type.
const KEYS: &[(&str, &str)] = &[
    ("str", "s"),
    ("hll", "p"),
    ("hash", "h"),
    ("list", "l"),
    ("set", "e"),
    ("zset", "z"),
    ("stream", "x"),
];

/// Keys of each type.
const POOL: u32 = 4;

impl Commands {
    pub fn new(seed: u64, families: &[Family]) -> Commands {
        let templates = families.iter().copied().flatten().copied().collect();
        Commands { rng: StdRng::seed_from_u64(seed), templates }
    }

    /// Every key that a command can name.
    pub fn keys() -> impl Iterator<Item = String> {
        KEYS.iter().flat_map(|(_, letter)| (0..POOL).map(move |n| format!("{letter}{n}")))
    }

    /// The next command. `{str}` is a key that mostly holds a string, `{a|b}` is one of the words,
    /// `{int}` a number or something that is none, and so on.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no None")]
    pub fn next(&mut self) -> Vec<Vec<u8>> {
        let template = self.templates[self.rng.random_range(0..self.templates.len())];
        let mut args: Vec<Vec<u8>> = template.split(' ').map(|word| self.fill(word)).collect();
        if self.rng.random_ratio(1, 25) {
            self.spoil(&mut args);
        }
        args
    }

    pub fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// Makes the arguments wrong in some way, or shows that it makes no difference.
    fn spoil(&mut self, args: &mut Vec<Vec<u8>>) {
        let at = self.rng.random_range(0..args.len());
        match self.rng.random_range(0..6) {
            0 => drop(args.pop().filter(|_| args.len() > 1)),
            1 => args.push(b"bogus".to_vec()),
            2 if at > 0 => args.insert(at, args[at].clone()),
            3 if at > 0 => args[at].clear(),
            4 => args[0].make_ascii_uppercase(),
            _ => args.truncate(at.max(1)),
        }
        if args.is_empty() {
            args.push(b"ping-that-does-not-exist".to_vec());
        }
    }

    /// Replaces every part of the word in braces.
    fn fill(&mut self, word: &str) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), word);
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            out.extend_from_slice(before.as_bytes());
            out.extend(self.word(name));
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
        out
    }

    fn word(&mut self, name: &str) -> Vec<u8> {
        if name.contains('|') {
            let words: Vec<&str> = name.split('|').collect();
            return self.one_of(&words).into();
        }
        if let Some((_, letter)) = KEYS.iter().find(|(kind, _)| *kind == name) {
            let letter = if self.rng.random_ratio(1, 25) { self.letter() } else { letter };
            return self.key(letter);
        }
        match name {
            "any" => {
                let letter = self.letter();
                self.key(letter)
            }
            "value" => self.value(),
            "member" => self.member(),
            "element" => self.value_of_hll(),
            "score" => self.one_of(SCORES).into(),
            "float" => self.one_of(FLOATS).into(),
            "int" => self.int(),
            "small" => self.rng.random_range(-3..12i64).to_string().into(),
            "count" => self.rng.random_range(1..9u32).to_string().into(),
            "offset" => self.one_of(OFFSETS).into(),
            "ttl" => self.rng.random_range(10_000..100_000_000u32).to_string().into(),
            "expiry" => self.one_of(EXPIRIES).into(),
            "db" => self.one_of(&["0", "1", "1", "2", "15", "16", "-1", "x"]).into(),
            "type" => self.one_of(FIELD_TYPES).into(),
            "pattern" => self.one_of(PATTERNS).into(),
            "id" => self.one_of(IDS).into(),
            other => panic!("unknown word {{{other}}}"),
        }
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.rng.random_range(0..words.len())]
    }

    fn letter(&mut self) -> &'static str {
        KEYS[self.rng.random_range(0..KEYS.len())].1
    }

    fn key(&mut self, letter: &str) -> Vec<u8> {
        format!("{letter}{}", self.rng.random_range(0..POOL)).into()
    }

    fn int(&mut self) -> Vec<u8> {
        if self.rng.random_ratio(1, 4) {
            return self.one_of(INTEGERS).into();
        }
        self.rng.random_range(-50..50i64).to_string().into()
    }

    fn member(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..30) {
            0 => Vec::new(),
            1 => vec![b'm'; 80],
            2 => vec![1, 255, b'\r', b'\n'],
            n if n < 15 => self.rng.random_range(0..12u32).to_string().into(),
            _ => format!("m{}", self.rng.random_range(0..25)).into(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..12) {
            0 => self.one_of(INTEGERS).into(),
            1 => self.one_of(FLOATS).into(),
            2 | 3 => self.rng.random_range(-1000..1000i64).to_string().into(),
            4 => vec![b'x'; self.rng.random_range(40..300)],
            _ => {
                let mut bytes = vec![0; self.rng.random_range(0..12)];
                self.rng.fill_bytes(&mut bytes);
                if self.rng.random_ratio(2, 3) {
                    bytes.iter_mut().for_each(|byte| *byte = b'a' + *byte % 4);
                }
                bytes
            }
        }
    }

    /// From a large pool, so that HyperLogLogs become dense after a while.
    fn value_of_hll(&mut self) -> Vec<u8> {
        self.rng.random_range(0..4000u32).to_string().into()
    }
}
