//! `GET /v1/models`, `GET /v1/language-models` and one of each by its id: the catalog as one caller
//! may see it.

use crate::gateway::endpoint::ModelListFormat;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::rejection::Rejection;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, Handled};
use crate::upstream::catalog::{Catalog, Model};
use bytes::Bytes;
use domain::caller::Caller;
use http::header;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use telemetry::labels::{Outcome, Route};

impl Gateway {
    /// Responds with the models that the caller may use, or one of them.
    pub(crate) async fn models(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        id: Option<&str>,
        shape: ModelListFormat,
    ) -> Result<Handled, Rejection> {
        let caller = self.up_to_date_caller(session, writer).await?;
        // The list needs no counters.
        let budget = self.budget(&caller, writer.head.admitted_at).await.ok();
        let current = self.current();
        let catalog = &current.upstreams.catalog;
        let body = match id {
            Some(id) => one(catalog, &caller, id, shape)?,
            None => list(catalog, &caller, shape),
        };
        let etag = etag(&body);
        let is_known = session
            .header(header::IF_NONE_MATCH)
            .is_some_and(|known| known.as_bytes() == etag.as_bytes());
        let status = if is_known { 304 } else { 200 };
        let mut head = writer.head(status, writer.elapsed());
        if let Some(budget) = budget {
            budget.write(&mut head);
        }
        head.set(header::ETAG, etag);
        // Plan and key may change with the next request, so what is kept has to be asked about.
        head.set(header::CACHE_CONTROL, "private, no-cache");
        head.add(header::VARY, "anthropic-version");
        let _ = if is_known {
            session.reply(head, Bytes::new()).await
        } else {
            writer.json(session, head, body).await
        };
        Ok(Handled { route: Route::Models, status, outcome: Outcome::Ok })
    }
}

/// OpenAI's model object.
#[derive(Serialize)]
struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

/// OpenAI's model object with what agents and chat clients read beside it, under OpenRouter's names.
#[derive(Serialize)]
struct ListedModel<'a> {
    #[serde(flatten)]
    model: ModelObject<'a>,
    /// Tokens.
    context_length: u64,
    /// Tokens of one choice, where the caller names no limit.
    max_output_tokens: u64,
    pricing: Pricing,
}

/// Prices of one token, in US dollars as decimal numbers.
#[derive(Serialize)]
struct Pricing {
    prompt: String,
    completion: String,
    input_cache_read: String,
}

/// Anthropic's model object.
#[derive(Serialize)]
struct AnthropicModel<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: Timestamp,
}

/// Anthropic's page of models; all are on the first one.
#[derive(Serialize)]
struct AnthropicModels<'a> {
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
    has_more: bool,
    data: Vec<AnthropicModel<'a>>,
}

/// xAI's language model object. Its prices are in cents for a hundred million tokens, which is what a
/// tick a token is.
#[derive(Serialize)]
struct LanguageModel<'a> {
    #[serde(flatten)]
    model: ModelObject<'a>,
    aliases: &'a [Arc<str>],
    context_length: u64,
    prompt_text_token_price: u64,
    cached_prompt_text_token_price: u64,
    completion_text_token_price: u64,
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<ListedModel<'a>>,
}

#[derive(Serialize)]
struct LanguageModelList<'a> {
    models: Vec<LanguageModel<'a>>,
}

/// All models the caller may use.
#[must_use]
pub fn list(catalog: &Catalog, caller: &Caller, shape: ModelListFormat) -> Bytes {
    let allowed = catalog.models.iter().filter(|model| caller.may_use(&model.id));
    match shape {
        ModelListFormat::OpenAi => {
            let named = allowed.flat_map(|model| {
                let aliases = model.aliases.iter().filter(|_| model.lists_aliases);
                [&model.id].into_iter().chain(aliases).map(|name| listed(model, name))
            });
            json(&ModelList { object: "list", data: named.collect() })
        }
        ModelListFormat::Anthropic => {
            // Anthropic clients request their own model names, which are aliases here.
            let named = allowed.flat_map(|model| {
                let aliases = model.aliases.iter();
                aliases.chain([&model.id]).map(|name| of_anthropic(model, name))
            });
            let data: Vec<_> = named.collect();
            let (first_id, last_id) = (data.first().map(|it| it.id), data.last().map(|it| it.id));
            json(&AnthropicModels { first_id, last_id, has_more: false, data })
        }
        ModelListFormat::Xai => {
            json(&LanguageModelList { models: allowed.map(|model| priced(model)).collect() })
        }
    }
}

/// One model, by id or alias.
///
/// # Errors
/// There is none, or the caller may not use it: both look the same from outside.
pub fn one(
    catalog: &Catalog,
    caller: &Caller,
    name: &str,
    shape: ModelListFormat,
) -> Result<Bytes, Refusal> {
    let model = catalog.model(name).filter(|model| caller.may_use(&model.id));
    let model = model.ok_or_else(|| Refusal::UnknownModel(name.to_owned()))?;
    Ok(match shape {
        ModelListFormat::OpenAi => json(&listed(model, name)),
        ModelListFormat::Anthropic => json(&of_anthropic(model, name)),
        ModelListFormat::Xai => json(&priced(model)),
    })
}

/// A strong validator of a body (RFC 9110 section 8.8.3).
#[must_use]
pub fn etag(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    let start = hash.iter().take(8).fold(0_u64, |start, byte| start << 8 | u64::from(*byte));
    format!("\"{start:016x}\"")
}

fn object<'a>(model: &'a Model, name: &'a str) -> ModelObject<'a> {
    ModelObject { id: name, object: "model", created: model.created, owned_by: &model.owned_by }
}

fn listed<'a>(model: &'a Model, name: &'a str) -> ListedModel<'a> {
    let prices = &model.prices.short;
    ListedModel {
        model: object(model, name),
        context_length: model.context_tokens,
        max_output_tokens: model.output_tokens,
        pricing: Pricing {
            prompt: dollars(prices.input),
            completion: dollars(prices.output),
            input_cache_read: dollars(prices.cached_input),
        },
    }
}

/// Ticks (1e-10 US dollars) as a decimal number of dollars.
fn dollars(ticks: u64) -> String {
    const TICKS: u64 = 10_000_000_000;
    let text = format!("{}.{:010}", ticks / TICKS, ticks % TICKS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn of_anthropic<'a>(model: &'a Model, name: &'a str) -> AnthropicModel<'a> {
    let created_at = Timestamp::from_second(model.created).unwrap_or_default();
    AnthropicModel { kind: "model", id: name, display_name: name, created_at }
}

fn priced(model: &Model) -> LanguageModel<'_> {
    let prices = &model.prices.short;
    LanguageModel {
        model: object(model, &model.id),
        aliases: &model.aliases,
        context_length: model.context_tokens,
        prompt_text_token_price: prices.input,
        cached_prompt_text_token_price: prices.cached_input,
        completion_text_token_price: prices.output,
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data serialises").into()
}
