//! The catalog: models as callers name them, the upstreams that serve them, and their prices.

use domain::charge::TokenCount;
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wire::dialect::Dialect;
use wire::surface::Surface;

/// The unit of the price list below in that of the ledger.
const TICKS_PER_MICRO_DOLLAR: u64 = 10_000;
/// A reported cost is accepted up to this multiple of the computed one (tiers of service) plus 100 US
/// dollars (the server's tools).
const MOST_TIMES: u64 = 100;
const MOST_TOOL_TICKS: u64 = 1_000_000_000_000;

/// Everything a request may be routed to. Replaced whole on reload.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub upstreams: Vec<Arc<Upstream>>,
    pub models: Vec<Arc<Model>>,
    /// Every id and alias that is configured, with the id it stands for: of models without a usable
    /// upstream too.
    pub names: ModelNames,
}

/// Ids by ids and aliases.
pub type ModelNames = BTreeMap<Arc<str>, Arc<str>>;

/// One server that speaks the OpenAI wire format.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Upstream {
    pub name: Arc<str>,
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Path before `/chat/completions`, such as `/v1`; no slash at the end.
    pub base_path: String,
    /// Sent as `Authorization: Bearer …`; `None` for a server without keys.
    pub api_key: Option<Secret>,
    /// PEM file with the authority that signed the server's certificate; `None` = the system's.
    pub ca_file: Option<String>,
    pub timeouts: Timeouts,
    /// Calls in flight at the same time; more wait.
    pub max_in_flight: u32,
    /// Calls that may wait; more are refused with 503.
    pub queue_length: u32,
    /// Time that a call may be queued.
    pub queue_timeout: Duration,
    /// Time between two active health checks; `None` = none.
    pub probe: Option<Duration>,
    pub limit_field: wire::request::LimitField,
    pub dialect: Dialect,
    /// True if it takes a system message only as the first message. Translated requests have no other one then.
    pub system_first_only: bool,
    /// True if it takes the reasoning of earlier turns as `reasoning_content`. Translated requests repeat it then.
    pub replays_reasoning: bool,
    /// Handling of a call after its client disconnects; `None` = it depends on the call.
    pub on_hang_up: Option<OnHangUp>,
    /// True if it accepts `stream_options`, and so reports the usage of streams.
    pub stream_options: bool,
    /// Surfaces that it offers.
    pub surfaces: Vec<Surface>,
}

/// Handling of a call at an upstream after its client disconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHangUp {
    /// Closes the connection: the upstream stops, and bills no more than it has produced.
    Cancel,
    /// Reads the reply to its end, for the usage that it reports.
    Drain,
}

impl Upstream {
    /// How to handle a call after its client disconnects. Unless the operator configures it, calls are read
    /// on whose bill the gateway cannot know: of a model that reasons unseen, of a reply in one piece, and of
    /// a stream that bills more than it shows. `can_be_stopped` is for neither of the last two.
    #[must_use]
    pub fn on_hang_up(&self, model: &Model, can_be_stopped: bool) -> OnHangUp {
        let bill_is_seen = can_be_stopped && !model.hidden_reasoning;
        let default = if bill_is_seen { OnHangUp::Cancel } else { OnHangUp::Drain };
        self.on_hang_up.unwrap_or(default)
    }
}

/// Timeouts of calls to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request sent to the reply's head.
    pub first_byte: Duration,
    /// From the request to the first content of a stream, where another upstream may serve the call; `None` = no
    /// limit. A model may have its own.
    pub first_event: Option<Duration>,
    /// Between two reads of the reply's body.
    pub idle: Duration,
}

/// A model, with its routes and prices.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Model {
    pub id: Arc<str>,
    pub aliases: Vec<Arc<str>>,
    /// True if `/v1/models` lists the aliases as models.
    pub lists_aliases: bool,
    /// True if it takes an effort of reasoning.
    pub takes_effort: bool,
    /// True if calls on a surface that no upstream offers are translated to one that is offered.
    pub translates: bool,
    /// In order of preference, or ranked by weight.
    pub routes: Vec<Route>,
    /// Overrides the upstreams' `first_event` timeout; `Some(None)` = no limit.
    pub first_event_timeout: Option<Option<Duration>>,
    pub fallbacks: Fallbacks,
    /// Prompt and output together, in tokens.
    pub context_tokens: u64,
    /// Most output tokens of one choice, where the caller names none.
    pub output_tokens: u64,
    pub prices: Prices,
    /// True if the model bills reasoning that `max_completion_tokens` does not bound: such calls
    /// reserve their whole output at once.
    pub hidden_reasoning: bool,
    /// Ticks (1e-10 US dollars) for one image, where the upstream does not say what it cost.
    pub image_ticks: u64,
    /// Tokens charged to the daily quota for one image if the upstream reports none.
    pub image_tokens: u64,
    /// Prompt tokens the upstream adds and bills by itself.
    pub prompt_overhead_tokens: u64,
    /// Unix seconds, as `/v1/models` shows it.
    pub created: i64,
    pub owned_by: String,
}

/// Models, by id, that take over calls that a model's upstreams refuse.
#[derive(Debug, Clone, Default)]
pub struct Fallbacks {
    /// For prompts that are too long for the model.
    pub context: Option<Arc<str>>,
    /// For requests that the content rules of the upstream forbid.
    pub content: Option<Arc<str>>,
}

/// An upstream that serves a model.
#[derive(Debug, Clone)]
pub struct Route {
    pub upstream: Arc<Upstream>,
    /// The upstream's own name for the model.
    pub upstream_model: Arc<str>,
    /// Its share of the model's calls; where no route has one, they are tried in order.
    pub weight: Option<u32>,
    /// Surfaces that the upstream offers for this model; `None` = all of its own.
    pub surfaces: Option<Vec<Surface>>,
}

/// Prices in ticks (1e-10 US dollars) for one token; one dollar per million tokens is 10,000 ticks.
/// Source of the unit and of the long-context rule: xAI's pricing and cost-tracking pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    pub short: PriceStep,
    /// Applies to the whole request once its prompt reaches `long_from` tokens.
    pub long: PriceStep,
    /// 0 = there is no long-context price.
    pub long_from: u64,
}

/// Ticks for one token of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceStep {
    pub input: u64,
    pub cached_input: u64,
    /// For input that the upstream writes into its cache.
    pub cache_write: u64,
    pub output: u64,
}

impl Upstream {
    /// True if it offers `surface`.
    #[must_use]
    pub fn offers(&self, surface: Surface) -> bool {
        self.surfaces.contains(&surface)
    }
}

impl Model {
    /// The dialect that its requests are written in. The first that changes requests applies to all upstreams.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        let mut dialects = self.routes.iter().map(|route| route.upstream.dialect);
        dialects.find(|dialect| dialect.changes_requests()).unwrap_or_default()
    }

    /// True if one of its upstreams takes a system message only as the first message.
    #[must_use]
    pub fn system_first_only(&self) -> bool {
        self.routes.iter().any(|route| route.upstream.system_first_only)
    }

    /// True if all of its upstreams take the reasoning of earlier turns.
    #[must_use]
    pub fn replays_reasoning(&self) -> bool {
        self.routes.iter().all(|route| route.upstream.replays_reasoning)
    }
}

impl Route {
    /// True if the upstream offers `surface` for this model.
    #[must_use]
    pub fn offers(&self, surface: Surface) -> bool {
        let is_for_model = self.surfaces.as_ref().is_none_or(|list| list.contains(&surface));
        is_for_model && self.upstream.offers(surface)
    }
}

impl Catalog {
    /// The id of the configured model with this id or alias, which need not be usable.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<&Arc<str>> {
        self.names.get(name)
    }

    /// The model with this id or alias.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|m| &*m.id == name || m.aliases.iter().any(|a| &**a == name))
    }
}

impl Prices {
    /// The prices of a request with a prompt of so many tokens, and true if those are the long-context prices.
    #[must_use]
    pub fn step(&self, prompt: u64) -> (&PriceStep, bool) {
        let is_long = self.long_from > 0 && prompt >= self.long_from;
        (if is_long { &self.long } else { &self.short }, is_long)
    }

    /// Cost of the tokens in ticks.
    ///
    /// Cached tokens, and those of `cache_written`, are part of the prompt and have their own prices;
    /// reasoning is paid as output. Once the prompt is long, the long price is that of the whole
    /// request.
    #[must_use]
    pub fn cost_ticks(&self, tokens: &TokenCount, cache_written: u64) -> u64 {
        let (step, _) = self.step(tokens.prompt);
        let cached = tokens.cached.min(tokens.prompt);
        let output = tokens.completion.saturating_add(tokens.reasoning);
        let written = cache_written.min(tokens.prompt - cached);
        let input_cost = (tokens.prompt - cached - written).saturating_mul(step.input);
        let written_cost = written.saturating_mul(step.cache_write);
        let cached_cost = cached.saturating_mul(step.cached_input);
        let output_cost = output.saturating_mul(step.output);
        let input_cost = input_cost.saturating_add(cached_cost).saturating_add(written_cost);
        input_cost.saturating_add(output_cost)
    }

    /// Cost of the call in millionths of a dollar, half of one rounded up. A cost that the upstream
    /// reports wins over the price list, because it includes the server's tools,
    /// unless it is beyond all reason.
    #[must_use]
    pub fn cost_micro_dollars(
        &self,
        tokens: &TokenCount,
        cache_written: u64,
        reported_ticks: Option<i64>,
    ) -> i64 {
        let own = self.cost_ticks(tokens, cache_written);
        let most = own.saturating_mul(MOST_TIMES).saturating_add(MOST_TOOL_TICKS);
        let reported = reported_ticks.and_then(|ticks| u64::try_from(ticks).ok());
        let ticks = reported.filter(|ticks| *ticks <= most).unwrap_or(own);
        let rounded_up = ticks % TICKS_PER_MICRO_DOLLAR >= TICKS_PER_MICRO_DOLLAR / 2;
        let micro_dollars = ticks / TICKS_PER_MICRO_DOLLAR + u64::from(rounded_up);
        i64::try_from(micro_dollars).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grok 4.3 and 4.7 as on the price list.
    const GROK_4_3: Prices = Prices {
        short: step(12_500, 2_000, 25_000),
        long: step(25_000, 4_000, 50_000),
        long_from: 200_000,
    };
    const GROK_4_7: Prices = Prices {
        short: step(20_000, 5_000, 60_000),
        long: step(40_000, 10_000, 120_000),
        long_from: 200_000,
    };

    const fn step(input: u64, cached_input: u64, output: u64) -> PriceStep {
        PriceStep { input, cached_input, cache_write: input + input / 4, output }
    }

    fn tokens(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> TokenCount {
        TokenCount { prompt, cached, completion, reasoning }
    }

    #[test]
    fn costs_follow_the_price_list() {
        for (prices, tokens, expected) in [
            (GROK_4_3, tokens(1, 0, 0, 0), 12_500),
            (GROK_4_3, tokens(214, 192, 12, 87), 3_134_000),
            (GROK_4_3, tokens(207, 192, 9, 31), 1_571_500),
            (GROK_4_3, tokens(199_999, 0, 1, 0), 199_999 * 12_500 + 25_000),
            (GROK_4_3, tokens(200_000, 0, 1, 0), 200_000 * 25_000 + 50_000),
            (GROK_4_3, tokens(200_000, 200_000, 0, 1), 200_000 * 4_000 + 50_000),
            (GROK_4_7, tokens(1_000_000, 0, 0, 0), 4 * 10_000_000_000),
            (GROK_4_7, tokens(0, 0, 50_000, 50_000), 6_000_000_000),
            (Prices { long_from: 0, ..GROK_4_7 }, tokens(300_000, 0, 0, 0), 300_000 * 20_000),
            (GROK_4_7, tokens(2, 9, 0, 0), 2 * 5_000),
            (Prices::default(), tokens(9, 9, 9, 9), 0),
            (GROK_4_7, tokens(u64::MAX, 0, u64::MAX, u64::MAX), u64::MAX),
        ] {
            assert_eq!(prices.cost_ticks(&tokens, 0), expected, "{tokens:?}");
        }
    }

    #[test]
    fn what_is_written_into_the_cache_has_its_own_price() {
        let call = tokens(1_000, 400, 10, 0);
        let plain = 600 * 12_500 + 400 * 2_000 + 10 * 25_000;
        for (written, expected) in [
            (0, plain),
            (100, plain + 100 * 3_125),
            (600, plain + 600 * 3_125),
            (5_000, plain + 600 * 3_125),
        ] {
            assert_eq!(GROK_4_3.cost_ticks(&call, written), expected, "{written}");
        }
        let long = tokens(200_000, 0, 0, 0);
        assert_eq!(GROK_4_3.cost_ticks(&long, 200_000), 200_000 * 31_250);
    }

    #[test]
    fn money_is_rounded_half_up_and_what_is_reported_wins() {
        let call = tokens(214, 192, 12, 87);
        for (reported, expected) in [
            (None, 313),
            (Some(0), 0),
            (Some(4_999), 0),
            (Some(5_000), 1),
            (Some(14_999), 1),
            (Some(53_134_000), 5_313),
            (Some(-1), 313),
            (Some(1_000_000_000_000), 100_000_000),
            (Some(2_000_000_000_000), 313),
            (Some(i64::MAX), 313),
        ] {
            assert_eq!(GROK_4_3.cost_micro_dollars(&call, 0, reported), expected, "{reported:?}");
        }
        let all = tokens(u64::MAX, 0, 0, 0);
        assert_eq!(GROK_4_3.cost_micro_dollars(&all, 0, None), 1_844_674_407_370_955);
    }
}
