//! Where a value ends: the grammar of each type as data, and a scanner that walks it as bytes arrive.

use super::cursor::{Cursor, Fault};
use super::error::RdbErrorKind;
use super::types::*;

/// A part of a value's serialized form.
#[derive(Debug)]
pub(super) enum Shape {
    Length,
    Text,
    TextDouble,
    Fixed(usize),
    /// A length, then that many times these.
    Repeat(&'static [Shape]),
    /// What a module wrote: numbered parts up to the end mark.
    ModuleParts,
}

use Shape::{Fixed, Length, ModuleParts, Repeat, Text, TextDouble};

const STREAM_NODES: Shape = Repeat(&[Text, Text]);
const PENDING: Shape = Repeat(&[Fixed(16), Fixed(8), Length]);
const OWNED: Shape = Repeat(&[Fixed(16)]);

/// A module's auxiliary data: module id, the kind and value of `when`, its parts.
pub(super) const MODULE_AUX: &[Shape] = &[Length, Length, Length, ModuleParts];

/// The grammar of a value of this type.
pub(super) fn of_type(type_byte: u8) -> Result<&'static [Shape], RdbErrorKind> {
    Ok(match type_byte {
        STRING
        | HASH_ZIPMAP
        | LIST_ZIPLIST
        | SET_INTSET
        | ZSET_ZIPLIST
        | HASH_ZIPLIST
        | HASH_LISTPACK
        | ZSET_LISTPACK
        | SET_LISTPACK
        | HASH_LISTPACK_EX_PRE_GA => &[Text],
        LIST | SET | LIST_QUICKLIST => &[Repeat(&[Text])],
        ZSET => &[Repeat(&[Text, TextDouble])],
        ZSET_2 => &[Repeat(&[Text, Fixed(8)])],
        HASH => &[Repeat(&[Text, Text])],
        LIST_QUICKLIST_2 => &[Repeat(&[Length, Text])],
        HASH_METADATA_PRE_GA => &[Repeat(&[Length, Text, Text])],
        HASH_METADATA => &[Fixed(8), Repeat(&[Length, Text, Text])],
        HASH_LISTPACK_EX => &[Fixed(8), Text],
        MODULE_2 => &[Length, ModuleParts],
        STREAM_LISTPACKS => &[
            STREAM_NODES,
            Length,
            Length,
            Length,
            Repeat(&[Text, Length, Length, PENDING, Repeat(&[Text, Fixed(8), OWNED])]),
        ],
        STREAM_LISTPACKS_2 => &[
            STREAM_NODES,
            Length,
            Length,
            Length,
            Length,
            Length,
            Length,
            Length,
            Length,
            Repeat(&[Text, Length, Length, Length, PENDING, Repeat(&[Text, Fixed(8), OWNED])]),
        ],
        STREAM_LISTPACKS_3 => &[
            STREAM_NODES,
            Length,
            Length,
            Length,
            Length,
            Length,
            Length,
            Length,
            Length,
            Repeat(&[
                Text,
                Length,
                Length,
                Length,
                PENDING,
                Repeat(&[Text, Fixed(8), Fixed(8), OWNED]),
            ]),
        ],
        MODULE_PRE_GA => return Err(RdbErrorKind::ModuleVersion1),
        other => return Err(RdbErrorKind::UnknownType(other)),
    })
}

/// One level of repetition.
#[derive(Debug)]
struct Level {
    shapes: &'static [Shape],
    next: usize,
    /// Rounds still to do, this one included.
    rounds: u64,
}

/// Walks a grammar over bytes that arrive piece by piece, each byte once.
#[derive(Debug)]
pub(super) struct Scanner {
    levels: Vec<Level>,
    at: usize,
}

impl Scanner {
    pub fn new(shapes: &'static [Shape]) -> Scanner {
        Scanner { levels: vec![Level { shapes, next: 0, rounds: 1 }], at: 0 }
    }

    /// The length of the whole, once `data` (which begins with the value) has all of it.
    pub fn scan(&mut self, data: &[u8]) -> Result<Option<usize>, RdbErrorKind> {
        loop {
            if self.at > data.len() {
                return Ok(None);
            }
            let Some(level) = self.levels.last_mut() else { return Ok(Some(self.at)) };
            let Some(shape) = level.shapes.get(level.next) else {
                level.rounds -= 1;
                level.next = 0;
                if level.rounds == 0 {
                    self.levels.pop();
                }
                continue;
            };
            let mut cursor = Cursor::new(data, self.at);
            match step(&mut cursor, shape) {
                Ok(Step::Next) => level.next += 1,
                Ok(Step::Stay) => {}
                Ok(Step::Into(shapes, rounds)) => {
                    level.next += 1;
                    if rounds > 0 {
                        self.levels.push(Level { shapes, next: 0, rounds });
                    }
                }
                Err(Fault::More(_)) => return Ok(None),
                Err(Fault::Bad(kind)) => return Err(kind),
            }
            self.at = cursor.at;
        }
    }
}

enum Step {
    Next,
    Stay,
    Into(&'static [Shape], u64),
}

fn step(cursor: &mut Cursor<'_>, shape: &Shape) -> Result<Step, Fault> {
    match shape {
        Length => cursor.length().map(drop)?,
        Text => cursor.skip_string()?,
        TextDouble => cursor.skip_text_double()?,
        Fixed(count) => cursor.skip(*count)?,
        Repeat(shapes) => return Ok(Step::Into(shapes, cursor.length()?)),
        ModuleParts => return module_part(cursor),
    }
    Ok(Step::Next)
}

/// The parts of module API version 2: end, signed, unsigned, float, double, string.
fn module_part(cursor: &mut Cursor<'_>) -> Result<Step, Fault> {
    match cursor.length()? {
        0 => return Ok(Step::Next),
        1 | 2 => cursor.length().map(drop)?,
        3 => cursor.skip(4)?,
        4 => cursor.skip(8)?,
        5 => cursor.skip_string()?,
        _ => {
            return Err(Fault::Bad(RdbErrorKind::BadEncoding {
                what: "module value",
                problem: "unknown opcode",
            }));
        }
    }
    Ok(Step::Stay)
}
