//! The upstreams and models of a configuration.
//!
//! An upstream whose key is not set is left out with its routes, and so is a model with no route
//! left: the catalog holds what can be called.

use super::error::{ConfigError, Origin};
use super::layers::{Environment as Variables, Layers};
use super::network_types::BaseUrl;
use super::types::{CaFile, Seconds, SurfaceList, TokenPrice};
use super::value::{Field, FromConfig, RawValue};
use super::{Environment, MissingKey, fallbacks, raw};
use crate::upstream::catalog::{
    Catalog, Fallbacks, Model, ModelNames, PriceStep, Prices, Route, Timeouts, Upstream,
};
use domain::secret::Secret;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use wire::dialect::Dialect;
use wire::surface::Surface;

/// Defaults of upstreams; `config/default.toml` shows the same values.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_mins(10);
const FIRST_EVENT_TIMEOUT: Duration = Duration::from_mins(1);
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
const MAX_IN_FLIGHT: u32 = 10_000;
const QUEUE_LENGTH: u32 = 1_000;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Surfaces that OpenAI-compatible servers usually offer.
const SURFACES: [Surface; 4] =
    [Surface::ChatCompletions, Surface::Responses, Surface::Completions, Surface::Embeddings];
/// Defaults of models.
const OUTPUT_TOKENS: u64 = 8192;
/// Not 0: the tokens per day of a plan would not limit images, which cost money.
const IMAGE_TOKENS: u64 = 1000;

/// The upstream that `GROK_BASE_URL` speaks of.
const XAI: &str = "xai";
const GROK_BASE_URL: &str = "GROK_BASE_URL";

/// The catalog, and what did not get into it.
pub struct Resolved {
    pub catalog: Catalog,
    pub missing_keys: Vec<MissingKey>,
}

/// The API key of an upstream, as configured.
enum Key {
    Set(Secret),
    NotNeeded,
    Missing(Vec<String>),
}

/// Checks and resolves upstreams and models.
pub fn resolve(
    layers: &Layers,
    variables: &Variables,
    environment: Environment,
) -> Result<Resolved, ConfigError> {
    let (upstreams, origin) = layers.list(|raw| &raw.upstreams);
    let grok_base_url = grok_base_url(upstreams, variables)?;
    let mut by_name = HashMap::new();
    let mut usable = Vec::new();
    let mut missing_keys = Vec::new();
    for upstream in upstreams {
        let name = upstream.name.value.0.as_str();
        let moved = grok_base_url.as_ref().filter(|_| name == XAI);
        let url = moved.unwrap_or(&upstream.base_url.value);
        if environment == Environment::Production && !url.tls && !url.is_loopback() {
            let problem =
                format!("in production, the upstream `{name}` needs an https:// base_url");
            return Err(match moved {
                Some(_) => Origin::Variable(GROK_BASE_URL.to_owned()).error(&(0..0), problem),
                None => origin.error(&upstream.base_url.span, problem),
            });
        }
        let resolved = match key(upstream, origin, variables)? {
            Key::Set(key) => Some(server(upstream, url, Some(key))),
            Key::NotNeeded => Some(server(upstream, url, None)),
            Key::Missing(variables) => {
                missing_keys.push(MissingKey { upstream: name.to_owned(), variables });
                None
            }
        };
        usable.extend(resolved.clone());
        if by_name.insert(name, resolved).is_some() {
            let problem = format!("the upstream name `{name}` is used twice");
            return Err(origin.error(&upstream.name.span, problem));
        }
    }
    let (models, names) = models(layers, &by_name)?;
    Ok(Resolved { catalog: Catalog { upstreams: usable, models, names }, missing_keys })
}

fn grok_base_url(
    upstreams: &[raw::Upstream],
    variables: &Variables,
) -> Result<Option<BaseUrl>, ConfigError> {
    let name = GROK_BASE_URL;
    let Some(text) = variables.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let origin = Origin::Variable(name.to_owned());
    if !upstreams.iter().any(|u| u.value_name() == XAI) {
        let problem = "it sets the address of the upstream `xai`, but the config file has no upstream of that name";
        return Err(origin.error(&(0..0), problem));
    }
    let url = BaseUrl::from_value(&RawValue::Text(text.clone()));
    url.map(Some).ok_or_else(|| origin.error(&(0..0), format!("expected {}", BaseUrl::expected())))
}

fn key(
    upstream: &raw::Upstream,
    origin: &Origin,
    variables: &Variables,
) -> Result<Key, ConfigError> {
    match (&upstream.api_key, &upstream.api_key_env) {
        (Some(key), None) if key.value.expose().is_empty() => Ok(Key::NotNeeded),
        (Some(key), None) => Ok(Key::Set(key.value.clone())),
        (None, Some(names)) if !names.value.0.is_empty() => {
            let names = &names.value.0;
            let is_set = |n: &&String| variables.get(*n).is_some_and(|v| !v.trim().is_empty());
            let Some(name) = names.iter().find(is_set) else {
                return Ok(Key::Missing(names.clone()));
            };
            let key = variables.get(name).map_or("", |v| v.trim());
            if !key.bytes().all(|b| b.is_ascii_graphic()) {
                let problem =
                    "an API key must not contain spaces, line breaks or non-ASCII characters";
                return Err(Origin::Variable(name.clone()).error(&(0..0), problem));
            }
            Ok(Key::Set(Secret::new(key)))
        }
        _ => {
            let name = upstream.value_name();
            let problem = format!(
                "the upstream `{name}` needs either api_key_env (environment variables with its key) or \
                 api_key (the key itself; \"\" if the server needs none)"
            );
            Err(origin.error(&upstream.name.span, problem))
        }
    }
}

fn server(upstream: &raw::Upstream, url: &BaseUrl, api_key: Option<Secret>) -> Arc<Upstream> {
    let dialect = said(upstream.dialect.as_ref()).unwrap_or_default();
    Arc::new(Upstream {
        name: upstream.value_name().into(),
        tls: url.tls,
        host: url.host.clone(),
        port: url.port,
        base_path: url.path.clone(),
        api_key,
        ca_file: said(upstream.ca_file.as_ref()).flatten().map(|file: CaFile| file.0),
        timeouts: Timeouts {
            connect: wait(upstream.connect_timeout.as_ref(), CONNECT_TIMEOUT),
            first_byte: wait(upstream.first_byte_timeout.as_ref(), FIRST_BYTE_TIMEOUT),
            first_event: pause(upstream.first_event_timeout.as_ref())
                .unwrap_or(Some(FIRST_EVENT_TIMEOUT)),
            idle: wait(upstream.idle_timeout.as_ref(), IDLE_TIMEOUT),
        },
        max_in_flight: said(upstream.max_in_flight.as_ref()).map_or(MAX_IN_FLIGHT, |n| n.0),
        queue_length: said(upstream.queue_length.as_ref()).map_or(QUEUE_LENGTH, |n| n.0),
        queue_timeout: wait(upstream.queue_timeout.as_ref(), QUEUE_TIMEOUT),
        probe: pause(upstream.probe_interval.as_ref()).flatten(),
        limit_field: said(upstream.limit_field.as_ref()).unwrap_or_default(),
        dialect,
        system_first_only: said(upstream.system_first_only.as_ref())
            .unwrap_or(dialect == Dialect::ChatOnly),
        replays_reasoning: said(upstream.replays_reasoning.as_ref()).unwrap_or(false),
        on_hang_up: said(upstream.on_hang_up.as_ref()),
        stream_options: said(upstream.stream_options.as_ref()).unwrap_or(true),
        surfaces: said(upstream.surfaces.as_ref())
            .map_or_else(|| SURFACES.to_vec(), |SurfaceList(list)| list),
    })
}

/// The models with a usable route, and the names of all.
fn models(
    layers: &Layers,
    upstreams: &HashMap<&str, Option<Arc<Upstream>>>,
) -> Result<(Vec<Arc<Model>>, ModelNames), ConfigError> {
    let (models, origin) = layers.list(|raw| &raw.models);
    let mut names = ModelNames::new();
    let mut usable = Vec::new();
    for model in models {
        let id = model.id.value.0.as_str();
        let aliases = model.aliases.iter().flat_map(|a| a.value.0.iter().map(String::as_str));
        let mut is_taken =
            |name: &&str| names.insert(Arc::from(*name), Arc::<str>::from(id)).is_some();
        if let Some(twice) = std::iter::once(id).chain(aliases).find(|name| is_taken(name)) {
            let problem = format!("the model id or alias `{twice}` is used twice");
            return Err(origin.error(&model.id.span, problem));
        }
        let routes = routes(model, origin, upstreams)?;
        if !routes.is_empty() {
            usable.push(Arc::new(meaning(model, routes)));
        }
    }
    for model in models {
        fallbacks::check(model, (models, &usable), origin)?;
    }
    Ok((usable, names))
}

fn routes(
    model: &raw::Model,
    origin: &Origin,
    upstreams: &HashMap<&str, Option<Arc<Upstream>>>,
) -> Result<Vec<Route>, ConfigError> {
    let id = &model.id.value.0;
    if model.upstreams.is_empty() {
        let problem = format!("the model `{id}` needs at least one entry in `upstreams`");
        return Err(origin.error(&model.id.span, problem));
    }
    let mut routes: Vec<Route> = Vec::new();
    let mut named = HashSet::new();
    for route in &model.upstreams {
        let name = route.name.value.0.as_str();
        if !named.insert(name) {
            let problem = format!("the model `{id}` names the upstream `{name}` twice");
            return Err(origin.error(&route.name.span, problem));
        }
        let Some(upstream) = upstreams.get(name) else {
            let problem = format!(
                "the model `{id}` refers to the upstream `{name}`, which is not in [[upstreams]]"
            );
            return Err(origin.error(&route.name.span, problem));
        };
        let upstream_model = said(route.model.as_ref()).map_or_else(|| id.clone(), |m| m.0);
        let surfaces = said(route.surfaces.as_ref()).map(|SurfaceList(list)| list);
        routes.extend(upstream.iter().map(|upstream| Route {
            upstream: Arc::clone(upstream),
            upstream_model: upstream_model.as_str().into(),
            weight: said(route.weight.as_ref()).map(|weight| weight.0),
            surfaces: surfaces.clone(),
        }));
    }
    Ok(routes)
}

fn meaning(model: &raw::Model, routes: Vec<Route>) -> Model {
    let aliases = model.aliases.iter().flat_map(|a| &a.value.0).map(|a| a.as_str().into());
    let owned_by = said(model.owned_by.as_ref())
        .map_or_else(|| routes.first().map_or("", |r| &*r.upstream.name).to_owned(), |o| o.0);
    Model {
        id: model.id.value.0.as_str().into(),
        aliases: aliases.collect(),
        takes_effort: said(model.reasoning_effort.as_ref()).unwrap_or(true),
        translates: said(model.translate.as_ref()).unwrap_or(true),
        lists_aliases: said(model.list_aliases.as_ref()).unwrap_or(false),
        context_tokens: model.context_tokens.value.0,
        output_tokens: said(model.output_tokens.as_ref()).map_or(OUTPUT_TOKENS, |n| n.0),
        prices: prices(model),
        hidden_reasoning: said(model.hidden_reasoning.as_ref()).unwrap_or(false),
        image_ticks: said(model.image_price.as_ref()).map_or(0, |price| price.0),
        image_tokens: said(model.image_tokens.as_ref()).map_or(IMAGE_TOKENS, |n| n.0),
        prompt_overhead_tokens: said(model.prompt_overhead_tokens.as_ref()).map_or(0, |n| n.0),
        created: said(model.created.as_ref()).map_or(0, |c| c.0),
        owned_by,
        first_event_timeout: pause(model.first_event_timeout.as_ref()),
        fallbacks: Fallbacks {
            context: said(model.context_fallback.as_ref()).map(|id| id.0.into()),
            content: said(model.content_fallback.as_ref()).map(|id| id.0.into()),
        },
        routes,
    }
}

fn prices(model: &raw::Model) -> Prices {
    let raw::Prices { input, cached_input, cache_write, output } = &model.prices;
    let short = step([input, cached_input, output], cache_write.as_ref());
    match &model.long_prices {
        Some(raw::LongPrices { from, input, cached_input, cache_write, output }) => {
            let long = step([input, cached_input, output], cache_write.as_ref());
            Prices { short, long, long_from: from.value.0 }
        }
        None => Prices { short, long: short, long_from: 0 },
    }
}

/// Cache writes cost as much as other input unless a price is configured.
fn step(
    [input, cached_input, output]: [&Field<TokenPrice>; 3],
    cache_write: Option<&Field<TokenPrice>>,
) -> PriceStep {
    PriceStep {
        input: input.value.0,
        cached_input: cached_input.value.0,
        cache_write: cache_write.map_or(input.value.0, |price| price.value.0),
        output: output.value.0,
    }
}

pub(super) fn said<T: Clone>(field: Option<&Field<T>>) -> Option<T> {
    field.map(|f| f.value.clone())
}

/// A configured time; inside, `None` = 0, which turns it off.
fn pause(field: Option<&Field<Seconds<0>>>) -> Option<Option<Duration>> {
    said(field).map(|seconds| Some(seconds.0).filter(|time| !time.is_zero()))
}

fn wait(field: Option<&Field<Seconds<1>>>, otherwise: Duration) -> Duration {
    field.map_or(otherwise, |f| f.value.0)
}

impl raw::Upstream {
    fn value_name(&self) -> &str {
        &self.name.value.0
    }
}
