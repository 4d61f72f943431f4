use bytes::Bytes;
use hashbrown::HashMap;
use std::sync::LazyLock;

use super::keyspace::{LARGE, LIST_WINDOW};
use super::stop::{Answer, Need, Part};
use super::{Call, Db, End, Keyspace};
use crate::resp::Reply;

/// No command's name is longer.
const MAX_NAME: usize = 32;

/// One command of the engine.
pub struct Command {
    /// Lower case.
    pub name: &'static str,
    /// Arguments including the name; negative: at least so many. As in Redis's `COMMAND`.
    pub arity: i32,
    /// What it usually needs of its keys, to load the needs of a batch in one round trip. A hint:
    /// what it leaves out is found by `NotLoaded`.
    pub footprint: Footprint,
    pub run: fn(&mut Keyspace, &Call<'_>) -> Answer<Reply>,
}

/// Where a command's keys are and how much of them it touches. Indexes count the name as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footprint {
    None,
    /// The key at 1: its row only.
    Meta,
    /// The key at 1: all of it.
    Whole,
    /// The key at 1: all of a small value, the row of a large one.
    Small,
    /// The key at 1, a list: the elements at this end.
    Ending(End),
    /// The key at 1 and the members from `first`, every `step` arguments.
    Members {
        first: usize,
        step: usize,
    },
    /// Every `step`th argument from 1 is a key: their rows.
    Keys {
        step: usize,
    },
    /// The arguments from 1 are keys: all of them.
    WholeKeys,
}

impl Command {
    /// True when a call with `count` arguments, name included, has the right number.
    pub fn takes(&self, count: usize) -> bool {
        let count = count as i64;
        if self.arity >= 0 {
            count == i64::from(self.arity)
        } else {
            count >= -i64::from(self.arity)
        }
    }
}

const FAMILIES: &[&[Command]] = &[
    super::bits::COMMANDS,
    super::expiry::COMMANDS,
    super::generic::COMMANDS,
    super::geo::COMMANDS,
    super::hashes::COMMANDS,
    super::hyperloglog::COMMANDS,
    super::lists::COMMANDS,
    super::sets::COMMANDS,
    super::sort::COMMANDS,
    super::streams::COMMANDS,
    super::strings::COMMANDS,
    super::zsets::COMMANDS,
];

static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Command, ahash::RandomState>> =
    LazyLock::new(|| FAMILIES.iter().copied().flatten().map(|c| (c.name.as_bytes(), c)).collect());

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; MAX_NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).copied()
}

/// What a call will probably need, for loading ahead.
pub fn needs(db: Db, args: &[Bytes], into: &mut Vec<Need>) {
    let Some(command) = args.first().and_then(|name| find(name)) else { return };
    let mut want = |key: &Bytes, part: Part| into.push(Need { db, key: key.clone(), part });
    match (command.footprint, args.get(1)) {
        (Footprint::None, _) | (_, None) => {}
        (Footprint::Meta, Some(key)) => want(key, Part::Meta),
        (Footprint::Whole, Some(key)) => want(key, Part::All),
        (Footprint::Small, Some(key)) => want(key, Part::AllUpTo(LARGE)),
        (Footprint::Ending(End::Front), Some(key)) => {
            want(key, Part::Front { after: None, count: LIST_WINDOW });
        }
        (Footprint::Ending(End::Back), Some(key)) => {
            want(key, Part::Back { before: None, count: LIST_WINDOW });
        }
        (Footprint::Members { first, step }, Some(key)) => {
            want(key, Part::Members(args.iter().skip(first).step_by(step).cloned().collect()));
        }
        (Footprint::Keys { step }, _) => {
            args[1..].iter().step_by(step).for_each(|key| want(key, Part::Meta));
        }
        (Footprint::WholeKeys, _) => args[1..].iter().for_each(|key| want(key, Part::All)),
    }
}
