//! Upstreams, for admins: state, load, latest failures, and a test.

use crate::control::api_error::ApiError;
use crate::control::auth::{Admin, AdminReader};
use crate::control::http::extract::PathParam;
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{
    AdminReaderRequired, AdminRequired, Unavailable, UpstreamNotFound, UpstreamTestRunning,
};
use crate::control::state::ControlState;
use crate::upstream::breaker::Phase;
use crate::upstream::client::{CallError, UpstreamClient, UpstreamRequest};
use crate::upstream::recent_calls::{Failure, Tally};
use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use system::clock;
use utoipa::ToSchema;

/// A healthy upstream lists its models within this time.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of an upstream, as this gateway sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct UpstreamDetail {
    #[schema(example = "xai")]
    pub name: String,
    #[schema(example = "https://api.x.ai/v1")]
    pub base_url: String,
    pub breaker: BreakerState,
    /// Consecutive failures.
    pub failures: u32,
    pub in_flight: u32,
    pub max_in_flight: u32,
    /// Calls that wait for a free slot.
    pub waiting: u64,
    /// Calls of the last five minutes.
    pub recent_calls: u64,
    /// Those of them that the upstream failed.
    pub recent_failures: u64,
    /// Their share, 0 to 1; `null` without calls.
    #[schema(required)]
    pub error_share: Option<f64>,
    /// True if the upstream rejects the operator's key or account, until it answers a call again.
    pub rejects_account: bool,
    /// The latest failures, at most ten, the latest first.
    pub last_errors: Vec<UpstreamFailureView>,
}

/// `closed`: in use. `half_open`: single calls probe if it has recovered. `open`: not used after repeated failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

/// A failed call, without anything that it said.
#[derive(Debug, Serialize, ToSchema)]
pub struct UpstreamFailureView {
    pub at: Timestamp,
    /// Such as `connect`, `first_byte_timeout`, `rate` or `broken_response`.
    #[schema(value_type = String, example = "first_byte_timeout")]
    pub reason: &'static str,
    /// The status that the upstream responded with, if it responded.
    #[schema(required)]
    pub status: Option<u16>,
}

/// The result of a test.
#[derive(Debug, Serialize, ToSchema)]
pub struct UpstreamTest {
    /// True if the upstream responded, and accepts the API key.
    pub ok: bool,
    /// The status of its response; `null` if there was none.
    #[schema(required)]
    pub status: Option<u16>,
    /// Time to the head of the response, in milliseconds.
    pub latency_ms: f64,
    #[schema(example = "The upstream lists its models.")]
    pub message: String,
}

/// List upstreams
///
/// In the order of the configuration, as this gateway sees them. Each gateway has its own view.
#[utoipa::path(get, path = "/api/v1/admin/upstreams", tag = "Admin", security(("token" = [])),
    responses((status = 200, body = Page<UpstreamDetail>), AdminReaderRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    _reader: AdminReader,
) -> Result<Json<Page<UpstreamDetail>>, ApiError> {
    Ok(Json(Page::single(all(&state, clock::now()))))
}

/// Test an upstream
///
/// Requests the list of models with the operator's key, once. One test at a time.
#[utoipa::path(post, path = "/api/v1/admin/upstreams/{name}/test", tag = "Admin",
    security(("token" = [])),
    params(("name" = String, Path, description = "Name of the upstream", example = "xai")),
    responses((status = 200, body = UpstreamTest), AdminRequired, UpstreamNotFound, UpstreamTestRunning,
        Unavailable))]
pub async fn test(
    State(state): State<ControlState>,
    _admin: Admin,
    PathParam(name): PathParam,
) -> Result<Json<UpstreamTest>, ApiError> {
    tested(&state, &name).await.map(Json)
}

/// The state of each upstream, in the order of the configuration.
#[must_use]
pub fn all(state: &ControlState, now: Timestamp) -> Vec<UpstreamDetail> {
    let upstreams = state.instance.upstreams.load();
    upstreams.clients().map(|client| UpstreamDetail::of(client, now)).collect()
}

/// Tests an upstream.
///
/// # Errors
/// [`ApiError::NotFound`], or [`ApiError::UpstreamTestRunning`].
pub async fn tested(state: &ControlState, name: &str) -> Result<UpstreamTest, ApiError> {
    let upstreams = state.instance.upstreams.load_full();
    let client = upstreams.client(name).ok_or(ApiError::NotFound("upstream"))?;
    let Ok(_one_at_a_time) = state.instance.upstream_test.try_lock() else {
        return Err(ApiError::UpstreamTestRunning);
    };
    let request = UpstreamRequest {
        send_once: true,
        ..UpstreamRequest::without_body(Method::GET, "/models")
    };
    let began_at = clock::instant();
    let called = client.try_call(request, tokio::time::sleep(TEST_TIMEOUT)).await;
    let took = clock::instant().saturating_duration_since(began_at);
    // Its body is not needed: dropping the exchange closes the connection.
    let (status, message) = match called {
        Ok(exchange) => (Some(exchange.status()), meaning(exchange.status()).to_owned()),
        Err(CallError::Failed(error)) => (None, format!("No response: {error}.")),
        Err(CallError::Cancelled { .. }) => {
            (None, format!("No response within {} s.", TEST_TIMEOUT.as_secs()))
        }
    };
    Ok(UpstreamTest {
        ok: status.is_some_and(is_usable),
        status: status.map(|status| status.as_u16()),
        latency_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        message,
    })
}

/// True unless the response says that calls would fail. Not every server lists its models.
fn is_usable(status: StatusCode) -> bool {
    status.is_success() || matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

fn meaning(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "The upstream lists its models.",
        401 | 403 => "The upstream rejects the API key. Check the key and its account.",
        402 => "The upstream rejects the account. Check its balance.",
        404 | 405 => "The upstream responds, but does not list its models.",
        429 => "The upstream refuses further requests for now: its rate limit is reached.",
        500..=599 => "The upstream responds with a server error.",
        _ => "The upstream rejects the request. Check its base URL.",
    }
}

impl UpstreamDetail {
    fn of(client: &Arc<UpstreamClient>, now: Timestamp) -> Self {
        let upstream = client.upstream();
        let (in_flight, waiting) = client.limiter.count();
        let tally: Tally = client.recent.tally(now);
        let scheme = if upstream.tls { "https" } else { "http" };
        Self {
            name: upstream.name.to_string(),
            base_url: format!("{scheme}://{}{}", upstream.authority(), upstream.base_path),
            breaker: client.breaker.phase(clock::instant()).into(),
            failures: client.breaker.failures(),
            in_flight,
            max_in_flight: upstream.max_in_flight,
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            recent_calls: tally.calls,
            recent_failures: tally.failed,
            error_share: tally.error_share(),
            rejects_account: client.refuses_account.load(Ordering::Relaxed),
            last_errors: client.recent.failures().into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Failure> for UpstreamFailureView {
    fn from(failure: Failure) -> Self {
        let Failure { at, reason, status } = failure;
        Self { at, reason, status }
    }
}

impl From<Phase> for BreakerState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Closed => Self::Closed,
            Phase::HalfOpen => Self::HalfOpen,
            Phase::Open => Self::Open,
        }
    }
}
