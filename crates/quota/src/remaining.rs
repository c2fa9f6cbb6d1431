//! Remaining quota of a caller today (pure): the stricter of the plan and its key's own limits.

use super::backend::{DayTally, UsageSnapshot};
use domain::key::KeyLimits;
use domain::plan::PlanLimits;

/// A daily limit and its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allotment {
    pub limit: u64,
    pub used: u64,
    pub reserved: u64,
}

/// Remaining tokens and requests of a caller today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    pub tokens: Allotment,
    pub requests: Allotment,
    /// Requests of the short window, never more than the plan's of today.
    pub window: u64,
}

impl Allotment {
    /// Number that can be reserved now.
    #[must_use]
    pub fn remaining(self) -> u64 {
        self.limit.saturating_sub(self.used).saturating_sub(self.reserved)
    }

    /// Returns the one with less remaining: a key's limit is on what that key used, the plan's on all.
    fn stricter(self, other: Option<Self>) -> Self {
        other.filter(|other| other.remaining() < self.remaining()).unwrap_or(self)
    }
}

/// Returns what remains under the limits of a plan and a key, given the usage in `snapshot`.
#[must_use]
pub fn remaining(plan: &PlanLimits, key: &KeyLimits, snapshot: &UsageSnapshot) -> Remaining {
    let capacity = u64::from(plan.window.capacity);
    let of_key = |limit: Option<u64>, allotment: fn(u64, &DayTally) -> Allotment| {
        limit.map(|limit| allotment(limit, &snapshot.key))
    };
    Remaining {
        tokens: tokens(plan.tokens_per_day, &snapshot.user)
            .stricter(of_key(key.tokens_per_day, tokens)),
        requests: requests(plan.requests_per_day, &snapshot.user)
            .stricter(of_key(key.requests_per_day, requests)),
        window: snapshot.window_left.map_or(capacity, |left| left.min(capacity)),
    }
}

fn tokens(limit: u64, tally: &DayTally) -> Allotment {
    Allotment { limit, used: tally.tokens_used, reserved: tally.tokens_reserved }
}

fn requests(limit: u64, tally: &DayTally) -> Allotment {
    Allotment { limit, used: tally.requests_used, reserved: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_is_the_one_with_less_left() {
        let allotment = |limit, used| Allotment { limit, used, reserved: 0 };
        let check = |plan: Allotment, key: Option<Allotment>, expected| {
            assert_eq!(plan.stricter(key).remaining(), expected, "{plan:?} {key:?}");
        };
        check(allotment(100, 60), None, 40);
        check(allotment(100, 60), Some(allotment(20, 0)), 20);
        check(allotment(100, 95), Some(allotment(20, 0)), 5);
        check(allotment(100, 60), Some(allotment(20, 30)), 0);
    }
}
