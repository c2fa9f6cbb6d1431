//! Encodes the arguments of scripts and decodes their replies.

use crate::backend::{DayTally, ExtendOutcome, Grant, QuotaRefusal, QuotaUnavailable};
use crate::backend::{RemovedUsage, UsageSnapshot};
use crate::rules::{Debit, Resource, Scope};
use domain::day::Day;
use redis::Value;
use rmp::encode::{write_array_len, write_uint};
use uuid::Uuid;

/// Largest number sent to Redis: Lua's numbers are exact up to this.
const LARGEST: u64 = (1 << 53) - 1;

// The first two numbers of a debit, as `debits.lua` names them.
const USER: u64 = 1;
const KEY: u64 = 2;
const WINDOW: u64 = 1;
const REQUEST: u64 = 2;
const TOKENS: u64 = 3;
const STREAM: u64 = 4;

const INTO_MEMORY: &str = "writing into memory does not fail";

/// Decoded reply of `take.lua`.
pub(super) enum TakeReply {
    Granted(Grant),
    Refused(QuotaRefusal),
    /// The caller record is out of date.
    Stale,
    /// The request has ended already.
    Settled,
    /// The partition has no epoch, so its accounts are not complete.
    Rebuild,
}

/// Decoded reply of `settle.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SettleReply {
    pub end: SettleEnd,
    pub overshoot: u64,
    /// `None` if the call is still running.
    pub watermark: Option<Watermark>,
}

/// Progress of a partition that Redis reported, from which lost charges are detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermark {
    /// `None` if the partition had none.
    pub epoch: Option<Uuid>,
    /// Number of settlements so far in the partition.
    pub number: u64,
}

/// Decoded reply of `partition_state.lua`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionState {
    /// Empty if the partition has none.
    pub epoch: String,
    /// Number of settlements so far.
    pub number: u64,
    /// Number of charges that wait for the ledger.
    pub waiting: u64,
}

/// Decoded reply of `lease_state.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseState<'a> {
    /// Reserved tokens.
    pub reserved: u64,
    /// Tokens that its gateway had observed with the latest renewal.
    pub observed: u64,
    /// The charge if the gateway dies, as JSON.
    pub charge: &'a str,
}

/// Outcome of a settlement in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettleEnd {
    Settled,
    /// An earlier attempt settled the call.
    AlreadySettled,
    /// The lease was renewed, so the call is not over.
    Alive,
}

/// Encodes a day for scripts: as a number, such as 20261128.
pub(super) fn day(Day(date): Day) -> String {
    let number =
        i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day());
    number.to_string()
}

/// Encodes debits as arrays of numbers, as `debits.lua` describes them, in MessagePack.
pub(super) fn debits(debits: &[Debit]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + debits.len() * 24);
    write_array(&mut bytes, debits.len());
    for debit in debits {
        let owner = match debit.scope {
            Scope::User(_) => USER,
            Scope::Key(_) => KEY,
        };
        match &debit.resource {
            Resource::Window(window) => {
                let [capacity, seconds] = [window.capacity, window.refill_seconds].map(u64::from);
                write_numbers(&mut bytes, &[owner, WINDOW, capacity, seconds]);
            }
            Resource::Request { limit, .. } => write_numbers(&mut bytes, &[owner, REQUEST, *limit]),
            Resource::Tokens { want, least, likely, limit, share, .. } => {
                let share = share.unwrap_or(0);
                write_numbers(&mut bytes, &[owner, TOKENS, *limit, *want, *least, share, *likely]);
            }
            Resource::Stream { limit } => write_numbers(&mut bytes, &[owner, STREAM, *limit]),
        }
    }
    bytes
}

fn write_numbers(bytes: &mut Vec<u8>, numbers: &[u64]) {
    write_array(bytes, numbers.len());
    for number in numbers {
        write_uint(bytes, exact(*number)).expect(INTO_MEMORY);
    }
}

fn write_array(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a call has few debits");
    write_array_len(bytes, length).expect(INTO_MEMORY);
}

/// Caps a number at [`LARGEST`].
pub(super) fn exact(number: u64) -> u64 {
    number.min(LARGEST)
}

pub(super) fn take_reply(
    reply: &[Value],
    requested: &[Debit],
) -> Result<TakeReply, QuotaUnavailable> {
    let (word, rest) = head(reply)?;
    match (word, rest) {
        ("granted", [tokens, free, numbers @ ..]) => Ok(TakeReply::Granted(Grant {
            tokens: number(tokens)?,
            free: number(free)?,
            snapshot: usage_snapshot(numbers)?,
        })),
        ("refused", [position, by_open_calls, retry, numbers @ ..]) => {
            let position = usize::try_from(number(position)?).map_err(|_| QuotaUnavailable)?;
            let debit = requested.get(position.wrapping_sub(1)).ok_or(QuotaUnavailable)?;
            Ok(TakeReply::Refused(QuotaRefusal {
                limit: debit.resource.kind(),
                by_open_calls: number(by_open_calls)? == 1,
                scope: debit.scope.clone(),
                retry_after_ms: number(retry)?,
                snapshot: usage_snapshot(numbers)?,
            }))
        }
        ("stale", _) => Ok(TakeReply::Stale),
        ("settled", _) => Ok(TakeReply::Settled),
        ("rebuild", _) => Ok(TakeReply::Rebuild),
        _ => Err(QuotaUnavailable),
    }
}

/// Decodes a reply of `extend.lua`. `None` if Redis has no such lease.
pub(super) fn extend_reply(reply: &[Value]) -> Result<Option<ExtendOutcome>, QuotaUnavailable> {
    match head(reply)? {
        ("added", [tokens]) => Ok(Some(ExtendOutcome::Added(number(tokens)?))),
        ("held", _) => Ok(Some(ExtendOutcome::Blocked)),
        ("exhausted", _) => Ok(Some(ExtendOutcome::Exhausted)),
        ("lost", _) => Ok(None),
        _ => Err(QuotaUnavailable),
    }
}

pub(super) fn settle_reply(reply: &[Value]) -> Result<SettleReply, QuotaUnavailable> {
    let (end, overshoot, watermark) = match head(reply)? {
        ("settled", [overshoot, watermark @ ..]) => {
            (SettleEnd::Settled, number(overshoot)?, watermark)
        }
        ("again", watermark) => (SettleEnd::AlreadySettled, 0, watermark),
        ("alive", _) => {
            return Ok(SettleReply { end: SettleEnd::Alive, overshoot: 0, watermark: None });
        }
        _ => return Err(QuotaUnavailable),
    };
    let [settled, epoch] = watermark else { return Err(QuotaUnavailable) };
    let watermark = Watermark { epoch: text(epoch)?.parse().ok(), number: number(settled)? };
    Ok(SettleReply { end, overshoot, watermark: Some(watermark) })
}

/// Decodes a reply of `lease_state.lua`. `None` if Redis has no such lease.
pub(super) fn lease_state(reply: &[Value]) -> Result<Option<LeaseState<'_>>, QuotaUnavailable> {
    match head(reply)? {
        ("lease", [reserved, observed, charge]) => Ok(Some(LeaseState {
            reserved: number(reserved)?,
            observed: number(observed)?,
            charge: text(charge)?,
        })),
        ("gone", _) => Ok(None),
        _ => Err(QuotaUnavailable),
    }
}

/// Decodes a reply of `day_usage.lua`: for each account its tokens and requests, or `None` if it does not have the day.
pub(super) fn day_usage(reply: &[Value]) -> Result<Vec<Option<(u64, u64)>>, QuotaUnavailable> {
    let of_account = |numbers: &[Value]| match numbers {
        [Value::Int(-1), Value::Int(-1)] => Ok(None),
        [tokens, requests] => Ok(Some((number(tokens)?, number(requests)?))),
        _ => Err(QuotaUnavailable),
    };
    reply.chunks(2).map(of_account).collect()
}

pub(super) fn state(reply: &[Value]) -> Result<PartitionState, QuotaUnavailable> {
    let ("state", [epoch, settled, waiting]) = head(reply)? else { return Err(QuotaUnavailable) };
    let epoch = text(epoch)?.to_owned();
    Ok(PartitionState { epoch, number: number(settled)?, waiting: number(waiting)? })
}

pub(super) fn reset_reply(reply: &[Value]) -> Result<RemovedUsage, QuotaUnavailable> {
    match head(reply)? {
        ("removed", [tokens, requests]) => {
            Ok(RemovedUsage { tokens: number(tokens)?, requests: number(requests)? })
        }
        _ => Err(QuotaUnavailable),
    }
}

/// Returns the first word of a reply.
pub(super) fn word(reply: &[Value]) -> Result<&str, QuotaUnavailable> {
    head(reply).map(|(word, _)| word)
}

pub(super) fn usage_snapshot(numbers: &[Value]) -> Result<UsageSnapshot, QuotaUnavailable> {
    let [u_used, u_reserved, u_requests, k_used, k_reserved, k_requests, streams, left, full_in] =
        numbers
    else {
        return Err(QuotaUnavailable);
    };
    Ok(UsageSnapshot {
        user: tally(u_used, u_reserved, u_requests)?,
        key: tally(k_used, k_reserved, k_requests)?,
        streams_open: number(streams)?,
        // Below zero if the bucket is unused.
        window_left: number(left).ok(),
        window_full_in_ms: number(full_in)?,
    })
}

fn tally(used: &Value, reserved: &Value, requests: &Value) -> Result<DayTally, QuotaUnavailable> {
    Ok(DayTally {
        tokens_used: number(used)?,
        tokens_reserved: number(reserved)?,
        requests_used: number(requests)?,
    })
}

fn head(reply: &[Value]) -> Result<(&str, &[Value]), QuotaUnavailable> {
    let (first, rest) = reply.split_first().ok_or(QuotaUnavailable)?;
    Ok((text(first)?, rest))
}

fn text(value: &Value) -> Result<&str, QuotaUnavailable> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).map_err(|_| QuotaUnavailable),
        Value::SimpleString(text) => Ok(text),
        _ => Err(QuotaUnavailable),
    }
}

fn number(value: &Value) -> Result<u64, QuotaUnavailable> {
    let Value::Int(number) = value else { return Err(QuotaUnavailable) };
    u64::try_from(*number).map_err(|_| QuotaUnavailable)
}
