//! Plans, which are public, and the plan changes of users.

use crate::config::Billing;
use crate::control::api_error::ApiError;
use crate::control::auth::CurrentUser;
use crate::control::http::etag;
use crate::control::http::extract::{JsonBody, PathParam};
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{
    InvalidBody, InvalidPlanChange, LoginRequired, NotModified, PlanNotFound, RateLimited,
    Unavailable,
};
use crate::control::state::ControlState;
use crate::control::views::plan::PlanView;
use crate::control::views::upgrade::UpgradeView;
use crate::control::views::user::UserView;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::plan::Plan;
use domain::user::User;
use serde::{Deserialize, Serialize};
use store::UserChange;
use store::upgrades::Upgrade;
use system::clock;
use utoipa::ToSchema;

/// A plan with its price per unit.
#[derive(Debug, Serialize, ToSchema)]
pub struct Comparison {
    #[serde(flatten)]
    plan: PlanView,
    /// US cents per 1,000 tokens if the limit of 30 days is used up; `null` without a limit.
    #[schema(required, example = 2.667)]
    cents_per_1000_tokens: Option<f64>,
    /// US cents per request if the limit of 30 days is used up; `null` without a limit.
    #[schema(required, example = 0.133)]
    cents_per_request: Option<f64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeForm {
    #[schema(example = "log-min")]
    plan_id: String,
}

/// The plan was changed immediately.
#[derive(Serialize, ToSchema)]
pub struct Upgraded {
    #[schema(example = "approved")]
    status: &'static str,
    user: UserView,
}

/// Outcome of a plan change that was asked for.
pub enum PlanChange {
    /// The user has the plan.
    Applied(Box<User>),
    /// An admin decides.
    Requested(Upgrade),
}

/// List plans
///
/// Cheapest first, without retired plans.
#[utoipa::path(get, path = "/api/v1/plans", tag = "Plans",
    responses((status = 200, body = Page<PlanView>), NotModified, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plans = open_plans(&state).await?.map(PlanView::of).collect();
    Ok(etag::respond(&headers, &Page::<PlanView>::single(plans)))
}

/// Get a plan
#[utoipa::path(get, path = "/api/v1/plans/{plan_id}", tag = "Plans",
    params(("plan_id" = String, Path, description = "Id of the plan", example = "leveler")),
    responses((status = 200, body = PlanView), NotModified, PlanNotFound, Unavailable))]
pub async fn show(
    State(state): State<ControlState>,
    PathParam(id): PathParam,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plan = state.plan(&id).await?;
    Ok(etag::respond(&headers, &PlanView::of(plan)))
}

/// Compare plans
///
/// Adds the price per 1,000 tokens and per request.
#[utoipa::path(get, path = "/api/v1/plans/compare/pricing", tag = "Plans",
    responses((status = 200, body = Page<Comparison>), NotModified, Unavailable))]
pub async fn compare(
    State(state): State<ControlState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plans = open_plans(&state).await?.map(Comparison::of).collect();
    Ok(etag::respond(&headers, &Page::<Comparison>::single(plans)))
}

/// Change your plan
///
/// Applied immediately (200) if the operator allows it; otherwise an admin decides (202). Usage of the current
/// day is kept.
#[utoipa::path(post, path = "/api/v1/plans/upgrade", tag = "Plans", security(("token" = [])),
    request_body = UpgradeForm,
    responses((status = 200, body = Upgraded), (status = 202, body = UpgradeView),
        InvalidBody, LoginRequired, PlanNotFound, InvalidPlanChange, RateLimited, Unavailable))]
pub async fn upgrade(
    State(state): State<ControlState>,
    current: CurrentUser,
    JsonBody(form): JsonBody<UpgradeForm>,
) -> Result<Response, ApiError> {
    match change_to(&state, &current, &form.plan_id).await? {
        PlanChange::Applied(user) => {
            let user = UserView::of(&state, *user).await?;
            Ok(Json(Upgraded { status: "approved", user }).into_response())
        }
        PlanChange::Requested(upgrade) => {
            Ok((StatusCode::ACCEPTED, Json(UpgradeView::of(upgrade))).into_response())
        }
    }
}

/// Changes the plan of a user, or requests it where an admin decides.
pub async fn change_to(
    state: &ControlState,
    current: &CurrentUser,
    plan_id: &str,
) -> Result<PlanChange, ApiError> {
    let plan = state.open_plan(plan_id, &current.user.plan).await?;
    if plan.id == current.user.plan {
        return Err(ApiError::SamePlan);
    }
    state.identity.may_change(current.user.id, clock::instant())?;
    match state.identity.billing {
        Billing::Open => {
            let change = UserChange { plan: Some(plan.id), ..UserChange::default() };
            let changed = state.store.change_user(current.user.id, &change, &current.by).await?;
            Ok(PlanChange::Applied(Box::new(changed.ok_or(ApiError::InvalidToken)?)))
        }
        Billing::Manual => {
            let upgrade = state.store.request_upgrade(current.user.id, &plan.id, &current.by);
            Ok(PlanChange::Requested(upgrade.await?))
        }
    }
}

async fn open_plans(state: &ControlState) -> Result<impl Iterator<Item = Plan>, ApiError> {
    Ok(state.store.plans().await?.into_iter().filter(|plan| plan.is_open_to(None)))
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
