//! The models in effect, with their upstreams and prices. They are changed in the configuration.

use crate::console::error::{PageError, html};
use crate::console::format::{count, dollars};
use crate::console::page::Page;
use crate::console::session::AdminOrAuditor;
use crate::control::routes::admin::models::{ConfiguredModel, ModelPrices, configured};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;

#[derive(Template)]
#[template(path = "console/admin/models.html")]
struct ModelsPage {
    page: Page,
    rows: Vec<ModelRow>,
}

struct ModelRow {
    id: String,
    aliases: String,
    upstreams: String,
    context: String,
    hidden_reasoning: bool,
    /// Prices by length of the prompt: of short ones, and of long ones if they differ.
    prices: Vec<PriceRow>,
}

/// Dollars per million tokens.
struct PriceRow {
    /// Which prompts have these prices; empty for all.
    of: String,
    input: String,
    cached: String,
    written: String,
    output: String,
}

/// `GET /console/admin/models`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
) -> Result<Response, PageError> {
    let page = reader.page;
    let rows = configured(&state).iter().map(|model| ModelRow::of(&page, model)).collect();
    html(&ModelsPage { page, rows })
}

impl ModelRow {
    fn of(page: &Page, model: &ConfiguredModel) -> Self {
        let upstreams = model.upstreams.iter().map(|upstream| match upstream.weight {
            Some(weight) => format!("{} ({}, {weight})", upstream.name, upstream.model),
            None => format!("{} ({})", upstream.name, upstream.model),
        });
        let long = model.long_context_from.zip(model.long_context_prices.as_ref());
        let long = long.map(|(from, prices)| {
            PriceRow::of(page.fill("prompts of {} tokens or more", &[&count(from)]), prices)
        });
        let prices = [Some(PriceRow::of(String::new(), &model.prices)), long];
        Self {
            id: model.id.to_string(),
            aliases: model.aliases.join(", "),
            upstreams: upstreams.collect::<Vec<_>>().join(", "),
            context: count(model.context_tokens),
            hidden_reasoning: model.hidden_reasoning,
            prices: prices.into_iter().flatten().collect(),
        }
    }
}

impl PriceRow {
    fn of(of: String, prices: &ModelPrices) -> Self {
        let shown = |micro_dollars: u64| dollars(i64::try_from(micro_dollars).unwrap_or(i64::MAX));
        Self {
            of,
            input: shown(prices.input),
            cached: shown(prices.cached_input),
            written: shown(prices.cache_write),
            output: shown(prices.output),
        }
    }
}
