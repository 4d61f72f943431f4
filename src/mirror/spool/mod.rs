//! The spool: the part of the replication stream that PostgreSQL could not take yet, on disk.
//!
//! Segments are files named by the offset at which they begin. Each starts with a header (magic,
//! replication id, begin offset) and holds checksummed records in order; together they are one
//! gapless stretch of the stream. A segment is deleted when all of it has been handed out and
//! committed. After a crash the stretch is taken up again as far as its checksums hold.

mod record;
mod segment;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::log::Received;
use segment::{SegmentReader, SegmentWriter};

/// Bytes after which a new segment is begun.
const SEGMENT_BYTES: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(
        "spool directory {path}: {source}; check that it exists and can be written, or set mirror.spool_dir"
    )]
    Directory { path: PathBuf, source: io::Error },
    #[error("spool: {0}")]
    Io(#[from] io::Error),
    #[error("spool: a command is longer than 2 GiB")]
    TooLong,
    #[error("spool has reached mirror.spool_max_bytes ({0} bytes)")]
    Full(u64),
}

/// One lineage's stretch of a segment.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    replid: String,
    /// Offset of the first record's end is above this.
    begin: i64,
    end: i64,
    bytes: u64,
}

#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    max_bytes: u64,
    /// Oldest first; the last one is being written when `writer` is there.
    segments: VecDeque<Segment>,
    writer: Option<SegmentWriter>,
    reader: Option<SegmentReader>,
    /// The next segment to read, counted from the oldest.
    reading: usize,
}

impl Spool {
    /// Opens the directory and takes up what a former process left there.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Spool, SpoolError> {
        let failed = |source| SpoolError::Directory { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|e| e == "spool") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut spool = Spool {
            dir: dir.to_owned(),
            max_bytes,
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            reading: 0,
        };
        for path in paths {
            spool.take_up(path)?;
        }
        Ok(spool)
    }

    /// Adds a segment of a former process if it continues the stretch; deletes it otherwise.
    fn take_up(&mut self, path: PathBuf) -> Result<(), SpoolError> {
        let recovered = segment::recover(&path)?;
        let empty = match &recovered {
            Some(segment) => segment.end == segment.begin,
            None => fs::metadata(&path)?.len() < segment::HEADER as u64,
        };
        if empty {
            tracing::debug!(segment = %path.display(), "removing a spool segment that was only begun");
            fs::remove_file(&path)?;
            return Ok(());
        }
        let continues =
            |segment: &Segment| self.segments.back().is_none_or(|last| last.end == segment.begin);
        match recovered {
            Some(segment) if continues(&segment) => self.segments.push_back(segment),
            found => {
                let begin = found.map(|segment| segment.begin);
                let end = self.segments.back().map(|last| last.end);
                tracing::warn!(segment = %path.display(), begin, end, "dropping a spool segment that does not continue the others");
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// True when nothing is left to hand out.
    pub fn is_drained(&self) -> bool {
        self.unread_segments().all(|s| s.end == s.begin) && self.reader.is_none()
    }

    fn unread_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().skip(self.reading)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// True when it has reached its bound.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.max_bytes
    }

    /// The stretch held: lineage of its end, offset before its first command, offset of its end.
    pub fn stretch(&self) -> Option<(&str, i64, i64)> {
        let (first, last) = (self.segments.front()?, self.segments.back()?);
        Some((&last.replid, first.begin, last.end))
    }

    /// Appends commands that follow offset `begin`.
    pub fn append(
        &mut self,
        replid: &str,
        begin: i64,
        commands: &[Received],
    ) -> Result<(), SpoolError> {
        if self.is_full() {
            return Err(SpoolError::Full(self.max_bytes));
        }
        let fits = |s: &Segment| s.replid == replid && s.bytes < SEGMENT_BYTES;
        if self.writer.is_none() || !self.segments.back().is_some_and(fits) {
            self.begin_segment(replid, begin)?;
        }
        let (Some(writer), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Ok(());
        };
        match writer.append(commands) {
            Ok(bytes) => segment.bytes += bytes,
            Err(e) => {
                // A record may be half written: nothing follows it in this file.
                self.writer = None;
                return Err(e);
            }
        }
        if let Some(last) = commands.last() {
            segment.end = last.end_offset;
        }
        Ok(())
    }

    /// Puts commands where they belong in the stretch; nothing of them is held yet.
    pub fn insert(
        &mut self,
        replid: &str,
        begin: i64,
        commands: &[Received],
    ) -> Result<(), SpoolError> {
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        let path = self.free_path(begin);
        let (mut writer, header) = SegmentWriter::create(&path, replid, begin)?;
        let bytes = header + writer.append(commands)?;
        writer.finish()?;
        let end = commands.last().map_or(begin, |last| last.end_offset);
        self.rewind();
        let place = self.segments.partition_point(|segment| segment.begin < begin);
        self.segments.insert(place, Segment { path, replid: replid.to_owned(), begin, end, bytes });
        Ok(())
    }

    /// True when the command that ends at `offset` is on disk.
    pub fn holds(&self, offset: i64) -> bool {
        self.segments.iter().any(|segment| segment.begin < offset && offset <= segment.end)
    }

    /// Where the last command on disk ends that comes before the one that ends at `offset`, which
    /// is not on disk.
    pub fn end_before(&self, offset: i64) -> Option<i64> {
        self.segments.iter().map(|segment| segment.end).filter(|end| *end < offset).max()
    }

    /// What is not on disk between `begin` and `end`, whose lineage is `replid`: from where to where,
    /// and the lineage of what follows.
    pub fn gaps(&self, begin: i64, replid: &str, end: i64) -> Vec<(i64, i64, String)> {
        let mut at = begin;
        let mut gaps = Vec::new();
        let segments = self.segments.iter().map(|s| (s.begin, s.end, s.replid.as_str()));
        for (begin, end, replid) in segments.chain([(end, end, replid)]) {
            if at < begin {
                gaps.push((at, begin, replid.to_owned()));
            }
            at = at.max(end);
        }
        gaps
    }

    /// Two segments may begin at one offset when the lineage changes there.
    fn free_path(&self, begin: i64) -> PathBuf {
        let mut paths = (0..).map(|n| self.dir.join(format!("{begin:020}-{n:03}.spool")));
        paths.find(|path| !path.exists()).unwrap_or_else(|| self.dir.join("overflow.spool"))
    }

    fn begin_segment(&mut self, replid: &str, begin: i64) -> Result<(), SpoolError> {
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        let path = self.free_path(begin);
        let (writer, bytes) = SegmentWriter::create(&path, replid, begin)?;
        self.writer = Some(writer);
        self.segments.push_back(Segment {
            path,
            replid: replid.to_owned(),
            begin,
            end: begin,
            bytes,
        });
        Ok(())
    }

    /// Hands out the next commands in order, up to `max_bytes`, with the lineage they belong to.
    /// An empty answer means that there is nothing more at the moment.
    pub fn read(&mut self, max_bytes: usize) -> Result<(String, Vec<Received>), SpoolError> {
        loop {
            if self.reader.is_none() {
                let Some(segment) = self.segments.get(self.reading) else {
                    return Ok(Default::default());
                };
                self.reader = Some(SegmentReader::open(&segment.path)?);
            }
            let Some(segment) = self.segments.get(self.reading) else {
                return Ok(Default::default());
            };
            let Some(reader) = &mut self.reader else { return Ok(Default::default()) };
            let commands = reader.read(segment.end, max_bytes)?;
            if !commands.is_empty() {
                return Ok((segment.replid.clone(), commands));
            }
            let still_written = self.reading + 1 == self.segments.len() && self.writer.is_some();
            if still_written {
                // The writer goes on in a new file once this one has been read to its end.
                if let Some(writer) = self.writer.take() {
                    writer.finish()?;
                }
            }
            self.reader = None;
            self.reading += 1;
        }
    }

    /// Everything up to `offset` is committed: segments that end there or before are deleted.
    pub fn committed(&mut self, offset: i64) -> Result<(), SpoolError> {
        while self.reading > 0 && self.segments.front().is_some_and(|s| s.end <= offset) {
            if let Some(segment) = self.segments.pop_front() {
                fs::remove_file(&segment.path)?;
                self.reading -= 1;
            }
        }
        Ok(())
    }

    /// Starts handing out again from the oldest command still on disk.
    pub fn rewind(&mut self) {
        self.reader = None;
        self.reading = 0;
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> Result<(), SpoolError> {
        self.rewind();
        self.writer = None;
        for segment in self.segments.drain(..) {
            fs::remove_file(&segment.path)?;
        }
        Ok(())
    }
}
