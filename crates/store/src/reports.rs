//! Reports for dashboards: sums from the rollups, pages of the ledger by index. Nothing here scans the ledger.

use super::StoreError;
use async_trait::async_trait;
use domain::charge::{Adjustment, Charge, Status};
use domain::day::Day;
use domain::id::{KeyId, PlanId, RequestId, UserId};
use domain::user::{User, UserStatus};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::iter::Sum;

/// Reading usage. Days are inclusive on both ends.
#[async_trait]
pub trait Reports: Send + Sync + 'static {
    /// A user's sums by day, the earliest first; days without a call are left out.
    async fn usage_by_day(
        &self,
        user: UserId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(Day, Sums)>, StoreError>;

    /// A user's sums by model, the most tokens first.
    async fn usage_by_model(
        &self,
        user: UserId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(String, Sums)>, StoreError>;

    /// A user's sums of a day by quarter of an hour and model, the earliest first, each with the time at which
    /// the quarter begins. Days older than
    /// [`QUARTERS_KEPT`] may have none.
    async fn usage_by_quarter_hour(
        &self,
        user: UserId,
        day: Day,
    ) -> Result<Vec<(Timestamp, String, Sums)>, StoreError>;

    /// The distribution of the durations of a user's calls.
    async fn latency(&self, user: UserId, from: Day, to: Day) -> Result<Latency, StoreError>;

    /// At most `limit` of a user's ledger rows before `before`, the newest first, by time of admission
    /// and then by request.
    async fn history(
        &self,
        user: UserId,
        filter: &HistoryFilter,
        before: Option<(Timestamp, RequestId)>,
        limit: u32,
    ) -> Result<Vec<Charge>, StoreError>;

    /// A call; `user` narrows it to that user's calls. Finding one of a known day reads that day alone.
    async fn call(
        &self,
        request: RequestId,
        user: Option<UserId>,
    ) -> Result<Option<Charge>, StoreError>;

    /// The adjustments of a user's key on a day, the earliest first.
    async fn adjustments(
        &self,
        user: UserId,
        key: &KeyId,
        day: Day,
    ) -> Result<Vec<Adjustment>, StoreError>;

    /// The time at which each key was last used: of its last admitted call, or at most a minute before.
    async fn last_used(&self, user: UserId) -> Result<Vec<(KeyId, Timestamp)>, StoreError>;

    /// Number of users, by plan and status.
    async fn user_counts(&self) -> Result<Vec<(PlanId, UserStatus, u64)>, StoreError>;

    /// Sums over all users by their current plan, with the number of users who used anything.
    async fn totals_by_plan(
        &self,
        from: Day,
        to: Day,
    ) -> Result<Vec<(PlanId, u64, Sums)>, StoreError>;

    /// Sums over all users by model, the most tokens first.
    async fn totals_by_model(&self, from: Day, to: Day) -> Result<Vec<(String, Sums)>, StoreError>;

    /// At most `limit` sums of the users who used anything, in the order of users and then of models.
    async fn usage_of_users(
        &self,
        period: (Day, Day),
        grouping: Grouping,
        after: Option<&UsagePosition>,
        limit: u32,
    ) -> Result<Vec<UserUsage>, StoreError>;

    /// Sums over all users by day, the earliest first; days without a call are left out.
    async fn totals_by_day(&self, from: Day, to: Day) -> Result<Vec<DayTotals>, StoreError>;

    /// The users who used the most, in order; users who used nothing are left out.
    async fn top_users(
        &self,
        from: Day,
        to: Day,
        by: TopBy,
        limit: u32,
    ) -> Result<Vec<(User, Sums)>, StoreError>;

    /// At most `limit` active users who have used `percent` or more of their tokens or requests of `day`, the
    /// nearest to a limit first.
    async fn near_limits(
        &self,
        day: Day,
        percent: u32,
        limit: u32,
    ) -> Result<Vec<NearLimit>, StoreError>;
}

/// Days for which quarters of an hour are kept at least.
pub const QUARTERS_KEPT: i64 = 7;

/// Sums over a set of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Calls that count against requests per day.
    pub requests: u64,
    /// Number of admitted calls.
    pub calls: u64,
    /// Calls that the upstream failed or cut.
    pub failed: u64,
    pub prompt: u64,
    pub cached: u64,
    pub completion: u64,
    pub reasoning: u64,
    pub cost_micro_dollars: i64,
}

impl<'a> Sum<&'a Sums> for Sums {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            requests: sum.requests + one.requests,
            calls: sum.calls + one.calls,
            failed: sum.failed + one.failed,
            prompt: sum.prompt + one.prompt,
            cached: sum.cached + one.cached,
            completion: sum.completion + one.completion,
            reasoning: sum.reasoning + one.reasoning,
            cost_micro_dollars: sum.cost_micro_dollars + one.cost_micro_dollars,
        })
    }
}

impl Sums {
    /// All tokens, whatever the plans count of those that are cached.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.prompt.saturating_add(self.completion).saturating_add(self.reasoning)
    }
}

/// Upper bounds of the buckets of call durations, in milliseconds; a last bucket has longer calls. The rollup has
/// a column for each.
pub const LATENCY_BOUNDS: [u32; 11] =
    [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000];

/// Number of calls by duration, from admission to end, in the buckets of [`LATENCY_BOUNDS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency(pub [u64; LATENCY_BOUNDS.len() + 1]);

impl Latency {
    /// The estimated duration in milliseconds that `share` (0 to 1) of the calls did not exceed, assuming an even
    /// distribution within a bucket. `None` without calls.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of small numbers")]
    pub fn quantile(&self, share: f64) -> Option<u32> {
        let calls: u64 = self.0.iter().sum();
        if calls == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * calls as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (place, count) in self.0.iter().enumerate() {
            let upper = LATENCY_BOUNDS.get(place).copied().map_or(lower, f64::from);
            let inside = *count as f64;
            if *count > 0 && below + inside >= wanted {
                return Some((lower + (upper - lower) * (wanted - below) / inside).round() as u32);
            }
            (below, lower) = (below + inside, upper);
        }
        LATENCY_BOUNDS.last().copied()
    }
}

impl<'a> Sum<&'a Latency> for Latency {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum.0.iter_mut().zip(one.0).for_each(|(count, more)| *count += more);
        }
        sum
    }
}

/// What all users used on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayTotals {
    pub day: Day,
    pub sums: Sums,
    /// The durations of the day's calls.
    pub latency: Latency,
}

/// A filter for ledger rows; `None` = any.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    pub from: Option<Day>,
    pub to: Option<Day>,
    pub model: Option<String>,
    pub status: Option<Status>,
    pub key: Option<KeyId>,
    /// The gateway's id of a request (`req_…`), or the one that its client sent.
    pub request: Option<String>,
}

impl HistoryFilter {
    /// True if the row passes, whatever its request.
    pub(super) fn passes(&self, row: &Charge) -> bool {
        self.from.is_none_or(|from| row.day >= from)
            && self.to.is_none_or(|to| row.day <= to)
            && self.model.as_deref().is_none_or(|model| *row.model == *model)
            && self.status.is_none_or(|status| row.status == status)
            && self.key.as_ref().is_none_or(|key| row.key == *key)
    }
}

/// What a row of [`Reports::usage_of_users`] adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// The calls of a user.
    User,
    /// The calls of a user with a model.
    UserAndModel,
}

/// The sums of one user, or of one user and model.
#[derive(Debug, Clone, PartialEq)]
pub struct UserUsage {
    pub user: UserId,
    /// The account; `None` if it was deleted since.
    pub account: Option<User>,
    /// `None` for all models.
    pub model: Option<String>,
    pub sums: Sums,
}

/// The position of a row in [`Reports::usage_of_users`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePosition {
    pub user: UserId,
    pub model: Option<String>,
}

impl UserUsage {
    /// The position of this row.
    #[must_use]
    pub fn position(&self) -> UsagePosition {
        UsagePosition { user: self.user, model: self.model.clone() }
    }
}

/// A user with what was used of the limits of a day.
#[derive(Debug, Clone, PartialEq)]
pub struct NearLimit {
    pub user: User,
    pub tokens: UsedShare,
    pub requests: UsedShare,
}

/// The part of a limit that was used; the limit is the user's own, or the plan's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedShare {
    pub used: u64,
    pub limit: u64,
}

impl UsedShare {
    /// The used part in percent, rounded down; 0 of a limit of 0.
    #[must_use]
    pub fn percent(self) -> u64 {
        self.used.saturating_mul(100).checked_div(self.limit).unwrap_or(0)
    }
}

/// The sum that users are ranked by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopBy {
    #[default]
    Tokens,
    Requests,
    Cost,
}

impl TopBy {
    /// The word in an address.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::Cost => "cost",
        }
    }
}

/// More than the offset of any time zone from UTC.
const FURTHEST_MS: i64 = 26 * 60 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// No call of `day` was admitted before this time, in milliseconds since 1970.
pub(super) fn admitted_from(day: Day) -> i64 {
    admitted_until(day) - FURTHEST_MS - DAY_MS - FURTHEST_MS
}

/// All calls of `day` were admitted before this time, in milliseconds since 1970.
pub(super) fn admitted_until(day: Day) -> i64 {
    day.ends_at(&TimeZone::UTC).as_millisecond() + FURTHEST_MS
}

/// No call admitted before `at` has a later day.
pub(super) fn last_day(at: Timestamp) -> Day {
    let latest = Timestamp::from_millisecond(at.as_millisecond() + FURTHEST_MS);
    Day::at(latest.unwrap_or(Timestamp::MAX), &TimeZone::UTC)
}

/// The days on which the call with this id may be charged: its id holds the time of its arrival. `None` if the
/// id holds no time.
pub(super) fn days_of(request: RequestId) -> Option<(Day, Day)> {
    // A UUIDv7 begins with the milliseconds since 1970.
    let at = i64::try_from(request.0.as_u128() >> 80).ok();
    let at = at.filter(|_| request.0.get_version_num() == 7)?;
    let day = |ms: i64| Some(Day::at(Timestamp::from_millisecond(ms).ok()?, &TimeZone::UTC));
    Some((day(at - FURTHEST_MS)?, day(at + FURTHEST_MS + DAY_MS)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_says_its_days() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let id = |millis: u128| RequestId(uuid::Uuid::from_u128(millis << 80 | 7 << 76 | 1));
        // 2026-01-02T00:00:00Z
        let days = days_of(id(1_767_312_000_000));
        assert_eq!(days, Some((day("2025-12-31"), day("2026-01-04"))));
        assert_eq!(days_of(id((1 << 48) - 1)), None, "after the last day");
        assert_eq!(days_of(RequestId(uuid::Uuid::nil())), None);
        let now = RequestId::new();
        let today = Day::at(system::clock::now(), &TimeZone::UTC);
        assert!(days_of(now).is_some_and(|(from, to)| (from..=to).contains(&today)));
    }

    fn of(counts: &[(usize, u64)]) -> Latency {
        let mut latency = Latency::default();
        for (place, count) in counts {
            latency.0[*place] = *count;
        }
        latency
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        assert_eq!(Latency::default().quantile(0.5), None);
        assert_eq!(of(&[(2, 10)]).quantile(0.5), Some(175));
        assert_eq!(of(&[(0, 95), (4, 5)]).quantile(0.95), Some(50));
        assert_eq!(of(&[(0, 95), (4, 5)]).quantile(0.96), Some(600));
        assert_eq!(of(&[(11, 1)]).quantile(0.5), Some(300_000));
        assert_eq!(of(&[(3, 4)]).quantile(1.0), Some(500));
        let sum: Latency = [of(&[(0, 95)]), of(&[(4, 5)])].iter().sum();
        assert_eq!(sum, of(&[(0, 95), (4, 5)]));
    }
}
