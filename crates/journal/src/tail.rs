//! The end of the log: the segment that is written on, and the making of the next one.

use super::disk::{Disk, DiskFile};
use super::reader;
use super::record::Record;
use super::segment::{self, DRAFT_SUFFIX, HEAD, LogId, SegmentHead};
use domain::charge::Lease;
use std::io;
use std::time::Instant;

/// A segment and its length so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub base: u64,
    pub length: u64,
}

impl Segment {
    /// The position after its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.base + self.length
    }
}

/// Where the next write goes, and what of it has failed so far.
pub(super) struct Tail {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) segment: Segment,
    /// Taken from the head; empty unless a write is under way or has failed.
    pub(super) waiting: Vec<u8>,
    /// `Head::pushed` after them.
    pub(super) upto: u64,
    /// Length at which the next segment is made.
    pub(super) roll_at: u64,
    pub(super) outage: Option<(Instant, u64)>,
}

impl Tail {
    /// Goes on behind `segment`, which lies in `file`; another follows once it has `roll_at` bytes.
    pub(super) fn new(file: Box<dyn DiskFile>, segment: Segment, roll_at: u64) -> Self {
        Self { file, segment, waiting: Vec::new(), upto: 0, roll_at, outage: None }
    }

    /// Writes what waits, at the end of the segment.
    pub(super) fn write(&self, synced: bool) -> io::Result<()> {
        self.file.write_all_at(&self.waiting, self.segment.length)?;
        if synced { self.file.sync() } else { Ok(()) }
    }
}

/// Makes a segment that begins at `base` with the leases that are open. It has its name only once it is
/// whole and synced.
///
/// # Errors
/// If the disk does not take it; then it is not there under its name.
pub(super) fn make_segment(
    disk: &dyn Disk,
    id: LogId,
    base: u64,
    open: &[Lease],
) -> io::Result<(Box<dyn DiskFile>, Segment)> {
    let mut bytes = Vec::with_capacity(HEAD);
    bytes.extend_from_slice(&SegmentHead { log: id, base }.encode());
    for lease in open {
        reader::append(&Record::Open(lease.clone()), id.seed(), &mut bytes);
    }
    let name = segment::file_name(base);
    let draft = format!("{name}{DRAFT_SUFFIX}");
    let file = disk.create(&draft)?;
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&draft, &name)?;
    if let Err(error) = disk.sync()
        && disk.remove(&name).is_ok()
    {
        return Err(error);
    }
    // With its name it is the log's next segment, synced or not.
    Ok((file, Segment { base, length: bytes.len() as u64 }))
}
