//! Learns how many tokens a model bills that its replies do not show.
//!
//! xAI's `max_completion_tokens` bounds visible output only, and the reasoning behind it is billed as well
//! (xAI's reference of chat completions). Tools that the upstream runs bill what they read. A call of such a
//! kind reserves, beside its output, as much as all but one in a hundred of the latest calls needed, so that
//! it rarely costs more than it reserved.
//!
//! Whoever makes calls that need little could lower that figure, and then make calls that need much. So the
//! configured default (`limits.expected_hidden_tokens`) is the least until [`MANY_CALLS`] calls of
//! [`MANY_USERS`] users or more show that the model needs less, and [`LEAST`] from then on. Each gateway learns
//! by itself, from its first call on.

use crate::gateway::call::histogram::Histogram;
use domain::id::{IdMap, UserId};
use parking_lot::RwLock;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Of so many calls, one may need more.
const ONE_IN: u16 = 100;
/// Once this many were seen, each counts half: models and callers change.
const LATELY: u16 = 2_000;
/// Calls and users that have to show that a model needs less than the default.
const MANY_CALLS: u16 = 200;
const MANY_USERS: u32 = 8;
/// The lowest allowance in tokens, unless the configured default is lower.
const LEAST: u64 = 1_024;

/// Tokens per second that a model is taken to generate until enough of its calls were measured: the rate of a
/// fast reasoning model.
const DEFAULT_RATE: u64 = 100;
const MIN_RATE: u64 = 50;
const MAX_RATE: u64 = 1_000;
/// Calls that have to be measured, and how long and large each has to be: of shorter ones the time to the
/// first token is most.
const MEASURED_CALLS: u16 = 20;
const MEASURED_TIME: Duration = Duration::from_secs(1);
const MEASURED_TOKENS: u64 = 100;
/// Of so many measured calls, one may be faster.
const FASTER_ONE_IN: u16 = 10;

/// The observed hidden usage, by model.
#[derive(Debug, Default)]
pub struct ReasoningEstimator {
    models: RwLock<IdMap<Arc<str>, Arc<OfModel>>>,
    users: RandomState,
}

#[derive(Debug, Default)]
struct OfModel {
    reasoning: Needed,
    tools: Needed,
    /// Output tokens per second.
    rates: Histogram<300>,
}

/// Tokens that calls needed of one kind.
#[derive(Debug, Default)]
struct Needed {
    latest: Histogram<LATELY>,
    /// A set of users, by a hash of 64 values: what one user does counts as one user.
    users: AtomicU64,
}

/// The kinds of hidden usage of a model's calls: billed, but not in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenKinds {
    /// Reasoning that the output limit does not bound.
    pub reasoning: bool,
    /// Input of tools that the upstream runs.
    pub tools: bool,
}

/// The usage that the upstream reported for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BilledUsage {
    pub reasoning: u64,
    /// Prompt tokens beyond those of the request.
    pub tools: u64,
    /// Visible output and reasoning.
    pub output: u64,
    pub took: Duration,
}

impl ReasoningEstimator {
    /// Records what a call of `user` was billed.
    pub fn record(&self, user: UserId, model: &Arc<str>, kinds: HiddenKinds, billed: BilledUsage) {
        let of_model = self.model(model);
        let user = 1 << (self.users.hash_one(user) % 64);
        if kinds.reasoning {
            of_model.reasoning.record(user, billed.reasoning);
        }
        if kinds.tools {
            let reasoning = if kinds.reasoning { 0 } else { billed.reasoning };
            of_model.tools.record(user, billed.tools.saturating_add(reasoning));
        }
        if billed.took >= MEASURED_TIME && billed.output >= MEASURED_TOKENS {
            let took_ms = u64::try_from(billed.took.as_millis()).unwrap_or(u64::MAX);
            of_model.rates.record(billed.output.saturating_mul(1_000) / took_ms.max(1));
        }
    }

    /// Tokens that a call is to reserve for what it is billed and does not show; `default` for each of `kinds`
    /// until enough is known.
    #[must_use]
    pub fn allowance(&self, model: &str, kinds: HiddenKinds, default: u64) -> u64 {
        if !kinds.reasoning && !kinds.tools {
            return 0;
        }
        let of_model = self.known(model);
        let of = |kind: bool, needed: fn(&OfModel) -> &Needed| {
            let known = of_model.as_deref().map(|it| needed(it).allowance(default));
            if kind { known.unwrap_or(default) } else { 0 }
        };
        of(kinds.reasoning, |it| &it.reasoning).saturating_add(of(kinds.tools, |it| &it.tools))
    }

    /// The most tokens that the model is likely to have generated in `time`.
    #[must_use]
    pub fn generated_in(&self, model: &str, time: Duration) -> u64 {
        let rates = self.known(model);
        let measured = rates.filter(|it| it.rates.count() >= MEASURED_CALLS);
        let rate = measured.map_or(DEFAULT_RATE, |it| it.rates.all_but(FASTER_ONE_IN));
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        rate.clamp(MIN_RATE, MAX_RATE).saturating_mul(time_ms) / 1_000
    }

    fn known(&self, model: &str) -> Option<Arc<OfModel>> {
        self.models.read().get(model).cloned()
    }

    fn model(&self, model: &Arc<str>) -> Arc<OfModel> {
        self.known(model).unwrap_or_else(|| {
            let mut models = self.models.write();
            Arc::clone(models.entry(Arc::clone(model)).or_default())
        })
    }
}

impl Needed {
    fn record(&self, user: u64, tokens: u64) {
        self.users.fetch_or(user, Relaxed);
        self.latest.record(tokens);
    }

    fn allowance(&self, default: u64) -> u64 {
        let users = self.users.load(Relaxed).count_ones();
        let is_proven = self.latest.count() >= MANY_CALLS && users >= MANY_USERS;
        let least = if is_proven { LEAST.min(default) } else { default };
        self.latest.all_but(ONE_IN).max(least)
    }
}

#[cfg(test)]
mod tests;
