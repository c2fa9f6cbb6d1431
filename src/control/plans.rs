//! Plans, for anyone to read.

use super::ControlState;
use super::api_error::ApiError;
use super::validator;
use crate::account::id::PlanId;
use crate::account::plan::Plan;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct PlanView {
    id: PlanId,
    name: String,
    price_cents: u32,
    max_tokens_per_day: u64,
    max_requests_per_day: u64,
    window: WindowView,
    concurrent_streams: u32,
    /// `null` = every model.
    models: Option<Arc<[Arc<str>]>>,
    time_zone: String,
}

#[derive(Serialize)]
struct WindowView {
    requests: u32,
    seconds: u32,
}

pub(super) async fn list(
    State(state): State<ControlState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plans: Vec<PlanView> = state.store.plans().await?.into_iter().map(view).collect();
    let page = serde_json::json!({ "data": plans, "next_cursor": null });
    Ok(validator::respond(&headers, &page))
}

pub(super) async fn show(
    State(state): State<ControlState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let plan = state.store.plan(&PlanId::from(id.as_str())).await?;
    let plan = plan.ok_or(ApiError::NoSuchPlan)?;
    Ok(validator::respond(&headers, &view(plan)))
}

fn view(plan: Plan) -> PlanView {
    let limits = plan.limits;
    PlanView {
        id: plan.id,
        name: plan.name,
        price_cents: plan.price_cents,
        max_tokens_per_day: limits.tokens_per_day,
        max_requests_per_day: limits.requests_per_day,
        window: WindowView {
            requests: limits.window.capacity,
            seconds: limits.window.refill_seconds,
        },
        concurrent_streams: limits.concurrent_streams,
        models: limits.models,
        time_zone: limits.time_zone.iana_name().unwrap_or("UTC").to_owned(),
    }
}
