//! Counts prompts exactly, where the quota is near. A long prompt takes a processor for a noticeable time, so
//! it is counted no further than it can fit, and no more than a few are counted at once.

use crate::gateway::call::reserve::{NotAdmitted, ReservationRequest, not_admitted};
use crate::gateway::response::refusal::Refusal;
use crate::upstream::catalog::Model;
use crate::upstream::concurrency::{FairLimiter, Permit};
use domain::caller::Caller;
use domain::day::Day;
use domain::id::UserId;
use domain::limit::LimitKind;
use jiff::Timestamp;
use quota::backend::{QuotaBackend, QuotaRefusal, UsageSnapshot};
use quota::remaining::remaining;
use quota::rules::Scope;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use wire::request::Request;
use wire::tokens::estimate;

/// For a prompt of fewer tokens than this, counting is cheaper than reading the quota.
const MIN_TOKENS_TO_CHECK_QUOTA: u64 = 64;
/// Long prompts that may wait to be counted.
const MAX_QUEUE_LENGTH: usize = 256;
/// Bytes of text from which counting would delay other calls on the same thread.
const LONG_PROMPT_BYTES: u64 = 128 * 1024;

/// The tokens of the day that are left for a long prompt.
pub(crate) struct Room {
    pub snapshot: UsageSnapshot,
    /// Tokens that could be had if no call in flight used any.
    pub most: u64,
}

/// Reads what is left for a long prompt, and refuses one that cannot fit. Counting it first, or beyond what
/// fits, would let a caller who has used up a small plan spend our time for nothing. `None` = it is short.
pub(crate) async fn room(
    admission: &ReservationRequest<'_>,
    caller: &Caller,
    quota: &dyn QuotaBackend,
) -> Result<Option<Room>, NotAdmitted> {
    let fewest = estimate::min_prompt_tokens(admission.body);
    if fewest < MIN_TOKENS_TO_CHECK_QUOTA {
        return Ok(None);
    }
    let day = Day::at(admission.now, &caller.plan_limits.time_zone);
    let snapshot = quota.usage_snapshot(caller.user, Some(&caller.key), day, admission.now).await;
    let snapshot = snapshot.map_err(|_| Refusal::QuotaUnavailable)?;
    let tokens = remaining(&caller.plan_limits, &caller.key_limits, &snapshot).tokens;
    let most = tokens.limit.saturating_sub(tokens.used);
    if fewest <= tokens.remaining() {
        return Ok(Some(Room { snapshot, most }));
    }
    let by_open_calls = fewest <= most;
    Err(no_tokens(caller, by_open_calls, snapshot, admission.now))
}

/// The refusal of a prompt that was counted as far as the day's tokens go.
pub(crate) fn does_not_fit(
    caller: &Caller,
    snapshot: Option<UsageSnapshot>,
    now: Timestamp,
) -> NotAdmitted {
    no_tokens(caller, false, snapshot.unwrap_or_default(), now)
}

fn no_tokens(
    caller: &Caller,
    by_open_calls: bool,
    snapshot: UsageSnapshot,
    now: Timestamp,
) -> NotAdmitted {
    let limit = LimitKind::TokensPerDay;
    let scope = Scope::User(caller.user);
    let day = Day::at(now, &caller.plan_limits.time_zone);
    let refused = QuotaRefusal { limit, by_open_calls, scope, retry_after_ms: 0, snapshot };
    not_admitted(refused, caller, day, now, None)
}

impl ReservationRequest<'_> {
    /// Counts the prompt; `None` above `most`.
    pub(crate) async fn count(&self, caller: &Caller, most: u64) -> Result<Option<u64>, Refusal> {
        within(self.body, self.model, most, (self.counting, caller.user)).await
    }
}

/// Counts a prompt; `None` above `most`. Long ones take turns, which are fair to users.
///
/// # Errors
/// As [`CountingTurns::turn`].
pub(crate) async fn within(
    request: &Request<'_>,
    model: &Model,
    most: u64,
    (turns, user): (&CountingTurns, UserId),
) -> Result<Option<u64>, Refusal> {
    let count = || estimate::count_prompt_within(request, model.prompt_overhead_tokens, most);
    if request.prompt.size.text_bytes <= LONG_PROMPT_BYTES {
        return Ok(count());
    }
    let _turn = turns.turn(user).await?;
    Ok(tokio::task::block_in_place(count))
}

/// The prompt counted exactly. A long one would delay other calls on this thread, so it is
/// counted where threads may block.
pub(crate) fn exact_prompt(request: &Request<'_>, model: &Model) -> u64 {
    let count = || estimate::count_prompt(request, model.prompt_overhead_tokens);
    if request.prompt.size.text_bytes > LONG_PROMPT_BYTES {
        tokio::task::block_in_place(count)
    } else {
        count()
    }
}

/// Turns for counting long prompts: on half of the processors, so that counting never takes all.
pub struct CountingTurns {
    limiter: Arc<FairLimiter>,
    /// Cancelled when calls have to end.
    stop: CancellationToken,
}

impl CountingTurns {
    /// Turns until `stop` is cancelled.
    #[must_use]
    pub fn until(stop: CancellationToken) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let permits = u32::try_from(processors / 2).unwrap_or(u32::MAX).max(1);
        Self { limiter: FairLimiter::new(permits, MAX_QUEUE_LENGTH), stop }
    }

    /// A turn for counting a long prompt, fair to users.
    ///
    /// # Errors
    /// [`Refusal::CountingBusy`] if too many long prompts wait, [`Refusal::ShuttingDown`] if calls have to end.
    pub(crate) async fn turn(&self, user: UserId) -> Result<Permit, Refusal> {
        if let Some(permit) = self.limiter.try_acquire() {
            return Ok(permit);
        }
        let queued = self.limiter.enqueue(user).ok_or(Refusal::CountingBusy)?;
        let permit = self.stop.run_until_cancelled(queued.permit()).await;
        permit.ok_or(Refusal::ShuttingDown)?.ok_or(Refusal::CountingBusy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test]
    async fn waiting_ends_when_calls_have_to_end() {
        let stop = CancellationToken::new();
        let turns = CountingTurns::until(stop.clone());
        let user = UserId::new();
        let mut taken = Vec::new();
        while turns.limiter.has_free() {
            taken.push(turns.turn(user).await.expect("a free turn"));
        }
        let mut waiting = pin!(turns.turn(user));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        stop.cancel();
        assert!(matches!(waiting.await, Err(Refusal::ShuttingDown)));
    }
}
