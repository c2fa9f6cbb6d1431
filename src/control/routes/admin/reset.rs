//! `POST /api/v1/admin/users/{id}/reset-usage`: resets a user's usage of the current day.

use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::PathParam;
use crate::control::openapi::errors::{AdminRequired, Unavailable, UserNotFound};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use domain::day::Day;
use domain::id::RequestId;
use quota::backend::Reset;
use serde::Serialize;
use serde_json::json;
use store::all_keys;
use store::audit::Change;
use system::clock;
use utoipa::ToSchema;

/// The usage that was removed.
#[derive(Serialize, ToSchema)]
pub struct ResetView {
    #[schema(value_type = String, format = Date)]
    pub day: Day,
    pub removed_tokens: u64,
    pub removed_requests: u64,
}

/// Reset a user's usage of today
///
/// Adds an adjustment to the ledger; existing rows are not changed. Running calls keep their reservations.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/reset-usage", tag = "Admin",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the user")),
    responses((status = 200, body = ResetView), AdminRequired, UserNotFound, Unavailable))]
pub async fn reset(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
) -> Result<Json<ResetView>, ApiError> {
    reset_today(&state, &admin, &id).await.map(Json)
}

/// Resets today's usage of the user with this id.
pub async fn reset_today(
    state: &ControlState,
    admin: &Admin,
    id: &str,
) -> Result<ResetView, ApiError> {
    let user = state.user(id).await?;
    let plan = state.plan_of(&user).await?;
    let zone = user.overrides.over(plan.limits).time_zone;
    let now = state.quota.now(clock::now());
    let day = Day::at(now, &zone);
    let keys = all_keys(&*state.store, user.id).await?;
    let reset = Reset {
        id: RequestId::new(),
        user: user.id,
        keys: keys.into_iter().map(|key| key.id).collect(),
        day,
        at: now,
        by: admin.by.actor.to_string(),
    };
    let before = state.quota.usage_snapshot(user.id, None, day, now).await?.user;
    let removed = state.quota.reset(&reset).await?;
    let change = Change {
        action: "usage.reset",
        subject: format!("user:{}", user.id),
        before: Some(json!({
            "day": day, "tokens": before.tokens_used, "requests": before.requests_used,
        })),
        after: Some(json!({
            "day": day, "removed_tokens": removed.tokens, "removed_requests": removed.requests,
        })),
    };
    state.store.append_audit(&change, &admin.by).await?;
    Ok(ResetView { day, removed_tokens: removed.tokens, removed_requests: removed.requests })
}
