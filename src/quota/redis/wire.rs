//! Arguments of scripts, and the meaning of their replies.

use crate::quota::counters::{CountersError, DayTally, Extended, Grant, Refused};
use crate::quota::counters::{Removed, Standing};
use crate::quota::rules::{Debit, Scope, What};
use redis::Value;
use std::fmt::Write;
use uuid::Uuid;

/// Lua's numbers are exact below this: no limit is larger.
const LARGEST: u64 = (1 << 53) - 1;

/// The answer to a take.
pub(super) enum TakeReply {
    Granted(Grant),
    Refused(Refused),
    Stale,
    Settled,
    Rebuild,
}

/// The answer to a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SettleReply {
    pub end: SettleEnd,
    pub overshoot: u64,
    /// Not told of a call that goes on.
    pub told: Option<Told>,
}

/// What Redis told when it took a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// `None` = the partition had none.
    pub epoch: Option<Uuid>,
    /// Settlements so far, in the partition.
    pub number: u64,
}

/// How a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Empty where there is none.
    pub epoch: String,
    /// Settlements so far.
    pub number: u64,
    /// Charges that wait for the ledger.
    pub waiting: u64,
}

/// What a settlement came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettleEnd {
    Settled,
    /// It was settled before.
    Again,
    /// Its gateway renewed it after all.
    Alive,
}

/// Debits as `read_debits` of `debits.lua` reads them.
pub(super) fn debits(debits: &[Debit]) -> String {
    let mut text = String::with_capacity(debits.len() * 48);
    for debit in debits {
        let whose = match debit.scope {
            Scope::User(_) => 'u',
            Scope::Key(_) => 'k',
        };
        let _ = match &debit.what {
            What::Window(window) => {
                writeln!(text, "{whose} window {} {}", window.capacity, window.refill_seconds)
            }
            What::Request { day, limit } => {
                writeln!(text, "{whose} request {day} {}", exact(*limit))
            }
            What::Tokens { day, want, least, likely, limit, share } => writeln!(
                text,
                "{whose} tokens {day} {} {} {} {} {}",
                exact(*limit),
                exact(*want),
                exact(*least),
                share.unwrap_or(0),
                exact(*likely)
            ),
            What::Stream { limit } => writeln!(text, "{whose} stream {}", exact(*limit)),
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

/// `None` = Redis has no such lease.
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
    let (end, overshoot, told) = match head(reply)? {
        ("settled", [overshoot, told @ ..]) => (SettleEnd::Settled, number(overshoot)?, told),
        ("again", told) => (SettleEnd::Again, 0, told),
        ("alive", _) => {
            return Ok(SettleReply { end: SettleEnd::Alive, overshoot: 0, told: None });
        }
        _ => return Err(CountersError),
    };
    let [so_far, epoch] = told else { return Err(CountersError) };
    let told = Told { epoch: text(epoch)?.parse().ok(), number: number(so_far)? };
    Ok(SettleReply { end, overshoot, told: Some(told) })
}

pub(super) fn state(reply: &[Value]) -> Result<State, CountersError> {
    let ("state", [epoch, so_far, waiting]) = head(reply)? else { return Err(CountersError) };
    let epoch = text(epoch)?.to_owned();
    Ok(State { epoch, number: number(so_far)?, waiting: number(waiting)? })
}

pub(super) fn reset_reply(reply: &[Value]) -> Result<Removed, CountersError> {
    match head(reply)? {
        ("removed", [tokens, requests]) => {
            Ok(Removed { tokens: number(tokens)?, requests: number(requests)? })
        }
        _ => Err(CountersError),
    }
}

/// The word a script answers with.
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
