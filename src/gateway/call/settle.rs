//! The end of a call: quota trued up, one ledger row, metrics, one line in the log.
//!
//! Exactly once on every exit: settling consumes the [`Reservation`], and one that is dropped
//! instead (a panic, a runtime that goes away) settles itself as abandoned. Work that has to wait goes
//! on in a task of its own, so it is finished even when the connection's task is not.

use crate::gateway::call::admission_queue::Waiting;
use crate::gateway::call::admit::Reservation;
use crate::gateway::call::length_estimate::{Length, Lengths};
use crate::gateway::call::reasoning_estimate::{Billed, Reasoning};
use domain::charge::{Charge, Source, Status, TokenCount};
use futures_util::FutureExt;
use quota::backend::QuotaBackend;
use std::sync::Arc;
use std::time::{Duration, Instant};
use system::clock;
use telemetry::labels::TokenKind;
use telemetry::metrics::Metrics;
use tokio_util::task::TaskTracker;
use wire::usage::Usage;

/// How long the end of a reply waits for its charge to be durable. Past it the reply ends anyway:
/// the charge is kept in memory and written when the ledger is back.
const PATIENCE: Duration = Duration::from_secs(2);

/// What settling needs.
pub struct Settler {
    pub quota: Arc<dyn QuotaBackend>,
    pub metrics: Arc<Metrics>,
    pub tasks: TaskTracker,
    pub reasoning: Arc<Reasoning>,
    pub lengths: Arc<Lengths>,
    /// Told of every call that gives back what it held.
    pub waiting: Arc<Waiting>,
}

/// How a call ended and what it used.
#[derive(Debug, Clone)]
pub struct Ending {
    pub status: Status,
    pub tokens: TokenCount,
    pub source: Source,
    /// The part of the prompt that was written into the upstream's cache.
    pub cache_written: u64,
    /// `cost_in_usd_ticks`, where the upstream told it.
    pub cost_ticks: Option<i64>,
    /// Whether the call counts against requests per day.
    pub counted: bool,
    pub upstream: Arc<str>,
    pub first_byte_at: Option<Instant>,
}

impl Ending {
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

impl Reservation {
    /// Settles, and returns once the charge is durable (or after a bounded wait).
    pub async fn settle(mut self, ending: Ending) {
        self.settled = true;
        self.learn(&ending);
        let charge = self.charge(&ending);
        let mut settling = Box::pin(Arc::clone(&self.settler).run(charge));
        // In most cases nothing has to be waited for.
        if (&mut settling).now_or_never().is_some() {
            return;
        }
        let task = self.settler.tasks.spawn(settling);
        let _ = tokio::time::timeout(PATIENCE, task).await;
    }

    /// Notes how long the answer was, and what the model's reasoning took, if all of it was reported.
    fn learn(&self, ending: &Ending) {
        if let Some(length) = self.length(ending) {
            self.settler.lengths.note(self.caller.user, &self.model.id, length);
        }
        let is_told = (ending.status, ending.source) == (Status::Complete, Source::Reported);
        if is_told && (self.kinds.reasoning || self.kinds.tools) {
            let tokens = &ending.tokens;
            let billed = Billed {
                reasoning: tokens.reasoning,
                tools: tokens.prompt.saturating_sub(self.prompt),
                output: tokens.completion.saturating_add(tokens.reasoning),
                took: self.ran(),
            };
            self.settler.reasoning.note(self.caller.user, &self.model.id, self.kinds, billed);
        }
    }

    /// Output tokens of one choice, if the call had an answer. A call that was not cut and that ended
    /// before its limit said all it wanted to.
    fn length(&self, ending: &Ending) -> Option<Length> {
        // Hidden reasoning has an allowance of its own.
        let reasoning = if self.kinds.reasoning { 0 } else { ending.tokens.reasoning };
        let output = ending.tokens.completion.saturating_add(reasoning);
        let output = match ending.source {
            Source::Reported => output,
            // A call that was given up is charged more than it is known to have had.
            Source::Estimated => output.min(self.most_output),
        };
        if output == 0 {
            return None;
        }
        let of_one = output / self.choices.max(1);
        match ending.status {
            Status::Complete if output < self.most_output => Some(Length::Whole(of_one)),
            Status::Failed | Status::Abandoned => None,
            _ => Some(Length::AtLeast(of_one)),
        }
    }

    /// Where this reservation is held.
    #[must_use]
    pub fn quota(&self) -> &Arc<dyn QuotaBackend> {
        &self.settler.quota
    }

    /// For work that outlives the call.
    #[must_use]
    pub fn tasks(&self) -> TaskTracker {
        self.settler.tasks.clone()
    }

    fn charge(&self, ending: &Ending) -> Charge {
        let ended = clock::instant();
        // The real cost of an abandoned call is unknown, however it came to be abandoned.
        let cost = match ending.status {
            Status::Abandoned => 0,
            _ => {
                let (tokens, written) = (&ending.tokens, ending.cache_written);
                self.model.prices.cost_micro_dollars(tokens, written, ending.cost_ticks)
            }
        };
        Charge {
            request: self.request,
            user: self.caller.user,
            key: self.caller.key.clone(),
            model: Arc::clone(&self.model.id),
            upstream: Arc::clone(&ending.upstream),
            day: self.day,
            admitted_at: self.admitted_at,
            tokens: ending.tokens,
            cost_micro_dollars: cost,
            status: ending.status,
            source: ending.source,
            counted: ending.counted,
            first_token_ms: ending
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
        let ending =
            Ending { status: Status::Abandoned, tokens, ..Ending::failed("".into(), true) };
        let charge = self.charge(&ending);
        drop(self.settler.tasks.spawn(Arc::clone(&self.settler).run(charge)));
    }
}

impl Settler {
    async fn run(self: Arc<Self>, charge: Charge) {
        count(&self.metrics, &charge);
        log(&charge);
        let (user, key) = (charge.user, charge.key.clone());
        let overshoot = self.quota.settle(charge).await;
        self.waiting.settled(user, &key);
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
        cost_micro_dollars = charge.cost_micro_dollars,
        first_token_ms = charge.first_token_ms,
        total_ms = charge.total_ms,
        "call settled"
    );
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
