//! An entry of the journal and its encoding: a fixed layout with a version. Pure.
//!
//! Numbers are little-endian and have their full width; a text is its length (two bytes) and its UTF-8.
//! An unknown kind or version is an error and never skipped, because it may be a charge.

use domain::charge::{Adjustment, Charge, Lease, Source, Status, TokenCount};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// The layout that [`Record::encode`] writes.
const VERSION: u8 = 1;
const MAX_TEXT: usize = u16::MAX as usize;

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A call was admitted. Written before the request to the upstream.
    Open(Lease),
    /// The total reservation of a running call was raised to `reserved` tokens.
    Extend { request: RequestId, reserved: u64 },
    /// The call was refused because its lease was not written in time: nothing is charged.
    Withdraw { request: RequestId },
    /// A call ended, or the charge of one that had ended was corrected.
    Settle(Charge),
    /// An adjustment of the rollups, by a reset.
    Adjust(Adjustment),
}

/// The bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("the record is truncated")]
    Short,
    #[error("unexpected bytes after the last field")]
    Long,
    #[error(
        "unknown record kind {kind}, version {version}: it was written by a newer knockx; run that version"
    )]
    Unknown { kind: u8, version: u8 },
    #[error("the {0} is out of range")]
    Field(&'static str),
}

impl Record {
    /// True if the record is written to the ledger.
    #[must_use]
    pub fn is_for_ledger(&self) -> bool {
        matches!(self, Self::Settle(_) | Self::Adjust(_))
    }

    /// Encodes the record and appends it to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let mut out = Encoder(to);
        match self {
            Self::Open(lease) => {
                out.head(kind::OPEN);
                out.lease(lease);
            }
            Self::Extend { request, reserved } => {
                out.head(kind::EXTEND);
                out.uuid(request.0);
                out.u64(*reserved);
            }
            Self::Withdraw { request } => {
                out.head(kind::WITHDRAW);
                out.uuid(request.0);
            }
            Self::Settle(charge) => {
                out.head(kind::SETTLE);
                out.charge(charge);
            }
            Self::Adjust(adjustment) => {
                out.head(kind::ADJUST);
                out.adjustment(adjustment);
            }
        }
    }

    /// Decodes the bytes of one record, as written by [`encode`](Self::encode).
    ///
    /// # Errors
    /// If the bytes are not exactly one record of a known kind and version.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut fields = Decoder(bytes);
        let (kind, version) = (fields.u8()?, fields.u8()?);
        if version != VERSION {
            return Err(BadRecord::Unknown { kind, version });
        }
        let record = match kind {
            kind::OPEN => Self::Open(fields.lease()?),
            kind::EXTEND => Self::Extend { request: fields.request()?, reserved: fields.u64()? },
            kind::WITHDRAW => Self::Withdraw { request: fields.request()? },
            kind::SETTLE => Self::Settle(fields.charge()?),
            kind::ADJUST => Self::Adjust(fields.adjustment()?),
            _ => return Err(BadRecord::Unknown { kind, version }),
        };
        if fields.0.is_empty() { Ok(record) } else { Err(BadRecord::Long) }
    }
}

mod kind {
    pub(super) const OPEN: u8 = 1;
    pub(super) const EXTEND: u8 = 2;
    pub(super) const WITHDRAW: u8 = 3;
    pub(super) const SETTLE: u8 = 4;
    pub(super) const ADJUST: u8 = 5;
}

const STATUSES: [Status; 6] = Status::ALL;
const SOURCES: [Source; 2] = [Source::Reported, Source::Estimated];

const COUNTED: u8 = 1;
const HAS_FIRST_TOKEN: u8 = 2;
const HAS_CLIENT_ID: u8 = 4;
const HAS_UNCOUNTED: u8 = 8;

/// Encodes fields by appending them.
struct Encoder<'a>(&'a mut Vec<u8>);

impl Encoder<'_> {
    fn head(&mut self, kind: u8) {
        self.0.extend_from_slice(&[kind, VERSION]);
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn uuid(&mut self, value: Uuid) {
        self.0.extend_from_slice(value.as_bytes());
    }

    /// Appends a text, cut at the limit. No text comes near it: names are configured, and ids have at most 128
    /// bytes.
    fn text(&mut self, value: &str) {
        let end = value.floor_char_boundary(value.len().min(MAX_TEXT));
        let length = u16::try_from(end).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(&value.as_bytes()[..end]);
    }

    fn day(&mut self, day: Day) {
        self.0.extend_from_slice(&day.0.year().to_le_bytes());
        self.0.extend_from_slice(&[day.0.month().unsigned_abs(), day.0.day().unsigned_abs()]);
    }

    fn lease(&mut self, lease: &Lease) {
        self.uuid(lease.request.0);
        self.uuid(lease.user.0);
        self.u64(lease.version);
        self.day(lease.day);
        self.u64(lease.reserved);
        self.i64(lease.admitted_at.as_millisecond());
        self.text(lease.key.as_str());
        self.text(&lease.model);
    }

    fn charge(&mut self, charge: &Charge) {
        let TokenCount { prompt, cached, completion, reasoning } = charge.tokens;
        let code =
            |index: Option<usize>| index.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
        self.uuid(charge.request.0);
        self.uuid(charge.user.0);
        self.day(charge.day);
        self.i64(charge.admitted_at.as_millisecond());
        for tokens in [prompt, cached, completion, reasoning] {
            self.u64(tokens);
        }
        self.i64(charge.cost_micro_dollars);
        self.u8(code(STATUSES.iter().position(|status| *status == charge.status)));
        self.u8(code(SOURCES.iter().position(|source| *source == charge.source)));
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        self.u8(flag(charge.counted, COUNTED)
            | flag(charge.first_token_ms.is_some(), HAS_FIRST_TOKEN)
            | flag(charge.client_request_id.is_some(), HAS_CLIENT_ID)
            | flag(charge.uncounted > 0, HAS_UNCOUNTED));
        self.u32(charge.first_token_ms.unwrap_or(0));
        self.u32(charge.total_ms);
        self.text(charge.key.as_str());
        self.text(&charge.model);
        self.text(&charge.upstream);
        if let Some(id) = &charge.client_request_id {
            self.text(id);
        }
        // Left out where there are none, so that an earlier version can read the log. It refuses a record that has
        // some, and so cannot count too much.
        if charge.uncounted > 0 {
            self.u64(charge.uncounted);
        }
    }

    fn adjustment(&mut self, adjustment: &Adjustment) {
        self.uuid(adjustment.reset.0);
        self.uuid(adjustment.user.0);
        self.day(adjustment.day);
        self.i64(adjustment.tokens);
        self.i64(adjustment.requests);
        self.i64(adjustment.at.as_millisecond());
        self.text(adjustment.key.as_str());
        self.text(&adjustment.by);
    }
}

/// Decodes fields from the rest of the bytes.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BadRecord> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BadRecord::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BadRecord::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, BadRecord> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, BadRecord> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, BadRecord> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, BadRecord> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn uuid(&mut self) -> Result<Uuid, BadRecord> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    fn request(&mut self) -> Result<RequestId, BadRecord> {
        self.uuid().map(RequestId)
    }

    fn text(&mut self) -> Result<&'a str, BadRecord> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(usize::from(length))?).map_err(|_| BadRecord::Field("text"))
    }

    fn shared_text(&mut self) -> Result<Arc<str>, BadRecord> {
        self.text().map(Arc::from)
    }

    fn key(&mut self) -> Result<KeyId, BadRecord> {
        self.shared_text().map(KeyId)
    }

    fn day(&mut self) -> Result<Day, BadRecord> {
        let year = i16::from_le_bytes(self.array()?);
        let [month, day] = self.array()?.map(|byte: u8| i8::try_from(byte).unwrap_or(i8::MAX));
        Date::new(year, month, day).map(Day).map_err(|_| BadRecord::Field("day"))
    }

    fn time(&mut self) -> Result<Timestamp, BadRecord> {
        Timestamp::from_millisecond(self.i64()?).map_err(|_| BadRecord::Field("time"))
    }

    fn lease(&mut self) -> Result<Lease, BadRecord> {
        Ok(Lease {
            request: self.request()?,
            user: self.uuid().map(UserId)?,
            version: self.u64()?,
            day: self.day()?,
            reserved: self.u64()?,
            admitted_at: self.time()?,
            key: self.key()?,
            model: self.shared_text()?,
        })
    }

    fn charge(&mut self) -> Result<Charge, BadRecord> {
        let (request, user) = (self.request()?, self.uuid().map(UserId)?);
        let (day, admitted_at) = (self.day()?, self.time()?);
        let tokens = TokenCount {
            prompt: self.u64()?,
            cached: self.u64()?,
            completion: self.u64()?,
            reasoning: self.u64()?,
        };
        let cost_micro_dollars = self.i64()?;
        let status = *STATUSES.get(usize::from(self.u8()?)).ok_or(BadRecord::Field("status"))?;
        let source = *SOURCES.get(usize::from(self.u8()?)).ok_or(BadRecord::Field("source"))?;
        let flags = self.u8()?;
        let (first_token_ms, total_ms) = (self.u32()?, self.u32()?);
        Ok(Charge {
            request,
            user,
            day,
            admitted_at,
            tokens,
            cost_micro_dollars,
            status,
            source,
            counted: flags & COUNTED != 0,
            first_token_ms: (flags & HAS_FIRST_TOKEN != 0).then_some(first_token_ms),
            total_ms,
            key: self.key()?,
            model: self.shared_text()?,
            upstream: self.shared_text()?,
            client_request_id: match flags & HAS_CLIENT_ID {
                0 => None,
                _ => Some(self.shared_text()?),
            },
            uncounted: match flags & HAS_UNCOUNTED {
                0 => 0,
                _ => self.u64()?,
            },
        })
    }

    fn adjustment(&mut self) -> Result<Adjustment, BadRecord> {
        Ok(Adjustment {
            reset: self.request()?,
            user: self.uuid().map(UserId)?,
            day: self.day()?,
            tokens: self.i64()?,
            requests: self.i64()?,
            at: self.time()?,
            key: self.key()?,
            by: self.text()?.to_owned(),
        })
    }
}
