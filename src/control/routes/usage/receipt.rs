//! `GET /api/v1/usage/history/{request_id}`: the receipt of one call.

use super::history::ChargeView;
use crate::control::api_error::ApiError;
use crate::control::auth::AnyCredential;
use crate::control::http::extract::PathParam;
use crate::control::openapi::errors::{CallNotFound, Unauthenticated, Unavailable};
use crate::control::state::ControlState;
use crate::upstream::catalog::{PriceStep, Prices};
use axum::Json;
use axum::extract::State;
use domain::charge::{Adjustment, Charge, TokenCount};
use domain::id::{RequestId, UserId};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// Ticks per token that are one US dollar per million tokens.
const TICKS_PER_DOLLAR: f64 = 10_000.0;
/// Ticks of a micro-dollar.
const TICKS_PER_MICRO_DOLLAR: f64 = 10_000.0;

/// The receipt of a call: what it used, at what price, and when.
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt {
    #[schema(value_type = String, format = Uuid)]
    pub user_id: UserId,
    #[serde(flatten)]
    pub call: ChargeView,
    /// Time of the first byte of the response; `null` if there was none.
    #[schema(required)]
    pub first_token_at: Option<Timestamp>,
    pub ended_at: Timestamp,
    /// The price list of the model as it is configured now; `null` if the model is not configured any more. The call
    /// was billed with `cost_micro_dollars`, which may be a cost that the upstream reported, or an earlier price.
    #[schema(required)]
    pub prices: Option<PriceView>,
    /// Resets of the day that reduced what this key had used. They do not change the cost of the call.
    pub adjustments: Vec<AdjustmentView>,
}

/// Tokens of the call by kind, at the prices of the list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PriceView {
    /// True if the prices for long prompts apply.
    pub is_long_context: bool,
    pub lines: Vec<PriceLine>,
    /// The cost by the list, of all lines.
    pub total_micro_dollars: i64,
}

/// Tokens of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct PriceLine {
    /// `input` (without cached tokens), `cached_input`, `output` (visible) or `reasoning`.
    #[schema(value_type = String, example = "input")]
    pub kind: &'static str,
    pub tokens: u64,
    #[schema(example = 1.25)]
    pub dollars_per_million_tokens: f64,
    pub cost_micro_dollars: f64,
}

/// A reset of the day of a call.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdjustmentView {
    pub at: Timestamp,
    /// Tokens that were added to what counts against the limits; negative for a reset.
    pub tokens: i64,
    pub requests: i64,
    /// `admin`, `operator` or `gateway`; admins see the id of the admin (`user:ID`).
    #[schema(example = "operator")]
    pub by: String,
}

/// Get the receipt of a call
#[utoipa::path(get, path = "/api/v1/usage/history/{request_id}", tag = "Usage",
    security(("token" = []), ("key" = [])),
    params(("request_id" = String, Path, description = "The `x-request-id` of the response")),
    responses((status = 200, body = Receipt), Unauthenticated, CallNotFound, Unavailable))]
pub async fn receipt(
    State(state): State<ControlState>,
    credential: AnyCredential,
    PathParam(id): PathParam,
) -> Result<Json<Receipt>, ApiError> {
    own(&state, credential.user_id(), &id).await.map(Json)
}

/// The receipt of a call of this user. Calls of others do not exist for them.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn own(state: &ControlState, user: UserId, id: &str) -> Result<Receipt, ApiError> {
    let mut receipt = found(state, Some(user), id).await?;
    for adjustment in &mut receipt.adjustments {
        // Who administers the gateway is not for its users.
        if adjustment.by.starts_with("user:") {
            "admin".clone_into(&mut adjustment.by);
        }
    }
    Ok(receipt)
}

/// The receipt of a call of any user, for admins.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn any(state: &ControlState, id: &str) -> Result<Receipt, ApiError> {
    found(state, None, id).await
}

async fn found(state: &ControlState, user: Option<UserId>, id: &str) -> Result<Receipt, ApiError> {
    let id: RequestId = id.parse().map_err(|_| ApiError::NotFound("call"))?;
    let charge = state.store.call(id, user).await?.ok_or(ApiError::NotFound("call"))?;
    let adjustments = state.store.adjustments(charge.user, &charge.key, charge.day).await?;
    let upstreams = state.instance.upstreams.load();
    let prices = upstreams.catalog.model(&charge.model).map(|model| model.prices);
    Ok(Receipt::of(charge, prices, adjustments))
}

impl Receipt {
    fn of(charge: Charge, prices: Option<Prices>, adjustments: Vec<Adjustment>) -> Self {
        let admitted_at = charge.admitted_at;
        let after = |millis: u32| {
            let ended = admitted_at.saturating_add(SignedDuration::from_millis(millis.into()));
            ended.unwrap_or(admitted_at)
        };
        Self {
            user_id: charge.user,
            first_token_at: charge.first_token_ms.map(after),
            ended_at: after(charge.total_ms),
            prices: prices.map(|prices| PriceView::of(&prices, &charge.tokens)),
            adjustments: adjustments.into_iter().map(AdjustmentView::from).collect(),
            call: charge.into(),
        }
    }
}

impl PriceView {
    fn of(prices: &Prices, tokens: &TokenCount) -> Self {
        let (step, is_long_context) = prices.step(tokens.prompt);
        let PriceStep { input, cached_input, output, .. } = *step;
        let cached = tokens.cached.min(tokens.prompt);
        let line = |kind, tokens: u64, ticks: u64| PriceLine {
            kind,
            tokens,
            dollars_per_million_tokens: ticks as f64 / TICKS_PER_DOLLAR,
            cost_micro_dollars: tokens.saturating_mul(ticks) as f64 / TICKS_PER_MICRO_DOLLAR,
        };
        Self {
            is_long_context,
            lines: vec![
                line("input", tokens.prompt - cached, input),
                line("cached_input", cached, cached_input),
                line("output", tokens.completion, output),
                line("reasoning", tokens.reasoning, output),
            ],
            total_micro_dollars: prices.cost_micro_dollars(tokens, 0, None),
        }
    }
}

impl From<Adjustment> for AdjustmentView {
    fn from(adjustment: Adjustment) -> Self {
        let Adjustment { at, tokens, requests, by, .. } = adjustment;
        Self { at, tokens, requests, by }
    }
}
