//! The end of the log: the segment that is being written, and the creation of the next one.

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
    /// Position after the last byte of the segment.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.base + self.length
    }
}

/// The segment that is being written, and the bytes of the current write.
pub(super) struct Tail {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) segment: Segment,
    /// Bytes of the current write; empty unless it is running or has failed.
    pub(super) unwritten: Vec<u8>,
    /// Number of bytes appended to the log up to the end of the current write.
    pub(super) appended: u64,
    /// Length at which the next segment begins.
    pub(super) roll_at: u64,
    pub(super) outage: Option<(Instant, u64)>,
}

impl Tail {
    /// Continues at the end of `segment`, in `file`; the next segment begins at `roll_at` bytes.
    pub(super) fn new(file: Box<dyn DiskFile>, segment: Segment, roll_at: u64) -> Self {
        Self { file, segment, unwritten: Vec::new(), appended: 0, roll_at, outage: None }
    }

    /// Writes the bytes of the current write at the end of the segment.
    pub(super) fn write(&self, synced: bool) -> io::Result<()> {
        self.file.write_all_at(&self.unwritten, self.segment.length)?;
        if synced { self.file.sync() } else { Ok(()) }
    }
}

/// Creates a segment at `base` that begins with the open leases. It is a draft until it is complete and synced.
///
/// # Errors
/// If the disk cannot be written; then the segment does not exist under its name.
pub(super) fn create_segment(
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
    // Under its name it is the log's next segment, whether or not the folder is synced.
    Ok((file, Segment { base, length: bytes.len() as u64 }))
}
