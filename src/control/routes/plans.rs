//! Plans: for anyone to read, and for users to ask for.

use super::profile::UserView;
use crate::account::id::{PlanId, UpgradeId};
use crate::account::plan::{Plan, PlanLimits, RequestPolicy, ServerTools, Window, Words};
use crate::clock;
use crate::config::Billing;
use crate::control::api_error::ApiError;
use crate::control::auth::SignedIn;
use crate::control::http::etag;
use crate::control::http::extract::{Form, Segment};
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{
    Away, BadBody, Cached, NoSuchPlan, NotSignedIn, NotThisPlan, TooOften,
};
use crate::control::state::ControlState;
use crate::store::UserChange;
use crate::store::upgrades::{Upgrade, UpgradeStatus};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PlanView {
    #[schema(value_type = String, example = "leveler")]
    id: PlanId,
    #[schema(example = "Leveler")]
    name: String,
    /// A month, in US cents.
    #[schema(example = 400)]
    price_cents: u32,
    /// True: nobody can come to it any more.
    retired: bool,
    #[serde(flatten)]
    limits: LimitsView,
}

/// What may be used.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LimitsView {
    #[schema(example = 5000)]
    max_tokens_per_day: u64,
    #[schema(example = 100)]
    max_requests_per_day: u64,
    window: WindowView,
    #[schema(example = 50)]
    concurrent_streams: u32,
    /// `null` = every model.
    #[schema(required, value_type = Option<Vec<String>>)]
    models: Option<Arc<[Arc<str>]>>,
    /// Where the plan's day begins.
    #[schema(example = "UTC")]
    time_zone: String,
    #[serde(flatten)]
    policy: PolicyView,
}

/// Limits on request features that tokens do not cover.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyView {
    /// Server-side tools: `allow`, `strip` (remove from the request) or `refuse`.
    #[schema(value_type = String, example = "allow")]
    server_tools: ServerTools,
    /// Maximum number of server-side tool calls per request.
    #[schema(example = 20)]
    max_tool_calls: u32,
    /// Allowed values of `service_tier`; others are removed. `any` = all.
    #[schema(value_type = Vec<String>)]
    service_tiers: Words,
    /// Allowed image sizes; others are refused.
    #[schema(value_type = Vec<String>)]
    image_sizes: Words,
    /// Allowed image qualities; others are refused.
    #[schema(value_type = Vec<String>)]
    image_qualities: Words,
    /// True if requests may refer to files and other objects in the upstream account.
    account_references: bool,
}

/// Requests that may come at once, and how soon they are free again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowView {
    #[schema(minimum = 1, maximum = 1_000_000, example = 100)]
    pub requests: u32,
    #[schema(minimum = 1, maximum = 86_400, example = 60)]
    pub seconds: u32,
}

/// What a plan costs for what it gives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Comparison {
    #[serde(flatten)]
    plan: PlanView,
    /// US cents for 1,000 tokens when all of a 30-day month is used.
    #[schema(required, example = 2.667)]
    cents_per_1000_tokens: Option<f64>,
    /// US cents for a request when all of a 30-day month is used.
    #[schema(required, example = 0.133)]
    cents_per_request: Option<f64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeForm {
    #[schema(example = "log-min")]
    plan_id: String,
}

/// The plan was changed at once.
#[derive(Serialize, ToSchema)]
pub struct Upgraded {
    #[schema(example = "approved")]
    status: &'static str,
    user: UserView,
}

/// A request for another plan.
#[derive(Serialize, ToSchema)]
pub struct UpgradeView {
    #[schema(value_type = String, format = Uuid)]
    id: UpgradeId,
    #[schema(value_type = String, format = Uuid)]
    user_id: crate::account::id::UserId,
    #[schema(value_type = String, example = "baby-free")]
    from: PlanId,
    #[schema(value_type = String, example = "log-min")]
    to: PlanId,
    /// `pending`, `approved`, `rejected`, or `superseded` by a later one.
    #[schema(value_type = String, example = "pending")]
    status: UpgradeStatus,
    asked_at: Timestamp,
    #[schema(required)]
    decided_at: Option<Timestamp>,
    #[schema(required)]
    decided_by: Option<String>,
}

/// List plans
///
/// The cheapest first, without retired ones.
#[utoipa::path(get, path = "/api/v1/plans", tag = "Plans",
    responses((status = 200, body = Page<PlanView>), Cached, Away))]
pub async fn list(
    State(state): State<ControlState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plans = on_offer(&state).await?.map(PlanView::of).collect();
    Ok(etag::respond(&headers, &Page::<PlanView>::whole(plans)))
}

/// Show a plan
#[utoipa::path(get, path = "/api/v1/plans/{plan_id}", tag = "Plans",
    params(("plan_id" = String, Path, description = "The plan's id", example = "leveler")),
    responses((status = 200, body = PlanView), Cached, NoSuchPlan, Away))]
pub async fn show(
    State(state): State<ControlState>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plan = state.store.plan(&PlanId::from(id.as_str())).await?;
    let plan = plan.ok_or(ApiError::NoSuch("plan"))?;
    Ok(etag::respond(&headers, &PlanView::of(plan)))
}

/// Compare plans
///
/// With the price of 1,000 tokens and of a request.
#[utoipa::path(get, path = "/api/v1/plans/compare/pricing", tag = "Plans",
    responses((status = 200, body = Page<Comparison>), Cached, Away))]
pub async fn compare(
    State(state): State<ControlState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plans = on_offer(&state).await?.map(Comparison::of).collect();
    Ok(etag::respond(&headers, &Page::<Comparison>::whole(plans)))
}

/// Change your plan
///
/// At once where the operator lets everybody choose (200); else an admin decides (202). What was
/// used today stays used.
#[utoipa::path(post, path = "/api/v1/plans/upgrade", tag = "Plans", security(("token" = [])),
    request_body = UpgradeForm,
    responses((status = 200, body = Upgraded), (status = 202, body = UpgradeView),
        BadBody, NotSignedIn, NoSuchPlan, NotThisPlan, TooOften, Away))]
pub async fn upgrade(
    State(state): State<ControlState>,
    who: SignedIn,
    Form(form): Form<UpgradeForm>,
) -> Result<Response, ApiError> {
    let plan = state.store.plan(&PlanId::from(form.plan_id.as_str())).await?;
    let plan = plan.ok_or(ApiError::NoSuch("plan"))?;
    if plan.id == who.user.plan {
        return Err(ApiError::SamePlan);
    }
    if plan.retired {
        return Err(ApiError::RetiredPlan);
    }
    state.identity.may_change(who.user.id, clock::instant())?;
    match state.identity.billing {
        Billing::Open => {
            let change = UserChange { plan: Some(plan.id), ..UserChange::default() };
            let changed = state.store.change_user(who.user.id, &change, &who.by).await?;
            let user = UserView::of(&state, changed.ok_or(ApiError::BadToken)?).await?;
            Ok(Json(Upgraded { status: "approved", user }).into_response())
        }
        Billing::Manual => {
            let asked = state.store.ask_upgrade(who.user.id, &plan.id, &who.by).await?;
            Ok((StatusCode::ACCEPTED, Json(UpgradeView::of(asked))).into_response())
        }
    }
}

async fn on_offer(state: &ControlState) -> Result<impl Iterator<Item = Plan>, ApiError> {
    Ok(state.store.plans().await?.into_iter().filter(|plan| !plan.retired))
}

impl PlanView {
    /// Of a plan as it stands.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        Self {
            id: plan.id,
            name: plan.name,
            price_cents: plan.price_cents,
            retired: plan.retired,
            limits: LimitsView::of(plan.limits),
        }
    }
}

impl LimitsView {
    /// Of limits as they hold.
    #[must_use]
    pub fn of(limits: PlanLimits) -> Self {
        Self {
            max_tokens_per_day: limits.tokens_per_day,
            max_requests_per_day: limits.requests_per_day,
            window: WindowView {
                requests: limits.window.capacity,
                seconds: limits.window.refill_seconds,
            },
            concurrent_streams: limits.concurrent_streams,
            models: limits.models,
            time_zone: zone_name(&limits.time_zone),
            policy: PolicyView::of(limits.policy),
        }
    }
}

impl PolicyView {
    fn of(policy: RequestPolicy) -> Self {
        Self {
            server_tools: policy.server_tools,
            max_tool_calls: policy.max_tool_calls,
            service_tiers: policy.service_tiers,
            image_sizes: policy.image_sizes,
            image_qualities: policy.image_qualities,
            account_references: policy.account_references,
        }
    }
}

impl WindowView {
    /// The window, if it is one; `param` is where it was written.
    ///
    /// # Errors
    /// Outside of its bounds.
    pub fn checked(self, param: &str) -> Result<Window, ApiError> {
        if !(1..=1_000_000).contains(&self.requests) || !(1..=86_400).contains(&self.seconds) {
            let problem = format!("`{param}` has 1 to 1000000 requests in 1 to 86400 seconds.");
            return Err(ApiError::invalid(param, problem));
        }
        Ok(Window { capacity: self.requests, refill_seconds: self.seconds })
    }
}

fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().unwrap_or("UTC").to_owned()
}

impl Comparison {
    fn of(plan: Plan) -> Self {
        let cents = f64::from(plan.price_cents);
        let month = |each_day: u64| each_day as f64 * 30.0;
        let share = |units: f64| (units > 0.0).then(|| (cents / units * 1e3).round() / 1e3);
        Self {
            cents_per_1000_tokens: share(month(plan.limits.tokens_per_day) / 1000.0),
            cents_per_request: share(month(plan.limits.requests_per_day)),
            plan: PlanView::of(plan),
        }
    }
}

impl UpgradeView {
    /// Of a request as it stands.
    #[must_use]
    pub fn of(upgrade: Upgrade) -> Self {
        Self {
            id: upgrade.id,
            user_id: upgrade.user,
            from: upgrade.from,
            to: upgrade.to,
            status: upgrade.status,
            asked_at: upgrade.asked_at,
            decided_at: upgrade.decided_at,
            decided_by: upgrade.decided_by,
        }
    }
}
