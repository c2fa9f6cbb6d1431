//! An admitted call: what it has reserved, and its one way to be settled.

use crate::gateway::call::finish_on_drop::FinishOnDrop;
use crate::gateway::call::length_estimate::Length;
use crate::gateway::call::prompt_count::exact_prompt;
use crate::gateway::call::reasoning_estimate::{BilledUsage, HiddenKinds};
use crate::gateway::call::services::CallServices;
use crate::gateway::call::settle::Settlement;
use crate::gateway::response::budget::Budget;
use crate::response_owners::RESPONSE_LIFETIME;
use crate::upstream::catalog::Model;
use domain::caller::Caller;
use domain::charge::{Charge, Source, Status, TokenCount};
use domain::day::Day;
use domain::id::RequestId;
use domain::stored_response::StoredResponse;
use jiff::Timestamp;
use quota::backend::{ObservedTokens, QuotaBackend, UsageSnapshot};
use std::sync::Arc;
use std::time::{Duration, Instant};
use system::clock;
use tokio_util::task::TaskTracker;
use wire::request::Request;

/// How long the end of a response waits for its charge to be durable. After that the response ends anyway: the charge stays in
/// memory and is written when the disk works again. If the response's own task writes the journal,
/// it waits for that write.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(2);

/// An admitted call. It is consumed by [`Reservation::settle`]; if it is dropped instead, it charges all that it
/// reserved.
pub struct Reservation {
    pub request: RequestId,
    /// The caller's own id of the request.
    pub client_request_id: Option<Arc<str>>,
    pub caller: Arc<Caller>,
    pub model: Arc<Model>,
    pub day: Day,
    pub admitted_at: Timestamp,
    /// When admission began, for durations.
    pub started: Instant,
    /// The time that it spent in the admission queue.
    pub waited: Duration,
    /// Prompt tokens as reserved: counted, or a ceiling.
    pub prompt: u64,
    /// The same, if it is counted.
    pub counted_prompt: Option<u64>,
    /// Tokens reserved in all, prompt included.
    pub reserved: u64,
    pub observed: ObservedTokens,
    /// The output limit to send upstream, per choice; `None` leaves the caller's in force.
    pub output_limit: Option<u64>,
    /// Output tokens, of all choices, at which the upstream was to stop.
    pub max_output_tokens: u64,
    pub choices: u64,
    /// Token kinds that its upstream bills and the response does not show.
    pub kinds: HiddenKinds,
    /// Tokens that it was to reserve for that; less where less was left.
    pub hidden: u64,
    /// True if `output_limit` is below the requested one.
    pub clamped: bool,
    pub sliced: bool,
    pub snapshot: UsageSnapshot,
    pub(crate) services: Arc<CallServices>,
    pub(crate) settled: bool,
}

impl Reservation {
    /// The caller's remaining budget.
    #[must_use]
    pub fn budget(&self) -> Budget {
        Budget::of(&self.caller, self.snapshot, self.day, self.admitted_at)
    }

    /// The tokens of `request`'s prompt, counted unless they have been.
    #[must_use]
    pub fn exact_prompt(&self, request: &Request<'_>) -> u64 {
        self.counted_prompt.unwrap_or_else(|| exact_prompt(request, &self.model))
    }

    /// The record of this call's response, which the upstream stores.
    #[must_use]
    pub fn stored_response(&self, id: &str, upstream: &str, tokens: u64) -> StoredResponse {
        StoredResponse {
            id: id.to_owned(),
            user: self.caller.user,
            upstream: upstream.to_owned(),
            model: self.model.id.to_string(),
            tokens,
            unsettled: Some(self.request),
            cached_token_fraction: self.caller.plan_limits.cached_token_fraction,
            expires_at: self.admitted_at + RESPONSE_LIFETIME,
        }
    }

    /// The tokens of `settlement` that count against daily limits, by the plan at admission.
    #[must_use]
    pub fn counted_tokens(&self, settlement: &Settlement) -> u64 {
        settlement.tokens.counted(self.caller.plan_limits.cached_token_fraction)
    }

    /// Settles, and returns once the charge is durable (or after a bounded wait).
    pub async fn settle(mut self, settlement: Settlement) {
        self.settled = true;
        self.learn(&settlement);
        let charge = self.charge(&settlement);
        let settlement = Arc::clone(&self.services).settle(charge);
        let settled = FinishOnDrop::new(settlement, &self.services.tasks);
        let _ = tokio::time::timeout(DURABLE_TIMEOUT, settled).await;
    }

    /// Notes how long the answer was, and what the model's reasoning took, if all of it was reported.
    fn learn(&self, settlement: &Settlement) {
        if let Some(length) = self.length(settlement) {
            self.services.lengths.record(self.caller.user, &self.model.id, length);
        }
        let is_told =
            (settlement.status, settlement.source) == (Status::Complete, Source::Reported);
        if is_told && (self.kinds.reasoning || self.kinds.tools) {
            let tokens = &settlement.tokens;
            let billed = BilledUsage {
                reasoning: tokens.reasoning,
                tools: tokens.prompt.saturating_sub(self.prompt),
                output: tokens.completion.saturating_add(tokens.reasoning),
                took: self.ran(),
            };
            self.services.reasoning.record(self.caller.user, &self.model.id, self.kinds, billed);
        }
    }

    /// Output tokens of one choice, if the call had an answer. A call that was not cut and that ended
    /// before its limit was complete.
    fn length(&self, settlement: &Settlement) -> Option<Length> {
        // Hidden reasoning has an allowance of its own.
        let reasoning = if self.kinds.reasoning { 0 } else { settlement.tokens.reasoning };
        let output = settlement.tokens.completion.saturating_add(reasoning);
        let output = match settlement.source {
            Source::Reported => output,
            // A call that was given up is charged more than it is known to have had.
            Source::Estimated => output.min(self.max_output_tokens),
        };
        if output == 0 {
            return None;
        }
        let of_one = output / self.choices.max(1);
        match settlement.status {
            Status::Complete if output < self.max_output_tokens => Some(Length::Whole(of_one)),
            Status::Failed | Status::Abandoned => None,
            _ => Some(Length::AtLeast(of_one)),
        }
    }

    /// The quota backend that holds this reservation.
    #[must_use]
    pub fn quota(&self) -> &Arc<dyn QuotaBackend> {
        &self.services.quota
    }

    /// For work that outlives the call.
    #[must_use]
    pub fn tasks(&self) -> TaskTracker {
        self.services.tasks.clone()
    }

    fn charge(&self, settlement: &Settlement) -> Charge {
        let ended = clock::instant();
        // The real cost of an abandoned call is unknown, however it came to be abandoned.
        let cost = match settlement.status {
            Status::Abandoned => 0,
            _ => {
                let (tokens, written) = (&settlement.tokens, settlement.cache_written);
                self.model.prices.cost_micro_dollars(tokens, written, settlement.cost_ticks)
            }
        };
        Charge {
            request: self.request,
            user: self.caller.user,
            key: self.caller.key.clone(),
            model: Arc::clone(&self.model.id),
            upstream: Arc::clone(&settlement.upstream),
            day: self.day,
            admitted_at: self.admitted_at,
            tokens: settlement.tokens,
            uncounted: settlement.tokens.uncounted(self.caller.plan_limits.cached_token_fraction),
            cost_micro_dollars: cost,
            status: settlement.status,
            source: settlement.source,
            counted: settlement.counted,
            first_token_ms: settlement
                .first_byte_at
                .map(|at| milliseconds(at.duration_since(self.started))),
            total_ms: milliseconds(ended.duration_since(self.started)),
            client_request_id: self.client_request_id.clone(),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let tokens = TokenCount { completion: self.reserved, ..TokenCount::default() };
        let settlement =
            Settlement { status: Status::Abandoned, tokens, ..Settlement::failed("".into(), true) };
        let charge = self.charge(&settlement);
        drop(self.services.tasks.spawn(Arc::clone(&self.services).settle(charge)));
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
