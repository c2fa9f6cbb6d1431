//! Refuses callers with no quota left before their body is read.
//!
//! Checks the current counters, for large bodies and for users whose previous call was refused. Other calls pay
//! nothing for it, and no decision is based on stale data.

use crate::gateway::Gateway;
use crate::gateway::response::quota_numbers::QuotaNumbers;
use crate::gateway::response::refusal::{Limited, Refusal};
use crate::gateway::response::rejection::Rejection;
use domain::caller::Caller;
use domain::day::Day;
use domain::id::UserId;
use domain::limit::LimitKind;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use quota::backend::UsageSnapshot;
use wire::surface::Surface;

/// Users whose last refusal is remembered; the least used are forgotten first.
const MAX_USERS: usize = 10_000;

/// Users whose last call was refused because no quota was left.
pub struct ExhaustedUsers(Cache<UserId, ()>);

impl Default for ExhaustedUsers {
    fn default() -> Self {
        Self(Cache::new(MAX_USERS))
    }
}

impl ExhaustedUsers {
    /// Remembers that `user` was refused, if it was for want of quota that no running call will give back.
    pub(crate) fn record(&self, user: UserId, rejection: &Rejection) {
        if let Rejection::Refused { refusal: Refusal::Limited(limited), .. } = rejection
            && !limited.by_open_calls
            && limited.limit != LimitKind::ConcurrentStreams
        {
            self.0.insert(user, ());
        }
    }
}

impl Gateway {
    /// Refuses a call of a user who was refused before and still has nothing left.
    pub(crate) async fn refuse_exhausted(
        &self,
        caller: &Caller,
        surface: Surface,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if self.exhausted_users.0.get(&caller.user).is_none() {
            return Ok(());
        }
        self.refuse_without_quota(caller, surface, now).await?;
        self.exhausted_users.0.remove(&caller.user);
        Ok(())
    }

    /// Refuses a call for which nothing is left, whatever its size. What only admission can know is left to it.
    pub(crate) async fn refuse_without_quota(
        &self,
        caller: &Caller,
        surface: Surface,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let day = Day::at(now, &caller.plan_limits.time_zone);
        let quota = &self.services.quota;
        let snapshot = quota.usage_snapshot(caller.user, Some(&caller.key), day, now).await;
        let snapshot = snapshot.map_err(|_| Refusal::QuotaUnavailable)?;
        let Some(limit) = used_up(caller, surface, &snapshot) else { return Ok(()) };
        // A changed plan applies from the next request on, so a refusal needs the current record.
        if !self.callers.is_current_as_known(caller).await {
            return Ok(());
        }
        let resets_at = day.ends_at(&caller.plan_limits.time_zone);
        let resets_in_ms = resets_at.as_millisecond() - now.as_millisecond();
        let resets_in_ms = u64::try_from(resets_in_ms).unwrap_or(0);
        let retry_after_ms = match limit {
            LimitKind::Window => next_in_window(caller, &snapshot),
            _ => resets_in_ms,
        };
        let numbers = QuotaNumbers::new(caller, &snapshot, None, resets_at, resets_in_ms);
        let numbers = Some(numbers);
        Err(Refusal::Limited(Limited { limit, by_open_calls: false, retry_after_ms, numbers }))
    }
}

/// The limit at which the smallest call would be refused, if there is one. Days come first: waiting for the window
/// would not help.
fn used_up(caller: &Caller, surface: Surface, snapshot: &UsageSnapshot) -> Option<LimitKind> {
    let (plan, key) = (&caller.plan_limits, &caller.key_limits);
    let requests = snapshot.user.requests_used >= plan.requests_per_day
        || key.requests_per_day.is_some_and(|limit| snapshot.key.requests_used >= limit);
    let tokens = snapshot.user.tokens_used >= plan.tokens_per_day
        || key.tokens_per_day.is_some_and(|limit| snapshot.key.tokens_used >= limit);
    // An image may take no tokens, and counting them takes none.
    let needs_tokens = !surface.is_free() && surface != Surface::Images;
    if requests {
        return Some(LimitKind::RequestsPerDay);
    }
    if tokens && needs_tokens {
        return Some(LimitKind::TokensPerDay);
    }
    (snapshot.window_left == Some(0)).then_some(LimitKind::Window)
}

/// Milliseconds until the window has room for one request, at its steady rate.
fn next_in_window(caller: &Caller, snapshot: &UsageSnapshot) -> u64 {
    let window = caller.plan_limits.window;
    let (capacity, refill_ms) =
        (u64::from(window.capacity).max(1), u64::from(window.refill_seconds) * 1000);
    snapshot.window_full_in_ms.saturating_sub(refill_ms * (capacity - 1) / capacity).max(1)
}
