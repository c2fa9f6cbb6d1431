//! Encodes and decodes frames, each of which holds one record, and iterates over them. Pure.
//!
//! A frame is the length of its payload, the CRC-32C of the payload, and the payload. The CRC is seeded with
//! the id of the log, so that leftovers of another log on the disk are never read as records of this one.
//!
//! Reading ends at the first incomplete frame. If no complete frame follows it, a write was cut short
//! ([`Ending::Torn`]). If one does, the file is damaged ([`Ending::Damaged`]), and an operator has to decide.

use super::record::{BadRecord, Record};

/// Length of the header before a payload, in bytes.
pub const FRAME_HEAD: usize = 8;
/// Maximum length of a payload, in bytes; a larger length in a file is damage.
pub const MAX_PAYLOAD: usize = 1 << 19;

/// Appends the frame of `record`; `seed` is [`LogId::seed`](super::segment::LogId::seed) of its log.
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

/// A record, and the range of its frame in the bytes that were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub record: Record,
    pub start: usize,
    pub end: usize,
}

/// The reason for which a [`Reader`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every byte belongs to a complete frame.
    Whole,
    /// The frame at `at` is incomplete, and no complete one follows.
    Torn { at: usize },
    /// The frame at `at` is corrupt, but the one at `next` is complete.
    Damaged { at: usize, next: usize },
    /// The frame from `at` to `end` is complete, but its record cannot be decoded.
    Unreadable { at: usize, end: usize, why: BadRecord },
}

/// Iterates over the complete frames at the start of some bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    seed: u32,
    at: usize,
    /// End and error of a record that cannot be decoded.
    unreadable: Option<(usize, BadRecord)>,
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8], seed: u32) -> Self {
        Self { bytes, seed, at: 0, unreadable: None }
    }

    /// Offset of the next frame; after the last one, the offset at which reading ended.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Returns the reason for the end.
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
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.unreadable.is_some() {
            return None;
        }
        let payload = frame_at(self.bytes, self.at, self.seed)?;
        let (start, end) = (self.at, self.at + FRAME_HEAD + payload.len());
        match Record::decode(payload) {
            Ok(record) => {
                self.at = end;
                Some(Frame { record, start, end })
            }
            Err(why) => {
                self.unreadable = Some((end, why));
                None
            }
        }
    }
}

/// True if the frame at `at` may continue after the end of the bytes.
#[must_use]
pub fn is_cut_off(bytes: &[u8], at: usize) -> bool {
    match length_at(bytes, at) {
        Some(length) => bytes.len() < at + FRAME_HEAD + length,
        None => bytes.len() < at + FRAME_HEAD,
    }
}

/// Finds the first complete frame that begins at `from` or later.
fn find_frame(bytes: &[u8], from: usize, seed: u32) -> Option<usize> {
    (from..bytes.len()).find(|at| frame_at(bytes, *at, seed).is_some())
}

/// Returns the payload of the frame at `at`, if it is complete.
fn frame_at(bytes: &[u8], at: usize, seed: u32) -> Option<&[u8]> {
    let length = length_at(bytes, at)?;
    let payload = bytes.get(at + FRAME_HEAD..)?.get(..length)?;
    let crc = bytes.get(at + 4..)?.first_chunk().map(|crc| u32::from_le_bytes(*crc))?;
    (crc32c::crc32c_append(seed, payload) == crc).then_some(payload)
}

/// Reads the length of the payload at `at`; `None` if it is not a valid length.
fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..)?.first_chunk().map(|length| u32::from_le_bytes(*length))?;
    let length = usize::try_from(length).ok()?;
    // The head of a record is two bytes.
    (2..=MAX_PAYLOAD).contains(&length).then_some(length)
}
