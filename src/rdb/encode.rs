//! The bodies of values, in the plain encodings that every version reads; streams as listpacks.

use bytes::{BufMut, BytesMut};

use super::packed::backlen_size;
use super::stream::FLAG_SAME_FIELDS;
use super::{StreamEntry, StreamGroup, StreamId, StreamObject};

/// Limits of a stream node: `stream-node-max-entries` and `stream-node-max-bytes` of Redis.
const NODE_ENTRIES: usize = 100;
const NODE_BYTES: usize = 4096;

/// Writes the primitives of RDB.
#[derive(Default)]
pub(super) struct Encoder {
    pub out: BytesMut,
}

impl Encoder {
    pub fn length(&mut self, length: u64) {
        match length {
            0..=0x3f => self.out.put_u8(length as u8),
            0x40..=0x3fff => self.out.put_u16(0x4000 | length as u16),
            0x4000..=0xffff_ffff => {
                self.out.put_u8(0x80);
                self.out.put_u32(length as u32);
            }
            _ => {
                self.out.put_u8(0x81);
                self.out.put_u64(length);
            }
        }
    }

    pub fn text(&mut self, text: &[u8]) {
        self.length(text.len() as u64);
        self.out.put_slice(text);
    }

    pub fn texts(&mut self, texts: &[bytes::Bytes]) {
        self.length(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
    }

    fn id(&mut self, id: StreamId) {
        self.length(id.ms);
        self.length(id.seq);
    }

    /// The body of a `STREAM_LISTPACKS_2` value.
    pub fn stream(&mut self, stream: &StreamObject) {
        let nodes = nodes(&stream.entries);
        self.length(nodes.len() as u64);
        for node in nodes {
            self.text(&raw_id(node[0].id));
            self.text(&node_listpack(node));
        }
        self.length(stream.entries.len() as u64);
        self.id(stream.last_id);
        self.id(stream.first_id);
        self.id(stream.max_deleted_id);
        self.length(stream.entries_added);
        self.length(stream.groups.len() as u64);
        for group in &stream.groups {
            self.group(group);
        }
    }

    fn group(&mut self, group: &StreamGroup) {
        self.text(&group.name);
        self.id(group.last_id);
        self.length(group.entries_read.unwrap_or(u64::MAX));
        self.length(group.pending.len() as u64);
        for pending in &group.pending {
            self.out.put_slice(&raw_id(pending.id));
            self.out.put_i64_le(pending.delivery_time_ms);
            self.length(pending.delivery_count);
        }
        let mut owned: ahash::AHashMap<&[u8], Vec<StreamId>> = ahash::AHashMap::new();
        for pending in &group.pending {
            owned.entry(&pending.consumer).or_default().push(pending.id);
        }
        self.length(group.consumers.len() as u64);
        for consumer in &group.consumers {
            self.text(&consumer.name);
            self.out.put_i64_le(consumer.seen_time_ms);
            let ids = owned.remove(consumer.name.as_ref()).unwrap_or_default();
            self.length(ids.len() as u64);
            for id in ids {
                self.out.put_slice(&raw_id(id));
            }
        }
    }
}

fn raw_id(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

/// Cuts the entries into nodes, none of them empty.
fn nodes(entries: &[StreamEntry]) -> Vec<&[StreamEntry]> {
    let size = |entry: &StreamEntry| -> usize {
        entry.fields.iter().map(|(field, value)| field.len() + value.len() + 4).sum()
    };
    let mut nodes = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        let more = size(entry);
        if at > start && (at - start >= NODE_ENTRIES || bytes + more > NODE_BYTES) {
            nodes.push(&entries[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += more;
    }
    if start < entries.len() {
        nodes.push(&entries[start..]);
    }
    nodes
}

/// A node's listpack; the first entry is the master whose field names the others may share.
fn node_listpack(node: &[StreamEntry]) -> Vec<u8> {
    let master = &node[0];
    let mut list = ListpackWriter::new();
    list.number(node.len() as i64);
    list.number(0);
    list.number(master.fields.len() as i64);
    for (field, _) in &master.fields {
        list.text(field);
    }
    list.number(0);
    for entry in node {
        let names = entry.fields.iter().map(|(field, _)| field);
        let same = names.eq(master.fields.iter().map(|(field, _)| field));
        list.number(if same { FLAG_SAME_FIELDS } else { 0 });
        list.number(entry.id.ms.wrapping_sub(master.id.ms) as i64);
        list.number(entry.id.seq.wrapping_sub(master.id.seq) as i64);
        let width = entry.fields.len() as i64;
        if !same {
            list.number(width);
        }
        for (field, value) in &entry.fields {
            if !same {
                list.text(field);
            }
            list.text(value);
        }
        // Flags and the two halves of the id, then what the fields take.
        list.number(if same { 3 + width } else { 4 + 2 * width });
    }
    list.finish()
}

/// Appends entries to a listpack.
pub(super) struct ListpackWriter {
    out: Vec<u8>,
    count: usize,
}

impl ListpackWriter {
    pub fn new() -> ListpackWriter {
        ListpackWriter { out: vec![0; 6], count: 0 }
    }

    pub fn number(&mut self, number: i64) {
        let start = self.out.len();
        match number {
            0..=127 => self.out.put_u8(number as u8),
            -4096..=4095 => self.out.put_u16(0xc000 | (number as u16 & 0x1fff)),
            -32_768..=32_767 => {
                self.out.put_u8(0xf1);
                self.out.put_i16_le(number as i16);
            }
            -8_388_608..=8_388_607 => {
                self.out.put_u8(0xf2);
                self.out.put_slice(&number.to_le_bytes()[..3]);
            }
            -2_147_483_648..=2_147_483_647 => {
                self.out.put_u8(0xf3);
                self.out.put_i32_le(number as i32);
            }
            _ => {
                self.out.put_u8(0xf4);
                self.out.put_i64_le(number);
            }
        }
        self.close(start);
    }

    /// Text stays text, also where it looks like a number: readers take either.
    pub fn text(&mut self, text: &[u8]) {
        let start = self.out.len();
        match text.len() {
            length @ 0..=63 => self.out.put_u8(0x80 | length as u8),
            length @ 64..=4095 => self.out.put_u16(0xe000 | length as u16),
            length => {
                self.out.put_u8(0xf0);
                self.out.put_u32_le(length as u32);
            }
        }
        self.out.put_slice(text);
        self.close(start);
    }

    /// The entry's length, so that it can be read from behind: 7 bits per byte, the low ones last.
    fn close(&mut self, start: usize) {
        let size = self.out.len() - start;
        let count = backlen_size(size);
        for at in (0..count).rev() {
            let bits = (size >> (7 * at)) as u8 & 0x7f;
            let more = if at + 1 == count { 0 } else { 0x80 };
            self.out.put_u8(bits | more);
        }
        self.count += 1;
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.out.put_u8(0xff);
        let total = self.out.len() as u32;
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        self.out[..4].copy_from_slice(&total.to_le_bytes());
        self.out[4..6].copy_from_slice(&count.to_le_bytes());
        self.out
    }
}
