//! `GET /api/v1/chat/usage`: what the holder of a key has used and may still use, live.

use super::api_error::ApiError;
use super::{ControlState, auth};
use crate::account::caller::Caller;
use crate::account::day::Day;
use crate::account::id::PlanId;
use crate::clock;
use crate::quota::counters::Standing;
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
    let standing = state.counters.standing(caller.user, day, now).await?;
    Ok(Json(usage(&caller, day, standing)))
}

/// The numbers are the whole user's, held against the stricter of the plan's limit and the key's:
/// `remaining` is never more than the key may really use.
fn usage(caller: &Caller, day: Day, standing: Standing) -> Usage {
    let plan = &caller.plan_limits;
    let stricter = |plans: u64, keys: Option<u64>| keys.map_or(plans, |keys| keys.min(plans));
    let tokens = stricter(plan.tokens_per_day, caller.key_limits.tokens_per_day);
    let requests = stricter(plan.requests_per_day, caller.key_limits.requests_per_day);
    let held = standing.tokens_used.saturating_add(standing.tokens_reserved);
    let streams = u64::from(plan.concurrent_streams);
    Usage {
        plan: caller.plan.clone(),
        day,
        resets_at: day.ends_at(&plan.time_zone),
        tokens: Tokens {
            used: standing.tokens_used,
            reserved: standing.tokens_reserved,
            limit: tokens,
            remaining: tokens.saturating_sub(held),
        },
        requests: Requests {
            used: standing.requests_used,
            limit: requests,
            remaining: requests.saturating_sub(standing.requests_used),
        },
        window: window(caller, standing),
        streams: Streams {
            open: standing.streams_open,
            limit: streams,
            remaining: streams.saturating_sub(standing.streams_open),
        },
    }
}

fn window(caller: &Caller, standing: Standing) -> Window {
    let window = caller.plan_limits.window;
    let limit = u64::from(window.capacity);
    let remaining = standing.window_left.map_or(limit, |left| left.min(limit));
    let seconds = window.refill_seconds;
    Window { limit, remaining, resets_in_ms: standing.window_full_in_ms, seconds }
}
