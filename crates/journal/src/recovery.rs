//! Reads the folder of a log at startup: its segments, the entries that the ledger lacks, and the open leases.
//!
//! A write that was cut short leaves a torn record at the end of the log, which is truncated. Anything else that
//! cannot be read stops the start, because it may contain a charge.

use super::disk::{Disk, DiskFile};
use super::leases::OpenLeases;
use super::reader::{self, Ending, MAX_PAYLOAD, Reader};
use super::record::{BadRecord, Record};
use super::segment::{self, DRAFT_SUFFIX, HEAD, LogId, SegmentHead};
use super::tail::Segment;
use std::io;

/// Bytes read at a time; more than the longest frame.
const READ_BYTES: usize = 2 * MAX_PAYLOAD;

/// The reason for which the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot use the journal in {folder}: {source}")]
    Io { folder: String, source: io::Error },
    #[error(
        "the journal is damaged: the record at byte {at} of {file} is corrupt, but valid records follow at byte \
         {next}; inspect it with `knockx journal show`, then restore the file, or move it away and lose its \
         entries that are not in the ledger yet"
    )]
    Damaged { file: String, at: u64, next: u64 },
    #[error(
        "the journal is damaged: {file} ends with a corrupt record at byte {at}, but it is not the last segment; \
         inspect it with `knockx journal show`, then restore the file, or move it away and lose its entries that \
         are not in the ledger yet"
    )]
    Cut { file: String, at: u64 },
    #[error("cannot read the journal record at byte {at} of {file}: {why}")]
    Unreadable { file: String, at: u64, why: BadRecord },
    #[error(
        "the journal cannot be used: {file} is not a segment of log {expected}, or its header is damaged; restore \
         it, or move it out of this folder"
    )]
    Foreign { file: String, expected: LogId },
    #[error(
        "the journal is incomplete: positions {from} to {to} of log {log} are missing; restore that file, or move \
         the files after it away to continue without their entries"
    )]
    Missing { log: LogId, from: u64, to: u64 },
    #[error(
        "the journal in {folder} was handed over by a process that still writes it, or incompletely; start again"
    )]
    NotReleased { folder: String },
    #[error("cannot write the journal to the ledger: {0}")]
    Ledger(#[from] store::StoreError),
}

/// Segments of the log in a folder, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentList {
    pub log: LogId,
    pub segments: Vec<Segment>,
}

/// Result of [`scan`].
#[derive(Debug, Default)]
pub struct Scan {
    pub leases: OpenLeases,
    /// Number of ledger entries after the given position.
    pub entries: u64,
    /// The torn record at the end of the last segment, if there is one.
    pub torn: Option<TornRecord>,
}

/// A record at the end of a segment that was written in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornRecord {
    pub base: u64,
    /// Length of the segment up to the record.
    pub at: u64,
    pub length: u64,
}

/// Lists the segments; `None` if there are none.
///
/// # Errors
/// If the folder cannot be read, or has segments of several logs.
pub fn list(disk: &dyn Disk) -> Result<Option<SegmentList>, JournalError> {
    let io = |source| JournalError::Io { folder: disk.name(), source };
    let mut bases: Vec<u64> =
        disk.list().map_err(io)?.iter().filter_map(|name| segment::base_of(name)).collect();
    bases.sort_unstable();
    let mut listed: Option<SegmentList> = None;
    for base in bases {
        let file = disk.open(&segment::file_name(base)).map_err(io)?;
        let mut head = [0; HEAD];
        file.read_at(&mut head, 0).map_err(io)?;
        let length = file.length().map_err(io)?;
        let head = SegmentHead::decode(&head).filter(|head| head.base == base);
        let log = listed.as_ref().map(|listed| listed.log).or(head.map(|head| head.log));
        match head {
            Some(head) if Some(head.log) == log => {
                let listed = listed
                    .get_or_insert_with(|| SegmentList { log: head.log, segments: Vec::new() });
                listed.segments.push(Segment { base, length });
            }
            _ => {
                let expected = log.unwrap_or(LogId(uuid::Uuid::nil()));
                return Err(JournalError::Foreign { file: path(disk, base), expected });
            }
        }
    }
    Ok(listed)
}

/// Removes the drafts of segments that were never completed.
pub(super) fn remove_drafts(disk: &dyn Disk) -> io::Result<()> {
    for name in disk.list()?.iter().filter(|name| name.ends_with(DRAFT_SUFFIX)) {
        disk.remove(name)?;
    }
    Ok(())
}

/// Index of the segment that contains `position`: its first records are the leases that were open.
#[must_use]
pub fn segment_of(segments: &[Segment], position: u64) -> usize {
    segments.iter().rposition(|one| one.base <= position).unwrap_or(0)
}

/// Reads the segments from the one that contains `position`, and counts the entries after that position.
///
/// # Errors
/// If anything but a torn end cannot be read.
pub fn scan(disk: &dyn Disk, listed: &SegmentList, position: u64) -> Result<Scan, JournalError> {
    let segments = &listed.segments[segment_of(&listed.segments, position)..];
    let mut scanned = Scan::default();
    for (index, one) in segments.iter().enumerate() {
        let next = segments.get(index + 1);
        let whole = each_record(disk, listed.log, *one, |at, record| {
            scanned.entries += u64::from(at >= position && record.is_for_ledger());
            scanned.leases.apply(record);
        })?;
        match next {
            _ if whole == one.length && next.is_none_or(|next| next.base == one.end()) => {}
            Some(_) if whole < one.length => {
                return Err(JournalError::Cut { file: path(disk, one.base), at: whole });
            }
            Some(next) => {
                let (from, to) = (one.end(), next.base);
                return Err(JournalError::Missing { log: listed.log, from, to });
            }
            None => {
                scanned.torn = Some(TornRecord { base: one.base, at: whole, length: one.length });
            }
        }
    }
    Ok(scanned)
}

/// Calls `visit` with the position of each record of a segment, and the record. Returns the length of the complete
/// records: that of the segment, unless it ends in a torn record.
///
/// # Errors
/// If a record that is not the last cannot be read, or the file cannot.
pub fn each_record(
    disk: &dyn Disk,
    log: LogId,
    segment: Segment,
    mut visit: impl FnMut(u64, Record),
) -> Result<u64, JournalError> {
    let io = |source| JournalError::Io { folder: disk.name(), source };
    let file = disk.open(&segment::file_name(segment.base)).map_err(io)?;
    let mut offset = HEAD as u64;
    while offset < segment.length {
        let bytes = read(&*file, offset, segment.length, READ_BYTES).map_err(io)?;
        let is_rest = offset + bytes.len() as u64 == segment.length;
        let mut records = Reader::new(&bytes, log.seed());
        for framed in records.by_ref() {
            visit(segment.base + offset + framed.start as u64, framed.record);
        }
        let at = records.at();
        if !is_rest && at > 0 && reader::is_cut_off(&bytes, at) {
            offset += at as u64;
            continue;
        }
        // A torn and a damaged record differ in what follows, so the whole rest is read.
        let rest = read(&*file, offset + at as u64, segment.length, usize::MAX).map_err(io)?;
        let mut following = Reader::new(&rest, log.seed());
        if !is_rest && following.next().is_some() {
            offset += at as u64;
            continue;
        }
        let position = |within: usize| offset + at as u64 + within as u64;
        let file = || path(disk, segment.base);
        return match following.ending() {
            Ending::Whole => Ok(segment.length),
            Ending::Torn { at } => Ok(position(at)),
            Ending::Damaged { at, next } => {
                Err(JournalError::Damaged { file: file(), at: position(at), next: position(next) })
            }
            Ending::Unreadable { at, why, .. } => {
                Err(JournalError::Unreadable { file: file(), at: position(at), why })
            }
        };
    }
    Ok(segment.length)
}

/// Reads up to `most` bytes of a segment from `offset` on.
pub(super) fn read(
    file: &dyn DiskFile,
    offset: u64,
    length: u64,
    most: usize,
) -> io::Result<Vec<u8>> {
    let rest = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; rest.min(most)];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Path of a segment's file, for messages.
pub(super) fn path(disk: &dyn Disk, base: u64) -> String {
    format!("{}/{}", disk.name(), segment::file_name(base))
}
