//! `GET /api/v1/admin/models`: the models and prices in effect.

use crate::control::auth::AdminReader;
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{AdminReaderRequired, Unavailable};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Ticks (1e-10 US dollars) per token, as micro-dollars per million tokens.
const MICRO_DOLLARS_PER_MILLION: u64 = 100;
/// Ticks of a micro-dollar.
const TICKS_PER_MICRO_DOLLAR: u64 = 10_000;

/// A model of the configuration, with its upstreams and prices.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfiguredModel {
    #[schema(value_type = String, example = "grok-4.3")]
    pub id: Arc<str>,
    /// Other names that callers may use.
    #[schema(value_type = Vec<String>)]
    pub aliases: Vec<Arc<str>>,
    /// In order of preference, or ranked by weight.
    pub upstreams: Vec<ModelUpstream>,
    /// Prompt and output together, in tokens.
    pub context_tokens: u64,
    /// Maximum output of one choice, in tokens.
    pub output_tokens: u64,
    /// True if the model bills reasoning that the request's limit does not bound.
    pub hidden_reasoning: bool,
    pub prices: ModelPrices,
    /// The prompt length from which on the higher prices apply to the whole request; `null` if there are none.
    #[schema(required)]
    pub long_context_from: Option<u64>,
    #[schema(required)]
    pub long_context_prices: Option<ModelPrices>,
    /// Price of one image in micro-dollars, where the upstream does not report it.
    pub image_micro_dollars: u64,
}

/// An upstream that serves a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelUpstream {
    #[schema(value_type = String, example = "xai")]
    pub name: Arc<str>,
    /// The name of the model at the upstream.
    #[schema(value_type = String, example = "grok-4.3")]
    pub model: Arc<str>,
    /// Its share of the calls; `null` if upstreams are tried in order.
    #[schema(required)]
    pub weight: Option<u32>,
}

/// Micro-dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelPrices {
    #[schema(example = 1_250_000)]
    pub input: u64,
    #[schema(example = 200_000)]
    pub cached_input: u64,
    /// For input that the upstream writes to its cache.
    #[schema(example = 1_250_000)]
    pub cache_write: u64,
    /// For visible output and reasoning.
    #[schema(example = 2_500_000)]
    pub output: u64,
}

/// List models and prices
///
/// As they are in effect, in the order of the configuration.
#[utoipa::path(get, path = "/api/v1/admin/models", tag = "Admin", security(("token" = [])),
    responses((status = 200, body = Page<ConfiguredModel>), AdminReaderRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    _reader: AdminReader,
) -> Json<Page<ConfiguredModel>> {
    Json(Page::single(configured(&state)))
}

/// The models in effect, in the order of the configuration.
#[must_use]
pub fn configured(state: &ControlState) -> Vec<ConfiguredModel> {
    let upstreams = state.instance.upstreams.load();
    let models = upstreams.catalog.models.iter().map(|model| {
        let (short, long) = (model.prices.short, model.prices.long);
        let prices =
            |(input, cached_input, cache_write, output): (u64, u64, u64, u64)| ModelPrices {
                input: input.saturating_mul(MICRO_DOLLARS_PER_MILLION),
                cached_input: cached_input.saturating_mul(MICRO_DOLLARS_PER_MILLION),
                cache_write: cache_write.saturating_mul(MICRO_DOLLARS_PER_MILLION),
                output: output.saturating_mul(MICRO_DOLLARS_PER_MILLION),
            };
        let has_long = model.prices.long_from > 0;
        let long = (long.input, long.cached_input, long.cache_write, long.output);
        ConfiguredModel {
            id: Arc::clone(&model.id),
            aliases: model.aliases.clone(),
            upstreams: model
                .routes
                .iter()
                .map(|route| ModelUpstream {
                    name: Arc::clone(&route.upstream.name),
                    model: Arc::clone(&route.upstream_model),
                    weight: route.weight,
                })
                .collect(),
            context_tokens: model.context_tokens,
            output_tokens: model.output_tokens,
            hidden_reasoning: model.hidden_reasoning,
            prices: prices((short.input, short.cached_input, short.cache_write, short.output)),
            long_context_from: has_long.then_some(model.prices.long_from),
            long_context_prices: has_long.then(|| prices(long)),
            image_micro_dollars: model.image_ticks / TICKS_PER_MICRO_DOLLAR,
        }
    });
    models.collect()
}
