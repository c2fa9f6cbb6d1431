//! `GET /api/v1/chat/usage` and `/api/v1/usage/current`: live usage and remaining quota.

use crate::control::api_error::ApiError;
use crate::control::auth::AnyCredential;
use crate::control::openapi::errors::{Unauthenticated, Unavailable};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use domain::day::Day;
use domain::id::{KeyId, PlanId, UserId};
use domain::key::KeyLimits;
use domain::plan::PlanLimits;
use domain::user::User;
use jiff::Timestamp;
use quota::remaining::remaining;
use serde::Serialize;
use system::clock;
use utoipa::ToSchema;

/// Current usage and limits.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    #[schema(value_type = String, example = "leveler")]
    pub plan: PlanId,
    #[schema(value_type = String, format = Date)]
    pub day: Day,
    pub resets_at: Timestamp,
    pub tokens: Tokens,
    pub requests: Requests,
    pub window: Window,
    pub streams: Streams,
}

/// Tokens of the current day.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tokens {
    pub used: u64,
    /// Reserved by running calls.
    pub reserved: u64,
    pub limit: u64,
    pub remaining: u64,
}

/// Requests of the current day, including running ones.
#[derive(Debug, Serialize, ToSchema)]
pub struct Requests {
    pub used: u64,
    pub limit: u64,
    pub remaining: u64,
}

/// The short-term limit of requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct Window {
    pub limit: u64,
    pub remaining: u64,
    pub resets_in_ms: u64,
    pub seconds: u32,
}

/// Open streams.
#[derive(Debug, Serialize, ToSchema)]
pub struct Streams {
    pub open: u64,
    pub limit: u64,
    pub remaining: u64,
}

/// A user or key with the limits that apply.
struct EffectiveLimits {
    user: UserId,
    key: Option<KeyId>,
    plan: PlanId,
    limits: PlanLimits,
    key_limits: KeyLimits,
}

/// Get current usage
///
/// If both the plan and the key have a limit, the stricter one is returned.
#[utoipa::path(get, path = "/api/v1/chat/usage", tag = "Usage",
    security(("token" = []), ("key" = [])),
    responses((status = 200, body = Usage), Unauthenticated, Unavailable))]
pub async fn chat(
    State(state): State<ControlState>,
    credential: AnyCredential,
) -> Result<Json<Usage>, ApiError> {
    usage(&state, effective_limits(&state, &credential).await?).await.map(Json)
}

/// Get current usage (alias)
///
/// Same as `GET /api/v1/chat/usage`.
#[utoipa::path(get, path = "/api/v1/usage/current", tag = "Usage",
    security(("token" = []), ("key" = [])),
    responses((status = 200, body = Usage), Unauthenticated, Unavailable))]
pub async fn current(
    State(state): State<ControlState>,
    credential: AnyCredential,
) -> Result<Json<Usage>, ApiError> {
    usage(&state, effective_limits(&state, &credential).await?).await.map(Json)
}

/// The current usage of a user, for admins.
pub async fn of(state: &ControlState, user: &User) -> Result<Usage, ApiError> {
    usage(state, of_user(state, user).await?).await
}

/// The limits that apply to a credential.
pub async fn limits(
    state: &ControlState,
    credential: &AnyCredential,
) -> Result<PlanLimits, ApiError> {
    Ok(effective_limits(state, credential).await?.limits)
}

/// The current day in the time zone of a credential's plan.
pub async fn today(
    state: &ControlState,
    credential: &AnyCredential,
    now: Timestamp,
) -> Result<Day, ApiError> {
    let now = state.quota.now(now);
    Ok(Day::at(now, &limits(state, credential).await?.time_zone))
}

async fn effective_limits(
    state: &ControlState,
    credential: &AnyCredential,
) -> Result<EffectiveLimits, ApiError> {
    match credential {
        AnyCredential::User(user) => of_user(state, user).await,
        AnyCredential::Key(caller) => Ok(EffectiveLimits {
            user: caller.user,
            key: Some(caller.key.clone()),
            plan: caller.plan.clone(),
            limits: caller.plan_limits.clone(),
            key_limits: caller.key_limits.clone(),
        }),
    }
}

async fn of_user(state: &ControlState, user: &User) -> Result<EffectiveLimits, ApiError> {
    let plan = state.plan_of(user).await?;
    Ok(EffectiveLimits {
        user: user.id,
        key: None,
        limits: user.overrides.over(plan.limits),
        plan: plan.id,
        key_limits: KeyLimits::default(),
    })
}

async fn usage(state: &ControlState, effective: EffectiveLimits) -> Result<Usage, ApiError> {
    let now = state.quota.now(clock::now());
    let plan = &effective.limits;
    let day = Day::at(now, &plan.time_zone);
    let snapshot =
        state.quota.usage_snapshot(effective.user, effective.key.as_ref(), day, now).await?;
    let left = remaining(plan, &effective.key_limits, &snapshot);
    let (tokens, requests) = (left.tokens, left.requests);
    let streams = u64::from(plan.concurrent_streams);
    Ok(Usage {
        day,
        resets_at: day.ends_at(&plan.time_zone),
        tokens: Tokens {
            used: tokens.used,
            reserved: tokens.reserved,
            limit: tokens.limit,
            remaining: tokens.remaining(),
        },
        requests: Requests {
            used: requests.used,
            limit: requests.limit,
            remaining: requests.remaining(),
        },
        window: Window {
            limit: u64::from(plan.window.capacity),
            remaining: left.window,
            resets_in_ms: snapshot.window_full_in_ms,
            seconds: plan.window.refill_seconds,
        },
        streams: Streams {
            open: snapshot.streams_open,
            limit: streams,
            remaining: streams.saturating_sub(snapshot.streams_open),
        },
        plan: effective.plan,
    })
}
