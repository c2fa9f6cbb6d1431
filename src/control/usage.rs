//! `GET /api/v1/chat/usage`: what the holder of a key has used and may still use, live.

use super::api_error::ApiError;
use super::{ControlState, auth};
use crate::account::caller::Caller;
use crate::account::day::Day;
use crate::account::id::PlanId;
use crate::clock;
use crate::quota::counters::Standing;
use crate::quota::left;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Usage {
    plan: PlanId,
    day: Day,
    resets_at: Timestamp,
    tokens: Tokens,
    requests: Requests,
    window: Window,
    streams: Streams,
}

#[derive(Debug, Serialize)]
struct Tokens {
    used: u64,
    reserved: u64,
    limit: u64,
    remaining: u64,
}

#[derive(Debug, Serialize)]
struct Requests {
    used: u64,
    limit: u64,
    remaining: u64,
}

#[derive(Debug, Serialize)]
struct Window {
    limit: u64,
    remaining: u64,
    resets_in_ms: u64,
    seconds: u32,
}

#[derive(Debug, Serialize)]
struct Streams {
    open: u64,
    limit: u64,
    remaining: u64,
}

pub(super) async fn live(
    State(state): State<ControlState>,
    headers: HeaderMap,
) -> Result<Json<Usage>, ApiError> {
    let now = clock::now();
    let caller = auth::caller(&state, &headers, now).await?;
    let day = Day::at(now, &caller.plan_limits.time_zone);
    let standing = state.counters.standing(caller.user, Some(&caller.key), day, now).await?;
    Ok(Json(usage(&caller, day, standing)))
}

/// Of tokens and requests the stricter limit is shown, the plan's or the key's own, with what that
/// one counts.
fn usage(caller: &Caller, day: Day, standing: Standing) -> Usage {
    let plan = &caller.plan_limits;
    let left = left::left(caller, &standing);
    let (tokens, requests) = (left.tokens, left.requests);
    let streams = u64::from(plan.concurrent_streams);
    Usage {
        plan: caller.plan.clone(),
        day,
        resets_at: day.ends_at(&plan.time_zone),
        tokens: Tokens {
            used: tokens.used,
            reserved: tokens.reserved,
            limit: tokens.limit,
            remaining: tokens.left(),
        },
        requests: Requests {
            used: requests.used,
            limit: requests.limit,
            remaining: requests.left(),
        },
        window: Window {
            limit: u64::from(plan.window.capacity),
            remaining: left.window,
            resets_in_ms: standing.window_full_in_ms,
            seconds: plan.window.refill_seconds,
        },
        streams: Streams {
            open: standing.streams_open,
            limit: streams,
            remaining: streams.saturating_sub(standing.streams_open),
        },
    }
}
