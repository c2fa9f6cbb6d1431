//! The policy, pure: who asks for what, when, becomes a list of debits.

use domain::caller::Caller;
use domain::day::Day;
use domain::id::{KeyId, UserId};
use domain::limit::LimitKind;
use domain::plan::Window;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Tokens one call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// The prompt, counted on the safe side.
    pub prompt: u64,
    /// Requested output: a whole response, or a stream's first slice.
    pub output: u64,
    /// Output below which the call is not worth starting.
    pub least_output: u64,
    /// Output that the call is likely to come to in the end.
    pub likely_output: u64,
    pub stream: bool,
    /// Whether the output is reserved slice by slice while it runs.
    pub sliced: bool,
}

/// A slice is at most this part of what is free.
pub const SLICE_SHARE: u64 = 32;

/// One thing to take from one counter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Debit {
    pub scope: Scope,
    #[serde(rename = "what")]
    pub resource: Resource,
}

/// Whose counter a debit draws on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    User(UserId),
    Key(KeyId),
}

/// What a debit takes, with its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Resource {
    /// One request from a token bucket.
    Window(Window),
    /// One request of a day.
    Request { day: Day, limit: u64 },
    /// `least ..= want` tokens of a day; all token debits of a claim get the same amount.
    /// With a `share`, no more than one part in `share` of what is free (but at least `least`):
    /// streams take small slices when little is left, so that many fit side by side.
    ///
    /// `likely` is what the call will probably take in the end, so much of it as is left of the day. It is
    /// admitted only where that fits beside what running calls hold and are likely to take yet.
    Tokens { day: Day, want: u64, least: u64, likely: u64, limit: u64, share: Option<u64> },
    /// One of the streams open at a time.
    Stream { limit: u64 },
}

impl Resource {
    /// The limit that refuses when this debit does not fit.
    #[must_use]
    pub fn kind(&self) -> LimitKind {
        match self {
            Self::Window(_) => LimitKind::Window,
            Self::Request { .. } => LimitKind::RequestsPerDay,
            Self::Tokens { .. } => LimitKind::TokensPerDay,
            Self::Stream { .. } => LimitKind::ConcurrentStreams,
        }
    }
}

/// The debits of one call, and the day it belongs to: the day of admission in the plan's zone.
///
/// Order matters for the refusal a caller sees when several limits are hit: the day first, since
/// waiting a few seconds for the window would not help.
#[must_use]
pub fn debits(caller: &Caller, need: Demand, now: Timestamp) -> (Day, Vec<Debit>) {
    let plan = &caller.plan_limits;
    let day = Day::at(now, &plan.time_zone);
    let user = || Scope::User(caller.user);
    let key = || Scope::Key(caller.key.clone());
    let tokens = |limit| Resource::Tokens {
        day,
        want: need.prompt.saturating_add(need.output),
        least: need.prompt.saturating_add(need.least_output),
        likely: need.prompt.saturating_add(need.likely_output.max(need.least_output)),
        limit,
        share: need.sliced.then_some(SLICE_SHARE),
    };
    let key_requests = caller.key_limits.requests_per_day.unwrap_or(u64::MAX);
    let key_tokens = caller.key_limits.tokens_per_day.unwrap_or(u64::MAX);
    let mut debits = vec![
        Debit { scope: user(), resource: Resource::Request { day, limit: plan.requests_per_day } },
        Debit { scope: key(), resource: Resource::Request { day, limit: key_requests } },
        Debit { scope: user(), resource: tokens(plan.tokens_per_day) },
        Debit { scope: key(), resource: tokens(key_tokens) },
        Debit { scope: user(), resource: Resource::Window(plan.window) },
    ];
    if need.stream {
        let limit = u64::from(plan.concurrent_streams);
        debits.push(Debit { scope: user(), resource: Resource::Stream { limit } });
    }
    (day, debits)
}

#[cfg(test)]
#[path = "tests/rules.rs"]
mod tests;
