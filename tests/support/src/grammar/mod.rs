//! Random commands with hostile arguments, from a small grammar: wrong types, numbers at and past
//! their limits, bad ids, options that exclude each other, missing and surplus arguments.
//!
//! A template is words separated by spaces. `{x}` is a random argument (see `Grammar::argument`),
//! `(A|B)` one of these words, `[…]` appears or not, `<…>` one to three times; groups do not nest.

mod collections;
mod streams;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

pub use collections::{GEO, LISTS, SETS, ZSETS};
pub use streams::STREAMS;

pub type Command = Vec<Vec<u8>>;

/// Makes commands from templates. The same seed makes the same commands.
#[derive(Debug)]
pub struct Grammar {
    rng: StdRng,
    /// Names of keys, shared by all types, so that types collide.
    keys: Vec<String>,
    templates: Vec<&'static str>,
    next_id: u64,
}

impl Grammar {
    pub fn new(seed: u64, keys: usize, families: &[&[&'static str]]) -> Grammar {
        Grammar {
            rng: StdRng::seed_from_u64(seed),
            keys: (0..keys).map(|n| format!("k{n}")).collect(),
            templates: families.concat(),
            next_id: 1,
        }
    }

    pub fn rng(&mut self) -> &mut impl Rng {
        &mut self.rng
    }

    pub fn command(&mut self) -> Command {
        let template = self.templates[self.rng.random_range(0..self.templates.len())];
        let mut command = Command::new();
        self.expand(template, &mut command);
        if self.rng.random_bool(0.06) {
            self.spoil(&mut command);
        }
        command
    }

    fn expand(&mut self, template: &str, into: &mut Command) {
        let mut rest = template.trim_start();
        while let Some(first) = rest.chars().next() {
            let close = match first {
                '[' => ']',
                '<' => '>',
                _ => ' ',
            };
            let body = &rest[if close == ' ' { 0 } else { 1 }..];
            let (group, behind) = body.split_once(close).unwrap_or((body, ""));
            let times = match first {
                '[' => u32::from(self.rng.random_bool(0.4)),
                '<' => self.rng.random_range(1..=3),
                _ => {
                    self.word(group, into);
                    0
                }
            };
            for _ in 0..times {
                self.expand(group, into);
            }
            rest = behind.trim_start();
        }
    }

    fn word(&mut self, word: &str, into: &mut Command) {
        if let Some(choice) = word.strip_prefix('(').and_then(|w| w.strip_suffix(')')) {
            let words: Vec<&str> = choice.split('|').collect();
            into.push(words[self.rng.random_range(0..words.len())].into());
        } else if let Some(kind) = word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
            let argument = self.argument(kind);
            into.push(argument);
        } else {
            into.push(word.into());
        }
    }

    fn pick(&mut self, of: &[&str]) -> Vec<u8> {
        of[self.rng.random_range(0..of.len())].into()
    }

    fn argument(&mut self, kind: &str) -> Vec<u8> {
        const HUGE: &[&str] = &[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "4294967296",
            "-1",
            "0",
            "00",
            "",
            " 1",
            "1.5",
            "x",
        ];
        let odd = self.rng.random_bool(0.04);
        match kind {
            "key" => {
                let at = self.rng.random_range(0..self.keys.len());
                self.keys[at].clone().into()
            }
            // A member of a collection.
            "m" => match self.rng.random_range(0..20) {
                0 => Vec::new(),
                1 => b"\x00\xff\r\n".to_vec(),
                2 => "long".repeat(30).into(),
                n => format!("m{}", n % 12).into(),
            },
            // An index or count, often near the ends.
            "int" if odd => self.pick(HUGE),
            "int" => self.rng.random_range(-6i64..=6).to_string().into(),
            "count" if odd => self.pick(HUGE),
            "count" => self.rng.random_range(0u32..=5).to_string().into(),
            "score" if odd => {
                self.pick(&["nan", "inf", "-inf", "+inf", "1e400", "", "x", "0x10", " 1"])
            }
            "score" => match self.rng.random_range(0..4) {
                0 => format!("{}", self.rng.random_range(-20i32..20)).into(),
                1 => format!("{:e}", self.rng.random_range(-1e20f64..1e20)).into(),
                2 => self.pick(&["1", "2", "3", "1.5", "0.1", "1e300", "-1e300", "inf", "-inf"]),
                _ => self.rng.random_range(-4i32..4).to_string().into(),
            },
            "bound" if odd => self.pick(&["nan", "(nan", "", "(", "x", "( 1", " 1", "1 "]),
            "bound" => {
                let open = if self.rng.random_bool(0.3) { "(" } else { "" };
                match self.rng.random_range(0..5) {
                    0 => self.pick(&["-inf", "+inf", "(-inf", "(+inf"]),
                    _ => format!("{open}{}", self.rng.random_range(-4i32..=4)).into(),
                }
            }
            "lex" if odd => self.pick(&["m1", "", "++", "1", "-x"]),
            "lex" => match self.rng.random_range(0..4) {
                0 => self.pick(&["-", "+"]),
                1 => format!("(m{}", self.rng.random_range(0..12)).into(),
                _ => format!("[m{}", self.rng.random_range(0..12)).into(),
            },
            "timeout" if odd => self.pick(&["-1", "x", "nan", "inf", "", "-0.0001", "1e300"]),
            "timeout" => self.pick(&["0", "0.01", "1"]),
            "lon" if odd => self.pick(&["180.1", "x", "nan", "-181", "inf"]),
            "lon" => format!("{:.6}", self.rng.random_range(-180f64..=180.0)).into(),
            "lat" if odd => self.pick(&["90", "x", "nan", "-85.06", "inf"]),
            "lat" => format!("{:.6}", self.rng.random_range(-85.05f64..=85.05)).into(),
            "distance" if odd => self.pick(&["-1", "x", "nan", "inf", "", "0"]),
            "distance" => match self.rng.random_range(0..4) {
                0 => format!("{:.3}", self.rng.random_range(0f64..100.0)).into(),
                1 => format!("{}", self.rng.random_range(100u32..20_000)).into(),
                _ => format!("{}", self.rng.random_range(1000u32..20_000_000)).into(),
            },
            "unit" if odd => self.pick(&["yd", "", "M"]),
            "unit" => self.pick(&["m", "km", "ft", "mi", "KM"]),
            "newid" => self.new_id(),
            "id" if odd => {
                self.pick(&["-", "+", "$", ">", "x", "1-", "-1", "1-x", "", "(1", "1-*", "*"])
            }
            "id" => self.some_id(),
            "start" if odd => {
                self.pick(&["(", "(-", "(18446744073709551615-18446744073709551615", "x"])
            }
            "end" if odd => self.pick(&["(", "(+", "(0-0", "x"]),
            "start" | "end" => match self.rng.random_range(0..4) {
                0 => self.pick(&["-", "+"]),
                1 => [b"(".to_vec(), self.some_id()].concat(),
                _ => self.some_id(),
            },
            "group" => self.pick(&["g0", "g1", "g0", "nogroup"]),
            "consumer" => self.pick(&["c0", "c1", "c2"]),
            "idle" if odd => self.pick(HUGE),
            "idle" => self.pick(&["0", "0", "100000000"]),
            other => panic!("unknown argument {other} in a template"),
        }
    }

    fn new_id(&mut self) -> Vec<u8> {
        self.next_id += self.rng.random_range(0..3);
        match self.rng.random_range(0..20) {
            0 => self.pick(&["0-0", "0-1", "0", "x", "-", "5-", "0-*", "18446744073709551616-1"]),
            1 => format!("{}-*", self.next_id).into(),
            2 => b"*".to_vec(),
            3 => self.some_id(),
            _ => format!("{}-{}", self.next_id, self.rng.random_range(0..3)).into(),
        }
    }

    fn some_id(&mut self) -> Vec<u8> {
        let ms = self.rng.random_range(0..=self.next_id + 1).max(self.next_id.saturating_sub(40));
        match self.rng.random_range(0..3) {
            0 => ms.to_string().into(),
            _ => format!("{ms}-{}", self.rng.random_range(0..3)).into(),
        }
    }

    /// Takes an argument away, doubles one, or puts a strange one in its place.
    fn spoil(&mut self, command: &mut Command) {
        let at = self.rng.random_range(0..command.len()).max(1);
        match self.rng.random_range(0..4) {
            0 if command.len() > 1 => drop(command.remove(at.min(command.len() - 1))),
            1 => command.push(command[at.min(command.len() - 1)].clone()),
            2 => command.truncate(at),
            _ => {
                let kinds = ["int", "score", "m", "id", "bound", "lex", "key"];
                let kind = kinds[self.rng.random_range(0..kinds.len())];
                let strange = self.argument(kind);
                match command.get_mut(at) {
                    Some(argument) => *argument = strange,
                    None => command.push(strange),
                }
            }
        }
    }
}
