use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bytes::BytesMut;

use super::{Segment, SpoolError, record};
use crate::mirror::log::Received;

const MAGIC: &[u8; 8] = b"TANDEM\x00\x01";
const REPLID: usize = 40;
/// Bytes before the first record.
pub(super) const HEADER: usize = MAGIC.len() + REPLID + 8;

#[derive(Debug)]
pub(super) struct SegmentWriter {
    file: File,
    buffer: BytesMut,
}

impl SegmentWriter {
    /// Begins a file; the bytes of its header.
    pub(super) fn create(
        path: &Path,
        replid: &str,
        begin: i64,
    ) -> Result<(SegmentWriter, u64), SpoolError> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        let mut id = [b' '; REPLID];
        let used = replid.len().min(REPLID);
        id[..used].copy_from_slice(&replid.as_bytes()[..used]);
        header.extend_from_slice(&id);
        header.extend_from_slice(&begin.to_le_bytes());
        file.write_all(&header)?;
        Ok((SegmentWriter { file, buffer: BytesMut::new() }, header.len() as u64))
    }

    /// Writes the commands; the bytes written. They are with the kernel when this returns, so they
    /// survive a kill of this process.
    pub(super) fn append(&mut self, commands: &[Received]) -> Result<u64, SpoolError> {
        self.buffer.clear();
        for command in commands {
            record::encode(command, &mut self.buffer)?;
        }
        self.file.write_all(&self.buffer)?;
        Ok(self.buffer.len() as u64)
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[derive(Debug)]
pub(super) struct SegmentReader {
    file: BufReader<File>,
    /// End offset of the last command handed out.
    at: i64,
}

impl SegmentReader {
    pub(super) fn open(path: &Path) -> Result<SegmentReader, SpoolError> {
        let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
        let (_, begin) = read_header(&mut file)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a spool segment"))?;
        Ok(SegmentReader { file, at: begin })
    }

    /// The next commands, up to the one that ends at `end`.
    pub(super) fn read(&mut self, end: i64, max_bytes: usize) -> Result<Vec<Received>, SpoolError> {
        let (mut commands, mut bytes) = (Vec::new(), 0);
        while self.at < end && bytes < max_bytes {
            let Some(command) = record::read(&mut self.file)? else {
                let broken = io::Error::new(io::ErrorKind::InvalidData, "a record is damaged");
                return Err(broken.into());
            };
            self.at = command.end_offset;
            bytes += command.weight();
            commands.push(command);
        }
        Ok(commands)
    }
}

fn read_header(file: &mut impl Read) -> io::Result<Option<(String, i64)>> {
    let mut header = [0u8; HEADER];
    match file.read_exact(&mut header) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (magic, rest) = header.split_at(MAGIC.len());
    let (replid, begin) = rest.split_at(REPLID);
    let Ok(begin) = <[u8; 8]>::try_from(begin) else { return Ok(None) };
    let replid = String::from_utf8_lossy(replid).trim_end().to_owned();
    Ok((magic == MAGIC).then(|| (replid, i64::from_le_bytes(begin))))
}

/// Reads a segment of a former process as far as its checksums hold, and cuts the rest off.
pub(super) fn recover(path: &Path) -> Result<Option<Segment>, SpoolError> {
    let mut file = BufReader::new(File::open(path)?);
    let Some((replid, begin)) = read_header(&mut file)? else { return Ok(None) };
    let mut bytes = HEADER as u64;
    let mut end = begin;
    while let Some(command) = record::read(&mut file)? {
        end = command.end_offset;
        bytes += 8 + 20 + command.args.iter().map(|arg| 4 + arg.len() as u64).sum::<u64>();
    }
    OpenOptions::new().write(true).open(path)?.set_len(bytes)?;
    Ok(Some(Segment { path: path.to_owned(), replid, begin, end, bytes }))
}
