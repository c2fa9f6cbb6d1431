//! What a caller may still use today, pure: the stricter of the plan and its key's own limits.

use super::counters::{DayTally, Standing};
use crate::account::key::KeyLimits;
use crate::account::plan::PlanLimits;

/// One limit of a day, and how far it is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub limit: u64,
    pub used: u64,
    pub reserved: u64,
}

/// What is left of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub tokens: Share,
    pub requests: Share,
    /// Requests of the short window, never more than the plan's of today.
    pub window: u64,
}

impl Share {
    /// What could be had now.
    #[must_use]
    pub fn left(self) -> u64 {
        self.limit.saturating_sub(self.used).saturating_sub(self.reserved)
    }

    /// Whichever has less left: a key's limit is on what that key used, the plan's on all.
    fn stricter(self, other: Option<Self>) -> Self {
        other.filter(|other| other.left() < self.left()).unwrap_or(self)
    }
}

/// What may still be used under the limits of a plan and a key, with `standing`, which is for both.
#[must_use]
pub fn left(plan: &PlanLimits, key: &KeyLimits, standing: &Standing) -> Left {
    let capacity = u64::from(plan.window.capacity);
    let of_key = |limit: Option<u64>, share: fn(u64, &DayTally) -> Share| {
        limit.map(|limit| share(limit, &standing.key))
    };
    Left {
        tokens: tokens(plan.tokens_per_day, &standing.user)
            .stricter(of_key(key.tokens_per_day, tokens)),
        requests: requests(plan.requests_per_day, &standing.user)
            .stricter(of_key(key.requests_per_day, requests)),
        window: standing.window_left.map_or(capacity, |left| left.min(capacity)),
    }
}

fn tokens(limit: u64, tally: &DayTally) -> Share {
    Share { limit, used: tally.tokens_used, reserved: tally.tokens_reserved }
}

fn requests(limit: u64, tally: &DayTally) -> Share {
    Share { limit, used: tally.requests_used, reserved: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_is_the_one_with_less_left() {
        let share = |limit, used| Share { limit, used, reserved: 0 };
        let check = |plan: Share, key: Option<Share>, left| {
            assert_eq!(plan.stricter(key).left(), left, "{plan:?} {key:?}");
        };
        check(share(100, 60), None, 40);
        check(share(100, 60), Some(share(20, 0)), 20);
        check(share(100, 95), Some(share(20, 0)), 5);
        check(share(100, 60), Some(share(20, 30)), 0);
    }
}
