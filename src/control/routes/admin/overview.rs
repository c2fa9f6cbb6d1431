//! `GET /api/v1/admin/stats/overview`: users, today's usage and revenue.
//!
//! The store counts all users and sums up the whole day for it, so results are cached for some seconds:
//! see [`StaleWhileRevalidate`].

use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::http::stale_cache::StaleWhileRevalidate;
use crate::control::openapi::errors::{AdminReaderRequired, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::usage::{ModelSums, SumsView, model_sums};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::day::Day;
use domain::id::PlanId;
use domain::plan::Plan;
use domain::user::UserStatus;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use store::reports::Sums;
use store::{Store, StoreError};
use system::clock;
use utoipa::ToSchema;

/// Cached overviews by day.
pub type Overviews = StaleWhileRevalidate<Day, Overview>;

/// A cache for few seconds, as the numbers change with every call.
#[must_use]
pub fn overviews() -> Overviews {
    StaleWhileRevalidate::new(Duration::from_secs(5), Duration::from_secs(60))
}

/// Users, usage and revenue. The day is the UTC day.
#[derive(Serialize, ToSchema)]
pub struct Overview {
    #[schema(value_type = String, format = Date)]
    pub day: Day,
    pub users: UserCounts,
    /// Number of users with calls today.
    pub active_today: u64,
    pub today: SumsView,
    pub today_by_plan: Vec<PlanSums>,
    pub today_by_model: Vec<ModelSums>,
    /// Sum of the plan prices of all active users, in US cents per month.
    pub monthly_recurring_revenue_cents: u64,
}

/// Number of users by status and plan.
#[derive(Serialize, ToSchema)]
pub struct UserCounts {
    pub total: u64,
    pub active: u64,
    pub suspended: u64,
    /// Not counted elsewhere.
    pub deleted: u64,
    pub by_plan: Vec<PlanUsers>,
}

/// Number of users of a plan.
#[derive(Serialize, ToSchema)]
pub struct PlanUsers {
    #[schema(value_type = String)]
    pub plan: PlanId,
    pub users: u64,
}

/// Usage of the users of a plan.
#[derive(Serialize, ToSchema)]
pub struct PlanSums {
    #[schema(value_type = String)]
    pub plan: PlanId,
    pub active_users: u64,
    #[serde(flatten)]
    pub sums: SumsView,
}

/// Get an overview
///
/// Cached: at most 5 seconds old if requested regularly, otherwise up to a minute.
#[utoipa::path(get, path = "/api/v1/admin/stats/overview", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = Overview), AdminReaderRequired, Unavailable))]
pub async fn overview(
    State(state): State<ControlState>,
    _reader: AdminReader,
) -> Result<Response, ApiError> {
    let overview = today(&state).await?;
    Ok(Json(&*overview).into_response())
}

/// The overview of the current UTC day.
pub async fn today(state: &ControlState) -> Result<Arc<Overview>, ApiError> {
    let today = Day::at(clock::now(), &TimeZone::UTC);
    let query = of_day(Arc::clone(&state.store), today);
    Ok(state.overviews.get(today, clock::instant(), query).await?)
}

async fn of_day(store: Arc<dyn Store>, day: Day) -> Result<Overview, StoreError> {
    let plans = store.plans().await?;
    let counts = store.user_counts().await?;
    let by_plan = store.totals_by_plan(day, day).await?;
    let by_model = store.totals_by_model(day, day).await?;
    let total: Sums = by_plan.iter().map(|(_, _, sums)| sums).sum();
    Ok(Overview {
        day,
        users: user_counts(&plans, &counts),
        active_today: by_plan.iter().map(|(_, users, _)| users).sum(),
        today: total.into(),
        today_by_plan: by_plan
            .into_iter()
            .map(|(plan, active_users, sums)| PlanSums { plan, active_users, sums: sums.into() })
            .collect(),
        today_by_model: model_sums(by_model),
        monthly_recurring_revenue_cents: revenue(&plans, &counts),
    })
}

fn user_counts(plans: &[Plan], counts: &[(PlanId, UserStatus, u64)]) -> UserCounts {
    let sum = |wanted: &dyn Fn(&(PlanId, UserStatus, u64)) -> bool| {
        counts.iter().filter(|row| wanted(row)).map(|row| row.2).sum()
    };
    let exists = |row: &(PlanId, UserStatus, u64)| row.1 != UserStatus::Deleted;
    let of_plan = |plan: &Plan| PlanUsers {
        plan: plan.id.clone(),
        users: sum(&|row| row.0 == plan.id && exists(row)),
    };
    UserCounts {
        total: sum(&exists),
        active: sum(&|row| row.1 == UserStatus::Active),
        suspended: sum(&|row| row.1 == UserStatus::Suspended),
        deleted: sum(&|row| row.1 == UserStatus::Deleted),
        by_plan: plans.iter().map(of_plan).collect(),
    }
}

fn revenue(plans: &[Plan], counts: &[(PlanId, UserStatus, u64)]) -> u64 {
    let price = |id: &PlanId| plans.iter().find(|plan| plan.id == *id).map_or(0, |p| p.price_cents);
    let paying = counts.iter().filter(|(_, status, _)| *status == UserStatus::Active);
    paying.map(|(plan, _, users)| u64::from(price(plan)) * users).sum()
}
