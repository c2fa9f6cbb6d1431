//! The catalog: models as callers name them, the upstreams that serve them, and their prices.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Everything a request may be routed to. Replaced whole on reload.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub upstreams: Vec<Arc<Upstream>>,
    pub models: Vec<Arc<Model>>,
}

/// One server that speaks the OpenAI wire format.
#[derive(Debug, Clone)]
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
    /// Calls in flight at the same time; more are refused with 503.
    pub max_in_flight: u32,
    pub limit_field: crate::openai::request::LimitField,
}

/// How long to wait for an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request sent to the reply's head.
    pub first_byte: Duration,
    /// Between two reads of the reply's body.
    pub idle: Duration,
}

/// One model.
#[derive(Debug, Clone)]
pub struct Model {
    pub id: Arc<str>,
    pub aliases: Vec<Arc<str>>,
    /// In order of preference.
    pub routes: Vec<Route>,
    /// Prompt and output together, in tokens.
    pub context_tokens: u64,
    /// Most output tokens of one choice, where the caller names none.
    pub output_tokens: u64,
    pub prices: Prices,
    /// Whether the model bills reasoning that `max_completion_tokens` does not bound: such calls
    /// reserve their whole output at once.
    pub hidden_reasoning: bool,
    /// Prompt tokens the upstream adds and bills by itself.
    pub prompt_overhead_tokens: u64,
    /// Unix seconds, as `/v1/models` shows it.
    pub created: i64,
    pub owned_by: String,
}

/// Where a model can be had.
#[derive(Debug, Clone)]
pub struct Route {
    pub upstream: Arc<Upstream>,
    /// The upstream's own name for the model.
    pub upstream_model: Arc<str>,
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
    pub output: u64,
}

/// A string that prints as dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The secret itself: only for the place that must send or sign with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Catalog {
    /// The model with this id or alias.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|m| &*m.id == name || m.aliases.iter().any(|a| &**a == name))
    }
}
