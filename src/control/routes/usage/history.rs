//! `GET /api/v1/usage/history`: ledger rows, in pages or as CSV.

use crate::control::api_error::ApiError;
use crate::control::auth::AnyCredential;
use crate::control::http::csv;
use crate::control::http::extract::Query;
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{InvalidQuery, Unauthenticated, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::period;
use crate::control::views::usage::{TokensView, cents};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use domain::charge::{Charge, Source, Status};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use store::reports::HistoryFilter;
use utoipa::{IntoParams, ToSchema};

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// First day.
    #[param(format = Date, example = "2026-09-01")]
    pub from: Option<String>,
    /// Last day.
    #[param(format = Date, example = "2026-09-30")]
    pub to: Option<String>,
    #[param(example = "grok-4.3")]
    pub model: Option<String>,
    /// `complete`, `cut_by_client`, `cut_by_upstream`, `cut_by_quota`, `failed` or `abandoned`.
    #[param(value_type = Option<String>, pattern = "^(complete|cut_by_client|cut_by_upstream|cut_by_quota|failed|abandoned)$")]
    pub status: Option<Status>,
    /// Id of a key.
    #[param(value_type = Option<String>)]
    pub key: Option<KeyId>,
    /// The `x-request-id` of the response, or the one that the client sent with the request.
    #[param(max_length = 128, example = "req_019a0c5e7d0a7e6f8b3c2d1e0f9a8b7c")]
    pub request_id: Option<String>,
    /// Rows per page; default 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// `json` (default) or `csv`.
    #[param(inline)]
    pub format: Option<Format>,
}

/// The format of a reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
    Csv,
}

/// One charged call.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChargeView {
    #[schema(example = "req_019a...")]
    pub request_id: String,
    #[schema(value_type = String)]
    pub key_id: KeyId,
    pub model: String,
    /// Empty if no upstream was reached.
    pub upstream: String,
    #[schema(value_type = String, format = Date)]
    pub day: Day,
    pub admitted_at: Timestamp,
    pub tokens: TokensView,
    /// Cached prompt tokens that the plan does not count against the tokens per day.
    pub uncounted_tokens: u64,
    pub cost_micro_dollars: i64,
    /// The cost in US cents.
    pub cost_cents: f64,
    /// `complete`, `cut_by_client`, `cut_by_upstream`, `cut_by_quota`, `failed` or `abandoned`.
    #[schema(value_type = String, example = "complete")]
    pub status: Status,
    /// `reported` if the upstream reported the tokens, `estimated` if the gateway counted them.
    #[schema(value_type = String, example = "reported")]
    pub source: Source,
    #[schema(required)]
    pub first_token_ms: Option<u32>,
    pub total_ms: u32,
    /// The `x-request-id` that the caller sent, if it had 1 to 128 visible ASCII characters.
    #[schema(required)]
    pub client_request_id: Option<String>,
}

/// The position of a row in the history.
struct HistoryCursor(Timestamp, RequestId);

/// List your calls
///
/// Newest first. With `format=csv`, the `Link` header has the address of the next page.
#[utoipa::path(get, path = "/api/v1/usage/history", tag = "Usage",
    security(("token" = []), ("key" = [])), params(HistoryQuery),
    responses((status = 200, content((Page<ChargeView> = "application/json"), (String = "text/csv"))),
        InvalidQuery, Unauthenticated, Unavailable))]
pub async fn history(
    State(state): State<ControlState>,
    credential: AnyCredential,
    uri: Uri,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, ApiError> {
    let format = query.format.unwrap_or_default();
    let page = rows(&state, credential.user_id(), query).await?;
    reply(page, format, &uri)
}

/// Maximum length of a request id in characters, as of those that clients send.
const MAX_REQUEST_ID: usize = 128;

/// The request id to find; no id is longer than [`MAX_REQUEST_ID`].
fn request_id(text: Option<String>) -> Result<Option<String>, ApiError> {
    match text {
        Some(text) if text.chars().count() > MAX_REQUEST_ID => {
            let problem = format!("`request_id` must have at most {MAX_REQUEST_ID} characters.");
            Err(ApiError::invalid("request_id", problem))
        }
        text => Ok(text.map(|text| text.trim().to_owned())),
    }
}

/// A page of a user's rows.
pub async fn rows(
    state: &ControlState,
    user: UserId,
    query: HistoryQuery,
) -> Result<Page<ChargeView>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let before = pagination::cursor(query.cursor.as_deref())?
        .map(|HistoryCursor(at, request)| (at, request));
    let (from, to) = period::days(query.from.as_deref(), query.to.as_deref())?;
    let filter = HistoryFilter {
        from,
        to,
        model: query.model,
        status: query.status,
        key: query.key,
        request: request_id(query.request_id)?,
    };
    let rows = state.store.history(user, &filter, before, limit + 1).await?;
    Ok(Page::of(
        rows,
        limit,
        |row| HistoryCursor(row.admitted_at, row.request).to_string(),
        ChargeView::from,
    ))
}

/// The page as a reply in the format that was asked for.
pub fn reply(page: Page<ChargeView>, format: Format, uri: &Uri) -> Result<Response, ApiError> {
    if format == Format::Json {
        return Ok(Json(page).into_response());
    }
    let head = [CSV_HEAD.map(str::to_owned)].into_iter();
    let text = csv::written(head.chain(page.data.iter().map(ChargeView::fields)))?;
    let mut response = csv::reply(text.into(), "usage.csv");
    let next = page.next_cursor.as_ref().and_then(|cursor| csv::next_link(uri, cursor));
    response.headers_mut().extend(next);
    Ok(response)
}

/// The head of a CSV file of calls.
pub const CSV_HEAD: [&str; 18] = [
    "request_id",
    "key_id",
    "model",
    "upstream",
    "day",
    "admitted_at",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_micro_dollars",
    "status",
    "source",
    "first_token_ms",
    "total_ms",
    "client_request_id",
    "uncounted_tokens",
];

impl ChargeView {
    /// In the order of [`CSV_HEAD`].
    #[must_use]
    pub fn fields(&self) -> [String; CSV_HEAD.len()] {
        let TokensView { prompt, cached, completion, reasoning, total } = self.tokens;
        [
            self.request_id.clone(),
            csv::text_cell(self.key_id.as_str()),
            csv::text_cell(&self.model),
            csv::text_cell(&self.upstream),
            self.day.to_string(),
            self.admitted_at.to_string(),
            prompt.to_string(),
            cached.to_string(),
            completion.to_string(),
            reasoning.to_string(),
            total.to_string(),
            self.cost_micro_dollars.to_string(),
            self.status.as_str().to_owned(),
            self.source.as_str().to_owned(),
            self.first_token_ms.map(|ms| ms.to_string()).unwrap_or_default(),
            self.total_ms.to_string(),
            self.client_request_id.as_deref().map(csv::text_cell).unwrap_or_default(),
            self.uncounted_tokens.to_string(),
        ]
    }
}

impl From<Charge> for ChargeView {
    fn from(charge: Charge) -> Self {
        Self {
            request_id: charge.request.to_string(),
            key_id: charge.key,
            model: charge.model.to_string(),
            upstream: charge.upstream.to_string(),
            day: charge.day,
            admitted_at: charge.admitted_at,
            tokens: TokensView {
                prompt: charge.tokens.prompt,
                cached: charge.tokens.cached,
                completion: charge.tokens.completion,
                reasoning: charge.tokens.reasoning,
                total: charge.tokens.total(),
            },
            uncounted_tokens: charge.uncounted,
            cost_micro_dollars: charge.cost_micro_dollars,
            cost_cents: cents(charge.cost_micro_dollars),
            status: charge.status,
            source: charge.source,
            first_token_ms: charge.first_token_ms,
            total_ms: charge.total_ms,
            client_request_id: charge.client_request_id.as_deref().map(str::to_owned),
        }
    }
}

impl std::fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0.as_millisecond(), self.1)
    }
}

impl FromStr for HistoryCursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, request) = text.split_once('.').ok_or(())?;
        // No call is older than 1970, and not every store knows days before its own first.
        let at = at.parse().ok().filter(|ms| *ms >= 0);
        let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok()).ok_or(())?;
        Ok(Self(at, request.parse().map_err(|_| ())?))
    }
}
