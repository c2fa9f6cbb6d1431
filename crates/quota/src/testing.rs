//! Callers, claims and random demands for tests of every back end.

use crate::backend::{Claim, ObservedTokens, Reset};
use crate::rules::{self, Demand};
use domain::caller::Caller;
use domain::charge::{Charge, Lease, TokenCount};
use domain::day::Day;
use domain::id::{RequestId, UserId};
use domain::key::KeyLimits;
use domain::plan::Window;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::ops::Range;

/// Users of a random history.
pub const USERS: usize = 2;
/// Keys of each of its users.
pub const KEYS: usize = 2;
/// 2026-03-28, a day before clocks change in Berlin, where the second user's days begin; milliseconds since 1970.
pub const BEGINNING: i64 = 1_774_656_000_000;

/// A key of a user: the first key has limits of its own, and the second user's days are those of Berlin.
pub fn caller(id: UserId, user: usize, key: usize) -> Caller {
    let mut caller = domain::testing::caller(id, &format!("{}-{key}", id.0.simple()));
    if key == 0 {
        let (tokens_per_day, requests_per_day) = (Some(300), Some(5));
        caller.key_limits = KeyLimits { tokens_per_day, requests_per_day, models: None };
    }
    if user > 0 {
        caller.plan_limits.time_zone = TimeZone::get("Europe/Berlin").expect("a time zone");
    }
    caller
}

/// The claim of a new call.
pub fn claim(caller: &Caller, demand: Demand, now: Timestamp) -> Claim {
    let (day, debits) = rules::debits(caller, demand, now);
    let lease = domain::testing::lease(caller.user, caller.key.as_str(), day, now);
    let lease = Lease { version: caller.version, ..lease };
    Claim { lease, debits, observed: ObservedTokens::default() }
}

/// The charge of a call that has used these tokens; one that is not counted is no request. Beside them it has cached
/// tokens that are not counted: a random number, since ids of requests are random.
pub fn charge(lease: &Lease, used: u64, counted: bool) -> Charge {
    let [.., random] = *lease.request.0.as_bytes();
    let uncounted = u64::from(random % 128);
    let (prompt, completion) = (uncounted + used / 2, used - used / 2);
    let tokens = TokenCount { prompt, cached: prompt, completion, reasoning: 0 };
    Charge { counted, uncounted, ..domain::testing::charge(lease, tokens) }
}

/// A reset of the current day of a user with these callers.
pub fn reset(callers: &[Caller], now: Timestamp) -> Reset {
    Reset {
        id: RequestId::new(),
        user: callers[0].user,
        keys: callers.iter().map(|caller| caller.key.clone()).collect(),
        day: Day::at(now, &callers[0].plan_limits.time_zone),
        at: now,
        by: "operator".to_owned(),
    }
}

/// Any demand of a call.
pub fn any_demand() -> impl Strategy<Value = Demand> {
    (1..60_u64, 0..200_u64, 0..4_u64, 0..400_u64, any::<bool>(), any::<bool>()).prop_map(
        |(prompt, output, least, likely_output, stream, sliced)| Demand {
            prompt,
            output,
            least_output: least.min(output),
            likely_output,
            stream,
            sliced: sliced && stream,
        },
    )
}

/// Any window of a plan; refilled in so many seconds.
pub fn any_window(refill_seconds: Range<u32>) -> impl Strategy<Value = Window> {
    (0..6_u32, refill_seconds)
        .prop_map(|(capacity, refill_seconds)| Window { capacity, refill_seconds })
}
