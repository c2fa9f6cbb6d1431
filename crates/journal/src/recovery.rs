//! What a start finds in the folder of a log: its segments, what the ledger lacks, the leases left open.
//!
//! A write that was cut short leaves a torn record at the very end, which is cut off. Anything else that
//! cannot be read stops the start, because a charge may be in it.

use super::disk::{Disk, DiskFile};
use super::leases::OpenLeases;
use super::reader::{self, Ending, MAX_PAYLOAD, Reader};
use super::record::{BadRecord, Record};
use super::segment::{self, DRAFT_SUFFIX, HEAD, LogId, SegmentHead};
use super::tail::Segment;
use std::io;

/// Bytes read at a time; more than the longest frame.
const CHUNK: usize = 2 * MAX_PAYLOAD;

/// The journal cannot be used.
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

/// The segments in a folder, the oldest first, and the log they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub log: LogId,
    pub segments: Vec<Segment>,
}

/// What reading the segments found.
#[derive(Debug, Default)]
pub struct Scanned {
    pub leases: OpenLeases,
    /// Entries of the ledger after the position asked for.
    pub entries: u64,
    /// The last segment is whole up to this length, and was longer.
    pub torn: Option<Torn>,
}

/// A record that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    pub base: u64,
    /// Length of what is whole.
    pub at: u64,
    pub length: u64,
}

/// Lists the segments; `None` if there are none.
///
/// # Errors
/// If the folder cannot be read, or holds segments of several logs.
pub fn list(disk: &dyn Disk) -> Result<Option<Listed>, JournalError> {
    let io = |source| JournalError::Io { folder: disk.name(), source };
    let mut bases: Vec<u64> =
        disk.list().map_err(io)?.iter().filter_map(|name| segment::base_of(name)).collect();
    bases.sort_unstable();
    let mut listed: Option<Listed> = None;
    for base in bases {
        let file = disk.open(&segment::file_name(base)).map_err(io)?;
        let mut head = [0; HEAD];
        file.read_at(&mut head, 0).map_err(io)?;
        let length = file.length().map_err(io)?;
        let head = SegmentHead::decode(&head).filter(|head| head.base == base);
        let log = listed.as_ref().map(|listed| listed.log).or(head.map(|head| head.log));
        match head {
            Some(head) if Some(head.log) == log => {
                let listed =
                    listed.get_or_insert_with(|| Listed { log: head.log, segments: Vec::new() });
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

/// Removes what a segment that was never finished left behind.
pub(super) fn remove_drafts(disk: &dyn Disk) -> io::Result<()> {
    for name in disk.list()?.iter().filter(|name| name.ends_with(DRAFT_SUFFIX)) {
        disk.remove(name)?;
    }
    Ok(())
}

/// The segment in which reading from `position` begins: its first records say which leases were open.
#[must_use]
pub fn segment_of(segments: &[Segment], position: u64) -> usize {
    segments.iter().rposition(|one| one.base <= position).unwrap_or(0)
}

/// Reads the segments from the one that holds `position`, and counts the entries after that position.
///
/// # Errors
/// If anything but a torn end cannot be read.
pub fn scan(disk: &dyn Disk, listed: &Listed, position: u64) -> Result<Scanned, JournalError> {
    let segments = &listed.segments[segment_of(&listed.segments, position)..];
    let mut scanned = Scanned::default();
    for (place, one) in segments.iter().enumerate() {
        let next = segments.get(place + 1);
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
            None => scanned.torn = Some(Torn { base: one.base, at: whole, length: one.length }),
        }
    }
    Ok(scanned)
}

/// Gives each record of a segment with its position to `take`. Returns the length of what is whole: the
/// segment's own, unless it ends in a torn record.
///
/// # Errors
/// If a record that is not the last cannot be read, or the file cannot.
pub fn each_record(
    disk: &dyn Disk,
    log: LogId,
    segment: Segment,
    mut take: impl FnMut(u64, Record),
) -> Result<u64, JournalError> {
    let io = |source| JournalError::Io { folder: disk.name(), source };
    let file = disk.open(&segment::file_name(segment.base)).map_err(io)?;
    let mut offset = HEAD as u64;
    while offset < segment.length {
        let bytes = read(&*file, offset, segment.length, CHUNK).map_err(io)?;
        let is_rest = offset + bytes.len() as u64 == segment.length;
        let mut records = Reader::new(&bytes, log.seed());
        for framed in records.by_ref() {
            take(segment.base + offset + framed.start as u64, framed.record);
        }
        let at = records.at();
        if !is_rest && at > 0 && reader::is_cut_off(&bytes, at) {
            offset += at as u64;
            continue;
        }
        // What follows decides, so all of it is looked at.
        let rest = read(&*file, offset + at as u64, segment.length, usize::MAX).map_err(io)?;
        let mut records = Reader::new(&rest, log.seed());
        if !is_rest && records.next().is_some() {
            offset += at as u64;
            continue;
        }
        let place = |within: usize| offset + at as u64 + within as u64;
        let file = || path(disk, segment.base);
        return match records.ending() {
            Ending::Whole => Ok(segment.length),
            Ending::Torn { at } => Ok(place(at)),
            Ending::Damaged { at, next } => {
                Err(JournalError::Damaged { file: file(), at: place(at), next: place(next) })
            }
            Ending::Unreadable { at, why, .. } => {
                Err(JournalError::Unreadable { file: file(), at: place(at), why })
            }
        };
    }
    Ok(segment.length)
}

/// Up to `most` bytes of a segment from `offset` on.
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

/// How people find the file.
pub(super) fn path(disk: &dyn Disk, base: u64) -> String {
    format!("{}/{}", disk.name(), segment::file_name(base))
}
