//! Ends a call: charges the used tokens, returns the rest, writes one charge, metrics and one line in the log.
//! [`Reservation::settle`](crate::gateway::call::reservation::Reservation::settle) calls it; so does its drop.
//!
//! Exactly once on every exit: settling consumes the
//! [`Reservation`](crate::gateway::call::reservation::Reservation), and one that is dropped instead (a panic, a
//! runtime that goes away) settles itself as abandoned. A settlement runs in the task of its
//! call; if that is dropped, it is finished in a task of its own.

use crate::gateway::call::services::CallServices;
use domain::charge::{Charge, Source, Status, TokenCount};
use std::sync::Arc;
use std::time::Instant;
use telemetry::labels::TokenKind;
use telemetry::metrics::Metrics;
use wire::usage::Usage;

/// The outcome and usage of a call, from which its charge is made.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub status: Status,
    pub tokens: TokenCount,
    pub source: Source,
    /// The part of the prompt that was written into the upstream's cache.
    pub cache_written: u64,
    /// `cost_in_usd_ticks`, if the upstream reported it.
    pub cost_ticks: Option<i64>,
    /// True if the call counts against requests per day.
    pub counted: bool,
    pub upstream: Arc<str>,
    pub first_byte_at: Option<Instant>,
}

impl Settlement {
    /// No upstream took the call, or the caller got no answer for it: nothing is charged.
    #[must_use]
    pub fn failed(upstream: Arc<str>, counted: bool) -> Self {
        Self {
            status: Status::Failed,
            tokens: TokenCount::default(),
            source: Source::Estimated,
            cache_written: 0,
            cost_ticks: None,
            counted,
            upstream,
            first_byte_at: None,
        }
    }

    /// The upstream reported what it billed.
    #[must_use]
    pub fn reported(
        status: Status,
        usage: Usage,
        upstream: Arc<str>,
        first_byte_at: Option<Instant>,
    ) -> Self {
        Self {
            status,
            tokens: usage.tokens,
            source: usage.source,
            cache_written: usage.cache_written,
            cost_ticks: usage.cost_ticks,
            counted: true,
            upstream,
            first_byte_at,
        }
    }

    /// Not reported, but counted by the gateway. Never more than `reserved`, the prompt going first.
    #[must_use]
    pub fn estimated(
        status: Status,
        (prompt, output): (u64, u64),
        reserved: u64,
        upstream: Arc<str>,
        first_byte_at: Option<Instant>,
    ) -> Self {
        let prompt = prompt.min(reserved);
        let completion = output.min(reserved - prompt);
        let tokens = TokenCount { prompt, cached: 0, completion, reasoning: 0 };
        Self {
            status,
            tokens,
            source: Source::Estimated,
            cache_written: 0,
            cost_ticks: None,
            counted: true,
            upstream,
            first_byte_at,
        }
    }
}

impl CallServices {
    pub(crate) async fn settle(self: Arc<Self>, charge: Charge) {
        count(&self.metrics, &charge);
        log(&charge);
        let (user, key) = (charge.user, charge.key.clone());
        let overshoot = self.quota.settle(charge).await;
        self.admission_queue.settled(user, &key);
        self.metrics.quota_overshoot_tokens.increment(overshoot);
        self.metrics.reservations_open.set(self.quota.open_leases() as f64);
    }
}

fn count(metrics: &Metrics, charge: &Charge) {
    let tokens = &charge.tokens;
    let kinds = [
        (TokenKind::Prompt, tokens.prompt),
        (TokenKind::Cached, tokens.cached),
        (TokenKind::Completion, tokens.completion),
        (TokenKind::Reasoning, tokens.reasoning),
    ];
    let cost = u64::try_from(charge.cost_micro_dollars).unwrap_or(0);
    metrics.count_settled(&charge.model, &kinds, cost);
}

/// The access log: who, what, how long, how it ended. Never a prompt, an answer or a secret.
fn log(charge: &Charge) {
    tracing::info!(
        request_id = %charge.request,
        client_request_id = charge.client_request_id.as_deref(),
        user_id = %charge.user,
        key_id = %charge.key,
        model = &*charge.model,
        upstream = &*charge.upstream,
        status = charge.status.as_str(),
        source = charge.source.as_str(),
        prompt_tokens = charge.tokens.prompt,
        cached_tokens = charge.tokens.cached,
        completion_tokens = charge.tokens.completion,
        reasoning_tokens = charge.tokens.reasoning,
        uncounted_tokens = (charge.uncounted > 0).then_some(charge.uncounted),
        cost_micro_dollars = charge.cost_micro_dollars,
        first_token_ms = charge.first_token_ms,
        total_ms = charge.total_ms,
        "call settled"
    );
}
