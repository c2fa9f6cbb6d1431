//! The policy, pure: turns a caller, its demand and the time into a list of debits.

use domain::caller::Caller;
use domain::day::Day;
use domain::id::{KeyId, UserId};
use domain::limit::LimitKind;
use domain::plan::Window;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Tokens requested by one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Prompt tokens, an upper estimate.
    pub prompt: u64,
    /// Requested output: a whole response, or a stream's first slice.
    pub output: u64,
    /// Minimum output: with less the call is not admitted.
    pub least_output: u64,
    /// Output that the call is expected to use by its end.
    pub likely_output: u64,
    pub stream: bool,
    /// True if the output is reserved in slices while the call runs.
    pub sliced: bool,
}

/// A slice is at most one part in this many of the free tokens.
pub const SLICE_SHARE: u64 = 32;

/// A resource to take from one account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Debit {
    pub scope: Scope,
    #[serde(rename = "what")]
    pub resource: Resource,
}

/// The account that a debit takes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    User(UserId),
    Key(KeyId),
}

/// The resource that a debit takes, with its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Resource {
    /// One request from a token bucket.
    Window(Window),
    /// One request of a day.
    Request { day: Day, limit: u64 },
    /// `least ..= want` tokens of a day; all token debits of a claim get the same amount.
    /// With a `share`, no more than one part in `share` of the free tokens (but at least `least`):
    /// streams take small slices when little is left, so that many can run concurrently.
    ///
    /// `likely` is the number of tokens that the call is expected to use, capped by what is left of the day. The
    /// call is admitted only if they fit beside those that running calls have reserved and are expected to use.
    Tokens { day: Day, want: u64, least: u64, likely: u64, limit: u64, share: Option<u64> },
    /// One of the streams open at a time.
    Stream { limit: u64 },
}

impl Resource {
    /// The limit that is reported if this debit does not fit.
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

/// Returns the debits of one call, and its day: the day of admission in the plan's time zone.
///
/// Their order determines the refusal when several limits are reached: the day comes first, since waiting a few
/// seconds for the window would not help.
#[must_use]
pub fn debits(caller: &Caller, demand: Demand, now: Timestamp) -> (Day, Vec<Debit>) {
    let plan = &caller.plan_limits;
    let day = Day::at(now, &plan.time_zone);
    let user = || Scope::User(caller.user);
    let key = || Scope::Key(caller.key.clone());
    let tokens = |limit| Resource::Tokens {
        day,
        want: demand.prompt.saturating_add(demand.output),
        least: demand.prompt.saturating_add(demand.least_output),
        likely: demand.prompt.saturating_add(demand.likely_output.max(demand.least_output)),
        limit,
        share: demand.sliced.then_some(SLICE_SHARE),
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
    if demand.stream {
        let limit = u64::from(plan.concurrent_streams);
        debits.push(Debit { scope: user(), resource: Resource::Stream { limit } });
    }
    (day, debits)
}

#[cfg(test)]
mod tests;
