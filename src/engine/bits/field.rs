use bytes::Bytes;

use super::{grown, offset};
use crate::engine::number::{int, parse_int};
use crate::engine::stop::{Answer, Stop};
use crate::engine::{Call, Keyspace};
use crate::resp::Reply;

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// An integer of `bits` bits at the bit `offset`.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    bits: u32,
    offset: u64,
}

struct Operation {
    field: Field,
    action: Action,
    overflow: Overflow,
}

pub fn bitfield(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    run(ks, call, false)
}

pub fn bitfield_ro(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    run(ks, call, true)
}

fn run(ks: &mut Keyspace, call: &Call<'_>, read_only: bool) -> Answer<Reply> {
    let operations = parse(call)?;
    let writes = operations.iter().filter(|operation| !matches!(operation.action, Action::Get));
    let highest = writes.map(|operation| operation.field.last_bit()).max();
    if read_only && highest.is_some() {
        return Err(Stop::error("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let old = ks.string(call.db, call.key()?)?;
    let Some(highest) = highest else {
        let content = old.unwrap_or_default();
        let shown = operations.iter().map(|operation| Reply::Int(operation.field.read(&content)));
        return Ok(Reply::Array(shown.collect()));
    };
    let mut content = grown(old.as_deref().unwrap_or_default(), highest)?;
    let shown = operations.iter().map(|operation| operation.run(&mut content)).collect();
    // Also when nothing but the length is new, and even when every operation failed.
    if old.as_deref() != Some(&content) {
        ks.update_string(call.db, call.key()?, content.freeze())?;
    }
    Ok(Reply::Array(shown))
}

fn parse(call: &Call<'_>) -> Answer<Vec<Operation>> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut rest = &call.args[2..];
    while let Some((name, args)) = rest.split_first() {
        let name = name.to_ascii_lowercase();
        let taken = match (name.as_slice(), args) {
            (b"overflow", [behaviour, ..]) => {
                overflow = match behaviour.to_ascii_lowercase().as_slice() {
                    b"wrap" => Overflow::Wrap,
                    b"sat" => Overflow::Saturate,
                    b"fail" => Overflow::Fail,
                    _ => return Err(Stop::error("ERR Invalid OVERFLOW type specified")),
                };
                1
            }
            (b"get", [kind, at, ..]) => {
                let field = Field::parse(call, kind, at)?;
                operations.push(Operation { field, action: Action::Get, overflow });
                2
            }
            (b"set" | b"incrby", [kind, at, value, ..]) => {
                let field = Field::parse(call, kind, at)?;
                let value = int(value)?;
                let set = name == b"set";
                let action = if set { Action::Set(value) } else { Action::Add(value) };
                operations.push(Operation { field, action, overflow });
                3
            }
            _ => return Err(Stop::SYNTAX),
        };
        rest = &args[taken..];
    }
    Ok(operations)
}

impl Field {
    fn parse(call: &Call<'_>, kind: &Bytes, at: &Bytes) -> Answer<Field> {
        let fault = Stop::error(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported \
             but i64 is.",
        );
        let (signed, width) = match kind.split_first() {
            Some((b'i', width)) => (true, width),
            Some((b'u', width)) => (false, width),
            _ => return Err(fault),
        };
        let most = if signed { 64 } else { 63 };
        let bits = parse_int(width).filter(|bits| (1..=most).contains(bits)).ok_or(fault)?;
        let offset = match at.strip_prefix(b"#") {
            Some(index) => offset(call, index, bits)?,
            None => offset(call, at, 1)?,
        };
        Ok(Field { signed, bits: bits as u32, offset })
    }

    fn last_bit(self) -> u64 {
        self.offset.saturating_add(u64::from(self.bits) - 1)
    }

    /// Bits behind the content are zero.
    fn read(self, content: &[u8]) -> i64 {
        let bits = (0..u64::from(self.bits)).map(|i| super::bit_at(content, self.offset + i));
        let value = bits.fold(0u64, |value, bit| value << 1 | u64::from(bit));
        self.extended(value)
    }

    /// The lowest bits as a number of this width.
    fn extended(self, value: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed {
            (value << unused) as i64 >> unused
        } else {
            (value << unused >> unused) as i64
        }
    }

    fn write(self, content: &mut [u8], value: i64) {
        for i in 0..u64::from(self.bits) {
            let at = self.offset + i;
            let mask = 1u8 << (7 - (at & 7));
            let byte = &mut content[(at >> 3) as usize];
            let on = value >> (u64::from(self.bits) - 1 - i) & 1 == 1;
            *byte = if on { *byte | mask } else { *byte & !mask };
        }
    }

    fn limits(self) -> (i128, i128) {
        if self.signed {
            let half = 1i128 << (self.bits - 1);
            (-half, half - 1)
        } else {
            (0, (1i128 << self.bits) - 1)
        }
    }
}

impl Operation {
    fn wraps_around(&self, wanted: i128, highest: i128) -> bool {
        let set = matches!(self.action, Action::Set(_)) && self.field.signed;
        set && highest < i128::from(i64::MAX) && highest - wanted > i128::from(i64::MAX)
    }

    fn run(&self, content: &mut [u8]) -> Reply {
        let old = self.field.read(content);
        let wanted = match self.action {
            Action::Get => return Reply::Int(old),
            // An unsigned field takes a negative value as the large number that its bits are.
            Action::Set(value) if !self.field.signed => i128::from(value as u64),
            Action::Set(value) => i128::from(value),
            Action::Add(by) => i128::from(old) + i128::from(by),
        };
        let (lowest, highest) = self.field.limits();
        let new = if (lowest..=highest).contains(&wanted) {
            wanted as i64
        } else {
            match self.overflow {
                Overflow::Wrap => self.field.extended(wanted as u64),
                // Redis takes the distance to the maximum in 64 bits, where it wraps around for values
                // far below: such a SET saturates at the other end (checkSignedBitfieldOverflow).
                Overflow::Saturate if self.wraps_around(wanted, highest) => highest as i64,
                Overflow::Saturate => wanted.clamp(lowest, highest) as i64,
                Overflow::Fail => return Reply::Nil,
            }
        };
        self.field.write(content, new);
        Reply::Int(if matches!(self.action, Action::Set(_)) { old } else { new })
    }
}
