//! A segment: one file of the log. Its name is the position of its first byte, its head says to which log
//! it belongs. Pure.
//!
//! A position counts the bytes of the log from its beginning, heads included; it only grows. Each segment
//! after its head repeats the leases that were open when it began, so no older one is needed to know them.

use std::fmt;
use uuid::Uuid;

/// A segment that has grown to this size is followed by another.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes of a segment's head.
pub const HEAD: usize = 40;

const MAGIC: &[u8; 8] = b"knockxJ\x01";
const SUFFIX: &str = ".journal";
/// A segment that is being made.
pub const DRAFT_SUFFIX: &str = ".draft";

/// Which log: random, made with its first segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub Uuid);

impl LogId {
    /// What the CRC of this log's records begins with.
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

/// The head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    pub log: LogId,
    /// The position of the segment's first byte.
    pub base: u64,
}

impl SegmentHead {
    /// The head's bytes.
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

    /// Reads a head; `None` if the bytes are not one.
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

/// The file of the segment that begins at `base`.
#[must_use]
pub fn file_name(base: u64) -> String {
    format!("{base:020}{SUFFIX}")
}

/// Where the segment in this file begins; `None` if it is not one.
#[must_use]
pub fn base_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(SUFFIX)?;
    let is_name = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_name { digits.parse().ok() } else { None }
}
