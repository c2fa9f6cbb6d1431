//! Plans, for admins: create, change, retire.

use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::{JsonBody, PathParam};
use crate::control::openapi::errors::{
    AdminRequired, InvalidBody, PlanExists, PlanNotFound, Unavailable,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Label, present};
use crate::control::views::limits::{
    ConcurrentStreams, MaxToolCalls, ModelNames, PriceCents, RequestsPerDay, TokensPerDay,
    WindowForm, WordList,
};
use crate::control::views::plan::{PlanView, WindowView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::cached_tokens::CachedTokenFraction;
use domain::id::PlanId;
use domain::plan::{Plan, PlanLimits, PolicyChange, RequestPolicy, ServerTools};
use jiff::tz::TimeZone;
use serde::Deserialize;
use store::PlanChange;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanForm {
    #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,63}$", example = "team")]
    pub id: PlanName,
    pub name: Label,
    pub price_cents: PriceCents,
    pub max_tokens_per_day: TokensPerDay,
    /// The part of a cached prompt token that counts against `max_tokens_per_day`: 0 to 1, at most three decimals; default: 1.
    #[serde(default)]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1, multiple_of = 0.001, example = 0.1)]
    pub cached_token_fraction: Option<CachedTokenFraction>,
    pub max_requests_per_day: RequestsPerDay,
    #[schema(value_type = WindowView)]
    pub window: WindowForm,
    pub concurrent_streams: ConcurrentStreams,
    /// Model ids or aliases; missing or `null` for all models.
    #[serde(default)]
    pub models: Option<ModelNames>,
    /// IANA time zone in which a day begins; default: UTC.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    pub time_zone: Option<Zone>,
    /// Server-side tools, which the upstream runs and bills per call: `allow`, `strip` or `refuse`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "allow")]
    pub server_tools: Option<ServerTools>,
    /// Maximum number of server-side tool calls per request.
    #[serde(default)]
    pub max_tool_calls: Option<MaxToolCalls>,
    /// Allowed values of `service_tier`; others are removed. `any` allows all.
    #[serde(default)]
    pub service_tiers: Option<WordList>,
    /// Allowed image sizes; others are refused.
    #[serde(default)]
    pub image_sizes: Option<WordList>,
    /// Allowed image qualities; others are refused.
    #[serde(default)]
    pub image_qualities: Option<WordList>,
    /// True if requests may refer to files and other objects in the upstream account, which all
    /// users share.
    #[serde(default)]
    pub account_references: Option<bool>,
}

/// Fields to change. Missing fields stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPatch {
    #[serde(default)]
    pub name: Option<Label>,
    #[serde(default)]
    pub price_cents: Option<PriceCents>,
    #[serde(default)]
    pub max_tokens_per_day: Option<TokensPerDay>,
    /// The part of a cached prompt token that counts against `max_tokens_per_day`: 0 to 1, at most three decimals.
    #[serde(default)]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1, multiple_of = 0.001, example = 0.1)]
    pub cached_token_fraction: Option<CachedTokenFraction>,
    #[serde(default)]
    pub max_requests_per_day: Option<RequestsPerDay>,
    #[serde(default)]
    #[schema(value_type = Option<WindowView>)]
    pub window: Option<WindowForm>,
    #[serde(default)]
    pub concurrent_streams: Option<ConcurrentStreams>,
    /// Model ids or aliases; `null` for all models.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<ModelNames>)]
    pub models: Option<Option<ModelNames>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub time_zone: Option<Zone>,
    /// False reopens a retired plan.
    #[serde(default)]
    pub retired: Option<bool>,
    /// Server-side tools, which the upstream runs and bills per call: `allow`, `strip` or `refuse`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "allow")]
    pub server_tools: Option<ServerTools>,
    /// Maximum number of server-side tool calls per request.
    #[serde(default)]
    pub max_tool_calls: Option<MaxToolCalls>,
    /// Allowed values of `service_tier`; others are removed. `any` allows all.
    #[serde(default)]
    pub service_tiers: Option<WordList>,
    /// Allowed image sizes; others are refused.
    #[serde(default)]
    pub image_sizes: Option<WordList>,
    /// Allowed image qualities; others are refused.
    #[serde(default)]
    pub image_qualities: Option<WordList>,
    /// True if requests may refer to files and other objects in the upstream account, which all
    /// users share.
    #[serde(default)]
    pub account_references: Option<bool>,
}

/// The id of a plan.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct PlanName(String);

/// A time zone.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(TimeZone);

/// Create a plan
#[utoipa::path(post, path = "/api/v1/admin/plans", tag = "Admin", security(("token" = [])),
    request_body = PlanForm,
    responses((status = 201, body = PlanView), InvalidBody, AdminRequired, PlanExists, Unavailable))]
pub async fn add(
    State(state): State<ControlState>,
    admin: Admin,
    JsonBody(form): JsonBody<PlanForm>,
) -> Result<(StatusCode, Json<PlanView>), ApiError> {
    let plan = add_plan(&state, &admin, form).await?;
    Ok((StatusCode::CREATED, Json(PlanView::of(plan))))
}

/// Adds a plan.
pub async fn add_plan(
    state: &ControlState,
    admin: &Admin,
    form: PlanForm,
) -> Result<Plan, ApiError> {
    let plan = form.plan(state)?;
    if state.store.add_plan(&plan, &admin.by).await? { Ok(plan) } else { Err(ApiError::PlanExists) }
}

/// Change a plan
///
/// Takes effect with the next request of its users. A plan that was changed here is no longer updated from the
/// configuration.
#[utoipa::path(patch, path = "/api/v1/admin/plans/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the plan")), request_body = PlanPatch,
    responses((status = 200, body = PlanView), InvalidBody, AdminRequired, PlanNotFound, Unavailable))]
pub async fn change(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
    JsonBody(form): JsonBody<PlanPatch>,
) -> Result<Json<PlanView>, ApiError> {
    let changed = change_plan(&state, &admin, &id, form).await?;
    Ok(Json(PlanView::of(changed)))
}

/// Retire a plan
///
/// Closes the plan to new subscribers. Its users keep it.
#[utoipa::path(delete, path = "/api/v1/admin/plans/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the plan")),
    responses((status = 200, body = PlanView), AdminRequired, PlanNotFound, Unavailable))]
pub async fn retire(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
) -> Result<Json<PlanView>, ApiError> {
    let retired = PlanPatch { retired: Some(true), ..PlanPatch::default() };
    let changed = change_plan(&state, &admin, &id, retired).await?;
    Ok(Json(PlanView::of(changed)))
}

/// Changes the plan with this id. Returns the plan afterwards.
pub async fn change_plan(
    state: &ControlState,
    admin: &Admin,
    id: &str,
    form: PlanPatch,
) -> Result<Plan, ApiError> {
    let plan = state.plan(id).await?;
    let changed = state.store.change_plan(&plan.id, &form.change(state)?, &admin.by).await?;
    changed.ok_or(ApiError::NotFound("plan"))
}

impl PlanForm {
    fn plan(self, state: &ControlState) -> Result<Plan, ApiError> {
        let policy = PolicyChange {
            server_tools: self.server_tools,
            max_tool_calls: self.max_tool_calls.map(|calls| calls.0),
            service_tiers: self.service_tiers.map(|words| words.0),
            image_sizes: self.image_sizes.map(|words| words.0),
            image_qualities: self.image_qualities.map(|words| words.0),
            account_references: self.account_references,
        };
        Ok(Plan {
            id: PlanId::from(self.id.0.as_str()),
            name: self.name.0,
            price_cents: self.price_cents.0,
            retired: false,
            limits: PlanLimits {
                tokens_per_day: self.max_tokens_per_day.0,
                cached_token_fraction: self.cached_token_fraction.unwrap_or_default(),
                requests_per_day: self.max_requests_per_day.0,
                window: self.window.0,
                concurrent_streams: self.concurrent_streams.0,
                models: state.model_ids("models", self.models)?,
                time_zone: self.time_zone.map_or(TimeZone::UTC, |zone| zone.0),
                policy: policy.applied_to(RequestPolicy::default()),
            },
        })
    }
}

impl PlanPatch {
    fn change(self, state: &ControlState) -> Result<PlanChange, ApiError> {
        let models = |names| state.model_ids("models", names);
        Ok(PlanChange {
            name: self.name.map(|name| name.0),
            price_cents: self.price_cents.map(|price| price.0),
            retired: self.retired,
            tokens_per_day: self.max_tokens_per_day.map(|limit| limit.0),
            cached_token_fraction: self.cached_token_fraction,
            requests_per_day: self.max_requests_per_day.map(|limit| limit.0),
            window: self.window.map(|window| window.0),
            concurrent_streams: self.concurrent_streams.map(|limit| limit.0),
            models: self.models.map(models).transpose()?,
            time_zone: self.time_zone.map(|zone| zone.0),
            policy: PolicyChange {
                server_tools: self.server_tools,
                max_tool_calls: self.max_tool_calls.map(|calls| calls.0),
                service_tiers: self.service_tiers.map(|words| words.0),
                image_sizes: self.image_sizes.map(|words| words.0),
                image_qualities: self.image_qualities.map(|words| words.0),
                account_references: self.account_references,
            },
        })
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
            Err(
                "a plan id must have 1 to 64 lower-case letters, digits and hyphens, and must not begin with a hyphen",
            )
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "UTC" => Ok(Self(TimeZone::UTC)),
            name => TimeZone::get(name)
                .map(Self)
                .map_err(|_| "must be an IANA time zone such as Europe/Berlin"),
        }
    }
}
