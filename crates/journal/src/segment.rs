//! A segment: one file of the log. Its name is the position of its first byte, and its header names the log. Pure.
//!
//! A position counts the bytes of the log from its beginning, headers included. Each segment begins, after its
//! header, with the leases that were open when it was created, so no older segment is needed to find them.

use std::fmt;
use uuid::Uuid;

/// Size at which a new segment begins, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Length of a segment's header, in bytes.
pub const HEAD: usize = 40;

const MAGIC: &[u8; 8] = b"knockxJ\x01";
const SUFFIX: &str = ".journal";
/// Suffix of a segment that is not complete yet.
pub const DRAFT_SUFFIX: &str = ".draft";

/// Id of a log: random, created with its first segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub Uuid);

impl LogId {
    /// Seed of the CRCs of this log's records.
    #[must_use]
    pub fn seed(self) -> u32 {
        crc32c::crc32c(self.0.as_bytes())
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// Header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    pub log: LogId,
    /// The position of the segment's first byte.
    pub base: u64,
}

impl SegmentHead {
    /// Encodes the header.
    #[must_use]
    pub fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(self.log.0.as_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]).to_le_bytes();
        bytes[36..].copy_from_slice(&crc);
        bytes
    }

    /// Decodes a header; `None` if the bytes are not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD] = bytes.first_chunk()?;
        let crc = u32::from_le_bytes(*bytes[36..].first_chunk()?);
        if bytes[..8] != *MAGIC || crc32c::crc32c(&bytes[..36]) != crc {
            return None;
        }
        let log = LogId(Uuid::from_bytes(*bytes[8..].first_chunk()?));
        Some(Self { log, base: u64::from_le_bytes(*bytes[24..].first_chunk()?) })
    }
}

/// File name of the segment that begins at `base`.
#[must_use]
pub fn file_name(base: u64) -> String {
    format!("{base:020}{SUFFIX}")
}

/// Position at which the segment in this file begins; `None` if the file is not a segment.
#[must_use]
pub fn base_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(SUFFIX)?;
    let is_name = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_name { digits.parse().ok() } else { None }
}
