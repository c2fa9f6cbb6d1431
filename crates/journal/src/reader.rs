//! From bytes to records and back: the frame around each record, and the iterator over frames. Pure.
//!
//! A frame is the length of its payload, the CRC-32C of that payload, and the payload. The CRC begins with
//! a number of the log, so that what another log left on the disk is never taken for a record of this one.
//!
//! Reading ends at the first frame that is not whole. What that means, the bytes after it tell: if no whole
//! frame follows, a write was cut short ([`Ending::Torn`]); if one does, something was damaged
//! ([`Ending::Damaged`]), and what to do about that is for a person to decide.

use super::record::{BadRecord, Record};

/// Bytes before a payload.
pub const FRAME_HEAD: usize = 8;
/// A longer payload is not written, so a larger length is damage.
pub const MAX_PAYLOAD: usize = 1 << 19;

/// Appends `record` in its frame; `seed` is the number of its log.
pub fn append(record: &Record, seed: u32, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&[0; FRAME_HEAD]);
    record.encode(to);
    let payload = &to[start + FRAME_HEAD..];
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let crc = crc32c::crc32c_append(seed, payload).to_le_bytes();
    to[start..start + 4].copy_from_slice(&length);
    to[start + 4..start + FRAME_HEAD].copy_from_slice(&crc);
}

/// A whole record and where its frame lies in the bytes that were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Framed {
    pub record: Record,
    pub start: usize,
    pub end: usize,
}

/// Why an iteration ended before the bytes did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All bytes were read.
    Whole,
    /// The frame at `at` is not whole, and no whole one follows.
    Torn { at: usize },
    /// The frame at `at` is not whole, but the one at `next` is.
    Damaged { at: usize, next: usize },
    /// The record from `at` to `end` is as it was written, and cannot be understood.
    Unreadable { at: usize, end: usize, why: BadRecord },
}

/// Records from the beginning of some bytes up to the first that is not whole.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    seed: u32,
    at: usize,
    /// Where a record ends that cannot be understood.
    unreadable: Option<(usize, BadRecord)>,
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8], seed: u32) -> Self {
        Self { bytes, seed, at: 0, unreadable: None }
    }

    /// Where the next frame begins; after the last one, where reading ended.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Why the iterator gave no more.
    #[must_use]
    pub fn ending(&self) -> Ending {
        let at = self.at;
        if let Some((end, why)) = self.unreadable {
            return Ending::Unreadable { at, end, why };
        }
        if at == self.bytes.len() {
            return Ending::Whole;
        }
        match find_frame(self.bytes, at + 1, self.seed) {
            Some(next) => Ending::Damaged { at, next },
            None => Ending::Torn { at },
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Framed;

    fn next(&mut self) -> Option<Framed> {
        if self.unreadable.is_some() {
            return None;
        }
        let payload = frame_at(self.bytes, self.at, self.seed)?;
        let (start, end) = (self.at, self.at + FRAME_HEAD + payload.len());
        match Record::decode(payload) {
            Ok(record) => {
                self.at = end;
                Some(Framed { record, start, end })
            }
            Err(why) => {
                self.unreadable = Some((end, why));
                None
            }
        }
    }
}

/// True if the frame at `at` may go on after the last of the bytes.
#[must_use]
pub fn is_cut_off(bytes: &[u8], at: usize) -> bool {
    match length_at(bytes, at) {
        Some(length) => bytes.len() < at + FRAME_HEAD + length,
        None => bytes.len() < at + FRAME_HEAD,
    }
}

/// The first whole frame that begins at `from` or later.
fn find_frame(bytes: &[u8], from: usize, seed: u32) -> Option<usize> {
    (from..bytes.len()).find(|at| frame_at(bytes, *at, seed).is_some())
}

/// The payload of the frame that begins at `at`, if it is whole.
fn frame_at(bytes: &[u8], at: usize, seed: u32) -> Option<&[u8]> {
    let length = length_at(bytes, at)?;
    let payload = bytes.get(at + FRAME_HEAD..)?.get(..length)?;
    let crc = bytes.get(at + 4..)?.first_chunk().map(|crc| u32::from_le_bytes(*crc))?;
    (crc32c::crc32c_append(seed, payload) == crc).then_some(payload)
}

/// A length that a frame can have; `None` for any other, and where there is none.
fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..)?.first_chunk().map(|length| u32::from_le_bytes(*length))?;
    let length = usize::try_from(length).ok()?;
    // The head of a record is two bytes.
    (2..=MAX_PAYLOAD).contains(&length).then_some(length)
}
