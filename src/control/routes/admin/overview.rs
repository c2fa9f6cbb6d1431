//! `GET /api/v1/admin/stats/overview`: how many users, what they use today, what they pay.
//!
//! The store counts all users and adds up all of today for it, so a page that asks again and again is
//! told what is some seconds old: see [`StaleWhileRevalidate`].

use crate::account::day::Day;
use crate::account::id::PlanId;
use crate::account::plan::Plan;
use crate::account::user::UserStatus;
use crate::clock;
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::stale_cache::StaleWhileRevalidate;
use crate::control::openapi::errors::{AdminRequired, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::usage::{ModelSums, SumsView, model_sums};
use crate::store::reports::Sums;
use crate::store::{Store, StoreError};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// Overviews by their day.
pub type Overviews = StaleWhileRevalidate<Day, Overview>;

/// Numbers that change with every call, so not for long.
#[must_use]
pub fn overviews() -> Overviews {
    StaleWhileRevalidate::new(Duration::from_secs(5), Duration::from_secs(60))
}

/// The gateway at a glance. The day is UTC's.
#[derive(Serialize, ToSchema)]
pub struct Overview {
    #[schema(value_type = String, format = Date)]
    day: Day,
    users: UserCounts,
    /// Users who used anything today.
    active_today: u64,
    today: SumsView,
    today_by_plan: Vec<PlanSums>,
    today_by_model: Vec<ModelSums>,
    /// The prices of all active users' plans, in US cents a month.
    monthly_recurring_revenue_cents: u64,
}

/// Users by status and plan.
#[derive(Serialize, ToSchema)]
pub struct UserCounts {
    total: u64,
    active: u64,
    suspended: u64,
    by_plan: Vec<PlanUsers>,
}

/// Users of a plan.
#[derive(Serialize, ToSchema)]
pub struct PlanUsers {
    #[schema(value_type = String)]
    plan: PlanId,
    users: u64,
}

/// What the users of a plan used.
#[derive(Serialize, ToSchema)]
pub struct PlanSums {
    #[schema(value_type = String)]
    plan: PlanId,
    active_users: u64,
    #[serde(flatten)]
    sums: SumsView,
}

/// Overview
///
/// Some seconds old at most, or a minute when nobody has asked for a while.
#[utoipa::path(get, path = "/api/v1/admin/stats/overview", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = Overview), AdminRequired, Unavailable))]
pub async fn overview(
    State(state): State<ControlState>,
    _admin: Admin,
) -> Result<Response, ApiError> {
    let today = Day::at(clock::now(), &TimeZone::UTC);
    let ask = of_day(Arc::clone(&state.store), today);
    let overview = state.overviews.answer(today, clock::instant(), ask).await?;
    Ok(Json(&*overview).into_response())
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
    let of_plan =
        |plan: &Plan| PlanUsers { plan: plan.id.clone(), users: sum(&|row| row.0 == plan.id) };
    UserCounts {
        total: sum(&|_| true),
        active: sum(&|row| row.1 == UserStatus::Active),
        suspended: sum(&|row| row.1 == UserStatus::Suspended),
        by_plan: plans.iter().map(of_plan).collect(),
    }
}

fn revenue(plans: &[Plan], counts: &[(PlanId, UserStatus, u64)]) -> u64 {
    let price = |id: &PlanId| plans.iter().find(|plan| plan.id == *id).map_or(0, |p| p.price_cents);
    let paying = counts.iter().filter(|(_, status, _)| *status == UserStatus::Active);
    paying.map(|(plan, _, users)| u64::from(price(plan)) * users).sum()
}
