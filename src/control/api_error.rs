//! Every way the control plane says no, and the one place that turns it into a response.
//!
//! The body is `{"error":{"message","type","code","param"}}`, as on `/v1`. Causes go to the log,
//! never to the client.

use crate::quota::counters::CountersError;
use crate::store::StoreError;
use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal. Its text is what the client reads.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("There is nothing here. GET /api lists the routes.")]
    NoSuchRoute,
    #[error("This route does not answer this method.")]
    MethodNotAllowed,
    #[error("{0} is not built yet.")]
    NotBuilt(&'static str),
    #[error("There is no plan with this id.")]
    NoSuchPlan,
    #[error("`day` must be a date such as 2026-09-21.")]
    BadDay,
    #[error("The body is larger than {limit} bytes.")]
    BodyTooLarge { limit: usize },
    #[error("Send your API key as `Authorization: Bearer sk-kx-...`.")]
    NoKey,
    #[error("This API key is not known. Check that it was copied whole.")]
    UnknownKey,
    #[error("This API key has been revoked.")]
    RevokedKey,
    #[error("This API key has expired.")]
    ExpiredKey,
    #[error("This account is suspended.")]
    Suspended,
    #[error("The database does not answer right now. Try again in a moment.")]
    StoreUnavailable(#[source] StoreError),
    #[error("The quota store does not answer right now. Try again in a moment.")]
    CountersUnavailable(#[source] CountersError),
    #[error("Something went wrong on our side.")]
    Internal,
}

/// Status, type, code and parameter.
type Parts = (StatusCode, &'static str, Option<&'static str>, Option<&'static str>);

impl ApiError {
    fn parts(&self) -> Parts {
        let invalid = "invalid_request_error";
        let server = "server_error";
        let bad_key = (StatusCode::UNAUTHORIZED, invalid, Some("invalid_api_key"), None);
        match self {
            Self::NoSuchRoute => (StatusCode::NOT_FOUND, invalid, Some("not_found"), None),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, invalid, Some("method_not_allowed"), None)
            }
            Self::NotBuilt(_) => {
                (StatusCode::NOT_IMPLEMENTED, server, Some("not_implemented"), None)
            }
            Self::NoSuchPlan => {
                (StatusCode::NOT_FOUND, invalid, Some("plan_not_found"), Some("plan_id"))
            }
            Self::BadDay => (StatusCode::BAD_REQUEST, invalid, Some("invalid_value"), Some("day")),
            Self::BodyTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, invalid, Some("body_too_large"), None)
            }
            Self::NoKey => (StatusCode::UNAUTHORIZED, invalid, None, None),
            Self::UnknownKey | Self::RevokedKey | Self::ExpiredKey => bad_key,
            Self::Suspended => {
                (StatusCode::FORBIDDEN, "permission_error", Some("account_suspended"), None)
            }
            Self::StoreUnavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, server, Some("store_unavailable"), None)
            }
            Self::CountersUnavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, server, Some("quota_store_unavailable"), None)
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, server, None, None),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = std::error::Error::source(&self) {
            tracing::warn!(%cause, "a control plane request failed");
        }
        let (status, kind, code, param) = self.parts();
        let error = json!({
            "message": self.to_string(), "type": kind, "code": code, "param": param,
        });
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        let header = match status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer realm=\"knockx\"")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "1")),
            _ => None,
        };
        response.headers_mut().extend(header.map(|(n, v)| (n, HeaderValue::from_static(v))));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::StoreUnavailable(error)
    }
}

impl From<CountersError> for ApiError {
    fn from(error: CountersError) -> Self {
        Self::CountersUnavailable(error)
    }
}
