//! Encodes the arguments of scripts and decodes their replies.

use crate::counters::{CountersError, DayTally, Extended, Grant, Refused};
use crate::counters::{Removed, Standing};
use crate::rules::{Debit, Scope, What};
use redis::Value;
use std::fmt::Write;
use uuid::Uuid;

/// Largest number sent to Redis: Lua's numbers are exact up to this.
const LARGEST: u64 = (1 << 53) - 1;

/// Reply of `take.lua`.
pub(super) enum TakeReply {
    Granted(Grant),
    Refused(Refused),
    Stale,
    Settled,
    Rebuild,
}

/// Reply of `settle.lua`.
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

/// Reply of `partition_state.lua`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionState {
    /// Empty if the partition has none.
    pub epoch: String,
    /// Number of settlements so far.
    pub number: u64,
    /// Number of charges that wait for the ledger.
    pub waiting: u64,
}

/// Outcome of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettleEnd {
    Settled,
    /// An earlier attempt settled the call.
    AlreadySettled,
    /// The lease was renewed, so the call is not over.
    Alive,
}

/// Encodes debits for `read_debits` of `debits.lua`.
pub(super) fn debits(debits: &[Debit]) -> String {
    let mut text = String::with_capacity(debits.len() * 48);
    for debit in debits {
        let owner = match debit.scope {
            Scope::User(_) => 'u',
            Scope::Key(_) => 'k',
        };
        let _ = match &debit.what {
            What::Window(window) => {
                writeln!(text, "{owner} window {} {}", window.capacity, window.refill_seconds)
            }
            What::Request { day, limit } => {
                writeln!(text, "{owner} request {day} {}", exact(*limit))
            }
            What::Tokens { day, want, least, likely, limit, share } => writeln!(
                text,
                "{owner} tokens {day} {} {} {} {} {}",
                exact(*limit),
                exact(*want),
                exact(*least),
                share.unwrap_or(0),
                exact(*likely)
            ),
            What::Stream { limit } => writeln!(text, "{owner} stream {}", exact(*limit)),
        };
    }
    text
}

pub(super) fn exact(number: u64) -> u64 {
    number.min(LARGEST)
}

pub(super) fn take_reply(reply: &[Value], asked: &[Debit]) -> Result<TakeReply, CountersError> {
    let (word, rest) = head(reply)?;
    match (word, rest) {
        ("granted", [tokens, free, numbers @ ..]) => Ok(TakeReply::Granted(Grant {
            tokens: number(tokens)?,
            free: number(free)?,
            standing: standing(numbers)?,
        })),
        ("refused", [place, by_open_calls, retry, numbers @ ..]) => {
            let place = usize::try_from(number(place)?).map_err(|_| CountersError)?;
            let debit = asked.get(place.wrapping_sub(1)).ok_or(CountersError)?;
            Ok(TakeReply::Refused(Refused {
                limit: debit.what.kind(),
                by_open_calls: number(by_open_calls)? == 1,
                scope: debit.scope.clone(),
                retry_after_ms: number(retry)?,
                standing: standing(numbers)?,
            }))
        }
        ("stale", _) => Ok(TakeReply::Stale),
        ("settled", _) => Ok(TakeReply::Settled),
        ("rebuild", _) => Ok(TakeReply::Rebuild),
        _ => Err(CountersError),
    }
}

/// Decodes a reply of `extend.lua`. `None` if Redis has no such lease.
pub(super) fn extend_reply(reply: &[Value]) -> Result<Option<Extended>, CountersError> {
    match head(reply)? {
        ("added", [tokens]) => Ok(Some(Extended::Added(number(tokens)?))),
        ("held", _) => Ok(Some(Extended::Held)),
        ("exhausted", _) => Ok(Some(Extended::Exhausted)),
        ("lost", _) => Ok(None),
        _ => Err(CountersError),
    }
}

pub(super) fn settle_reply(reply: &[Value]) -> Result<SettleReply, CountersError> {
    let (end, overshoot, watermark) = match head(reply)? {
        ("settled", [overshoot, watermark @ ..]) => {
            (SettleEnd::Settled, number(overshoot)?, watermark)
        }
        ("again", watermark) => (SettleEnd::AlreadySettled, 0, watermark),
        ("alive", _) => {
            return Ok(SettleReply { end: SettleEnd::Alive, overshoot: 0, watermark: None });
        }
        _ => return Err(CountersError),
    };
    let [so_far, epoch] = watermark else { return Err(CountersError) };
    let watermark = Watermark { epoch: text(epoch)?.parse().ok(), number: number(so_far)? };
    Ok(SettleReply { end, overshoot, watermark: Some(watermark) })
}

pub(super) fn state(reply: &[Value]) -> Result<PartitionState, CountersError> {
    let ("state", [epoch, so_far, waiting]) = head(reply)? else { return Err(CountersError) };
    let epoch = text(epoch)?.to_owned();
    Ok(PartitionState { epoch, number: number(so_far)?, waiting: number(waiting)? })
}

pub(super) fn reset_reply(reply: &[Value]) -> Result<Removed, CountersError> {
    match head(reply)? {
        ("removed", [tokens, requests]) => {
            Ok(Removed { tokens: number(tokens)?, requests: number(requests)? })
        }
        _ => Err(CountersError),
    }
}

/// Returns the first word of a reply.
pub(super) fn word(reply: &[Value]) -> Result<&str, CountersError> {
    head(reply).map(|(word, _)| word)
}

pub(super) fn standing(numbers: &[Value]) -> Result<Standing, CountersError> {
    let [u_used, u_reserved, u_requests, k_used, k_reserved, k_requests, streams, left, full_in] =
        numbers
    else {
        return Err(CountersError);
    };
    Ok(Standing {
        user: tally(u_used, u_reserved, u_requests)?,
        key: tally(k_used, k_reserved, k_requests)?,
        streams_open: number(streams)?,
        // Below zero: the bucket was never touched.
        window_left: number(left).ok(),
        window_full_in_ms: number(full_in)?,
    })
}

fn tally(used: &Value, reserved: &Value, requests: &Value) -> Result<DayTally, CountersError> {
    Ok(DayTally {
        tokens_used: number(used)?,
        tokens_reserved: number(reserved)?,
        requests_used: number(requests)?,
    })
}

fn head(reply: &[Value]) -> Result<(&str, &[Value]), CountersError> {
    let (first, rest) = reply.split_first().ok_or(CountersError)?;
    Ok((text(first)?, rest))
}

fn text(value: &Value) -> Result<&str, CountersError> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).map_err(|_| CountersError),
        Value::SimpleString(text) => Ok(text),
        _ => Err(CountersError),
    }
}

fn number(value: &Value) -> Result<u64, CountersError> {
    let Value::Int(number) = value else { return Err(CountersError) };
    u64::try_from(*number).map_err(|_| CountersError)
}
