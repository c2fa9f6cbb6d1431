//! `GET /api/v1/admin/usage/top-users`: the users with the highest usage.
//!
//! The store sums up all days of the period, which takes a second for millions of rows. Results are
//! therefore cached: see [`StaleWhileRevalidate`].

use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::http::extract::Query;
use crate::control::http::pagination::{self, Page};
use crate::control::http::stale_cache::StaleWhileRevalidate;
use crate::control::openapi::errors::{AdminReaderRequired, InvalidQuery, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use crate::control::views::usage::SumsView;
use axum::Json;
use axum::extract::State;
use domain::day::Day;
use domain::id::{PlanId, UserId};
use domain::user::User;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use store::reports::{Sums, TopBy};
use system::clock;
use utoipa::{IntoParams, ToSchema};

/// Cached reports by period and ranking; each has as many users as a page may have.
pub type TopReports = StaleWhileRevalidate<(Day, Day, TopBy), Vec<(User, Sums)>>;

/// A cache for minutes, as the reports cover days.
#[must_use]
pub fn reports() -> TopReports {
    StaleWhileRevalidate::new(Duration::from_secs(60), Duration::from_secs(15 * 60))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopQuery {
    /// The ranking: `tokens` (default), `requests` or `cost`.
    #[param(value_type = Option<String>, pattern = "^(tokens|requests|cost)$")]
    by: Option<TopBy>,
    /// First day; default: 29 days before `to`.
    #[param(format = Date)]
    from: Option<String>,
    /// Last day; default: today (UTC).
    #[param(format = Date)]
    to: Option<String>,
    /// Number of users; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A user with totals of the period.
#[derive(Serialize, ToSchema)]
pub struct TopUser {
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    email: String,
    #[schema(required)]
    username: Option<String>,
    #[schema(value_type = String)]
    plan: PlanId,
    #[serde(flatten)]
    sums: SumsView,
}

/// List top users
///
/// Cached: at most one minute old if requested regularly, otherwise up to 15 minutes.
#[utoipa::path(get, path = "/api/v1/admin/usage/top-users", tag = "Admin",
    security(("token" = [])), params(TopQuery),
    responses((status = 200, body = Page<TopUser>), InvalidQuery, AdminReaderRequired, Unavailable))]
pub async fn top_users(
    State(state): State<ControlState>,
    _reader: AdminReader,
    Query(query): Query<TopQuery>,
) -> Result<Json<Page<TopUser>>, ApiError> {
    let today = Day::at(clock::now(), &TimeZone::UTC);
    let period = Period::asked(query.from.as_deref(), query.to.as_deref(), today)?;
    let limit = pagination::limit(query.limit)?;
    let top = top_of(&state, period, query.by.unwrap_or_default()).await?;
    let shown = top.iter().zip(0..limit).map(|((user, sums), _)| TopUser {
        id: user.id,
        email: user.email.clone(),
        username: user.username.clone(),
        plan: user.plan.clone(),
        sums: (*sums).into(),
    });
    Ok(Json(Page::single(shown.collect())))
}

/// The 200 users with the highest usage of a period, the highest first.
pub async fn top_of(
    state: &ControlState,
    Period { from, to }: Period,
    by: TopBy,
) -> Result<Arc<Vec<(User, Sums)>>, ApiError> {
    let store = Arc::clone(&state.store);
    let query = async move { store.top_users(from, to, by, pagination::MAX_LIMIT).await };
    Ok(state.top_reports.get((from, to, by), clock::instant(), query).await?)
}
