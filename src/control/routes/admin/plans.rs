//! Plans, for admins: added, changed, retired.

use crate::account::id::PlanId;
use crate::account::plan::{Plan, PlanLimits, PolicyChange, RequestPolicy, ServerTools, Words};
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::{Form, Object, Segment};
use crate::control::openapi::errors::{Away, BadBody, NoSuchPlan, NotAdmin, PlanTaken};
use crate::control::routes::keys::{self, MOST_REQUESTS, MOST_TOKENS, ModelId, bounded};
use crate::control::routes::plans::{PlanView, WindowView};
use crate::control::state::ControlState;
use crate::control::views::fields::{Label, present};
use crate::store::PlanChange;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::tz::TimeZone;
use serde::Deserialize;
use utoipa::ToSchema;

/// Words in one of a plan's lists.
const MOST_WORDS: usize = 32;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanForm {
    #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,63}$", example = "team")]
    id: PlanName,
    name: Label,
    #[schema(maximum = 100_000_000, example = 2500)]
    price_cents: u32,
    #[schema(maximum = 1_000_000_000_000_i64, example = 50_000)]
    max_tokens_per_day: u64,
    #[schema(maximum = 1_000_000_000, example = 1000)]
    max_requests_per_day: u64,
    #[schema(value_type = WindowView)]
    window: Object<WindowView>,
    #[schema(minimum = 1, maximum = 1_000_000, example = 20)]
    concurrent_streams: u32,
    /// Left out or `null` = every model.
    #[serde(default)]
    #[schema(max_items = 100)]
    models: Option<Vec<ModelId>>,
    /// An IANA name; left out = UTC.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    time_zone: Option<Zone>,
    /// Server-side tools, which the upstream runs and bills per call: `allow`, `strip` or `refuse`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "allow")]
    server_tools: Option<ServerTools>,
    /// Maximum number of server-side tool calls per request.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    max_tool_calls: Option<u32>,
    /// Allowed values of `service_tier`; others are removed. `any` = all.
    #[serde(default)]
    #[schema(max_items = 32)]
    service_tiers: Option<Vec<Word>>,
    /// Allowed image sizes; others are refused.
    #[serde(default)]
    #[schema(max_items = 32)]
    image_sizes: Option<Vec<Word>>,
    /// Allowed image qualities; others are refused.
    #[serde(default)]
    #[schema(max_items = 32)]
    image_qualities: Option<Vec<Word>>,
    /// True if requests may refer to files and other objects in the upstream account, which all
    /// users share.
    #[serde(default)]
    account_references: Option<bool>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPatch {
    #[serde(default)]
    name: Option<Label>,
    #[serde(default)]
    #[schema(maximum = 100_000_000)]
    price_cents: Option<u32>,
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000_i64)]
    max_tokens_per_day: Option<u64>,
    #[serde(default)]
    #[schema(maximum = 1_000_000_000)]
    max_requests_per_day: Option<u64>,
    #[serde(default)]
    #[schema(value_type = Option<WindowView>)]
    window: Option<Object<WindowView>>,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    concurrent_streams: Option<u32>,
    /// `null` = every model.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<ModelId>>, max_items = 100)]
    models: Option<Option<Vec<ModelId>>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    time_zone: Option<Zone>,
    /// False brings a retired plan back.
    #[serde(default)]
    retired: Option<bool>,
    /// Server-side tools, which the upstream runs and bills per call: `allow`, `strip` or `refuse`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "allow")]
    server_tools: Option<ServerTools>,
    /// Maximum number of server-side tool calls per request.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    max_tool_calls: Option<u32>,
    /// Allowed values of `service_tier`; others are removed. `any` = all.
    #[serde(default)]
    #[schema(max_items = 32)]
    service_tiers: Option<Vec<Word>>,
    /// Allowed image sizes; others are refused.
    #[serde(default)]
    #[schema(max_items = 32)]
    image_sizes: Option<Vec<Word>>,
    /// Allowed image qualities; others are refused.
    #[serde(default)]
    #[schema(max_items = 32)]
    image_qualities: Option<Vec<Word>>,
    /// True if requests may refer to files and other objects in the upstream account, which all
    /// users share.
    #[serde(default)]
    account_references: Option<bool>,
}

/// The id of a plan.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct PlanName(String);

/// A word of a list, such as `1024x1024`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._:/-]{1,64}$", example = "auto")]
pub struct Word(String);

/// A time zone by its name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(TimeZone);

/// Add a plan
#[utoipa::path(post, path = "/api/v1/admin/plans", tag = "Admin", security(("token" = [])),
    request_body = PlanForm,
    responses((status = 201, body = PlanView), BadBody, NotAdmin, PlanTaken, Away))]
pub async fn add(
    State(state): State<ControlState>,
    admin: Admin,
    Form(form): Form<PlanForm>,
) -> Result<(StatusCode, Json<PlanView>), ApiError> {
    let plan = form.plan(&state)?;
    if !state.store.add_plan(&plan, &admin.by).await? {
        return Err(ApiError::PlanTaken);
    }
    Ok((StatusCode::CREATED, Json(PlanView::of(plan))))
}

/// Change a plan
///
/// Holds for its users from their next request on. A plan changed here is no longer set by the
/// configuration.
#[utoipa::path(patch, path = "/api/v1/admin/plans/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "The plan's id")), request_body = PlanPatch,
    responses((status = 200, body = PlanView), BadBody, NotAdmin, NoSuchPlan, Away))]
pub async fn change(
    State(state): State<ControlState>,
    admin: Admin,
    Segment(id): Segment,
    Form(form): Form<PlanPatch>,
) -> Result<Json<PlanView>, ApiError> {
    let id = PlanId::from(id.as_str());
    if state.store.plan(&id).await?.is_none() {
        return Err(ApiError::NoSuch("plan"));
    }
    let changed = state.store.change_plan(&id, &form.change(&state)?, &admin.by).await?;
    changed.map(|plan| Json(PlanView::of(plan))).ok_or(ApiError::NoSuch("plan"))
}

/// Retire a plan
///
/// Nobody can come to it any more; those who have it keep it.
#[utoipa::path(delete, path = "/api/v1/admin/plans/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "The plan's id")),
    responses((status = 200, body = PlanView), NotAdmin, NoSuchPlan, Away))]
pub async fn retire(
    State(state): State<ControlState>,
    admin: Admin,
    Segment(id): Segment,
) -> Result<Json<PlanView>, ApiError> {
    let retired = PlanChange { retired: Some(true), ..PlanChange::default() };
    let plan = state.store.change_plan(&PlanId::from(id.as_str()), &retired, &admin.by).await?;
    plan.map(|plan| Json(PlanView::of(plan))).ok_or(ApiError::NoSuch("plan"))
}

impl PlanForm {
    fn plan(self, state: &ControlState) -> Result<Plan, ApiError> {
        let policy = PolicyChange {
            server_tools: self.server_tools,
            max_tool_calls: self.max_tool_calls.map(tool_calls).transpose()?,
            service_tiers: words("service_tiers", self.service_tiers)?,
            image_sizes: words("image_sizes", self.image_sizes)?,
            image_qualities: words("image_qualities", self.image_qualities)?,
            account_references: self.account_references,
        };
        Ok(Plan {
            id: PlanId::from(self.id.0.as_str()),
            name: self.name.0,
            price_cents: cents(self.price_cents)?,
            retired: false,
            limits: PlanLimits {
                tokens_per_day: tokens(self.max_tokens_per_day)?,
                requests_per_day: requests(self.max_requests_per_day)?,
                window: self.window.0.checked("window")?,
                concurrent_streams: streams(self.concurrent_streams)?,
                models: keys::models(state, "models", self.models)?,
                time_zone: self.time_zone.map_or(TimeZone::UTC, |zone| zone.0),
                policy: policy.applied_to(RequestPolicy::default()),
            },
        })
    }
}

impl PlanPatch {
    fn change(self, state: &ControlState) -> Result<PlanChange, ApiError> {
        let models = |names| keys::models(state, "models", names);
        Ok(PlanChange {
            name: self.name.map(|name| name.0),
            price_cents: self.price_cents.map(cents).transpose()?,
            retired: self.retired,
            tokens_per_day: self.max_tokens_per_day.map(tokens).transpose()?,
            requests_per_day: self.max_requests_per_day.map(requests).transpose()?,
            window: self.window.map(|window| window.0.checked("window")).transpose()?,
            concurrent_streams: self.concurrent_streams.map(streams).transpose()?,
            models: self.models.map(models).transpose()?,
            time_zone: self.time_zone.map(|zone| zone.0),
            policy: PolicyChange {
                server_tools: self.server_tools,
                max_tool_calls: self.max_tool_calls.map(tool_calls).transpose()?,
                service_tiers: words("service_tiers", self.service_tiers)?,
                image_sizes: words("image_sizes", self.image_sizes)?,
                image_qualities: words("image_qualities", self.image_qualities)?,
                account_references: self.account_references,
            },
        })
    }
}

fn tokens(given: u64) -> Result<u64, ApiError> {
    bounded("max_tokens_per_day", Some(given), MOST_TOKENS).map(|_| given)
}

fn requests(given: u64) -> Result<u64, ApiError> {
    bounded("max_requests_per_day", Some(given), MOST_REQUESTS).map(|_| given)
}

fn cents(given: u32) -> Result<u32, ApiError> {
    bounded("price_cents", Some(given.into()), 100_000_000).map(|_| given)
}

fn streams(given: u32) -> Result<u32, ApiError> {
    if (1..=1_000_000).contains(&given) {
        return Ok(given);
    }
    let problem = "`concurrent_streams` is 1 to 1000000.";
    Err(ApiError::invalid("concurrent_streams", problem))
}

fn tool_calls(given: u32) -> Result<u32, ApiError> {
    if (1..=1000).contains(&given) {
        return Ok(given);
    }
    Err(ApiError::invalid("max_tool_calls", "`max_tool_calls` must be between 1 and 1000."))
}

fn words(param: &str, given: Option<Vec<Word>>) -> Result<Option<Words>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    if given.len() > MOST_WORDS {
        let problem = format!("`{param}` must have at most {MOST_WORDS} entries.");
        return Err(ApiError::invalid(param, problem));
    }
    Ok(Some(given.into_iter().map(|word| word.0.into()).collect()))
}

impl TryFrom<String> for Word {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
        if is_plain && (1..=64).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err("a word has 1 to 64 letters, digits and `._:/-`")
        }
    }
}

impl TryFrom<String> for PlanName {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_plain && (1..=64).contains(&text.len()) && !text.starts_with('-') {
            Ok(Self(text))
        } else {
            Err("a plan's id has 1 to 64 lower-case letters, digits and dashes")
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "UTC" => Ok(Self(TimeZone::UTC)),
            name => TimeZone::get(name).map(Self).map_err(|_| "this is not an IANA time zone"),
        }
    }
}
